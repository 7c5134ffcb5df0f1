"""What may go from the event stream: never what somebody may still have to read."""

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.event_stream import StreamState
from hivewire.nats.positions import ParkedKey, Position, SubscriptionChange
from hivewire.nats.registry import Beginning, TypeRecord, TypeShape
from hivewire.nats.retention import Need, checked_retention, goal_of, needs_of, purge_below

STREAM, OTHER = "2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z"
NOTHING = SubscriptionChange(change=1, filters=())
STATE = StreamState(created=STREAM, first=11, last=100, now=datetime.now(UTC))
CROWDED = replace(STATE, fullness=0.9)


def position(floor: int, *, stream: str = STREAM, **settings: object) -> Position:
    return replace(Position(owner="s1", epoch=1, stream=stream, subscriptions=NOTHING, floor=floor), **settings)


def record(kind: str | None = "sharded", shards: int = 2, *, begins: int | None = 40, **settings: object) -> TypeRecord:
    beginning = None if begins is None else Beginning(sequence=begins, stream=STREAM, subscriptions=NOTHING)
    shape = None if kind is None else TypeShape(kind=kind, shards=shards)  # type: ignore[arg-type]
    return replace(TypeRecord(name="worker", shape=shape, begins=beginning, change=1), **settings)


def lowest(record: TypeRecord, positions: dict[str, Position] | None = None) -> int | None:
    return min((need.sequence for need in needs_of(record, positions or {}, stream=STREAM)), default=None)


def need(sequence: int) -> Need:
    return Need(agent_type="worker", sequence=sequence)


def test_only_what_is_older_than_the_retention_goes() -> None:
    assert goal_of(STATE, 50) == 50
    assert goal_of(STATE, None) == 101
    assert purge_below(STATE, 50, [need(80)]) == 50
    assert purge_below(STATE, 50, []) == 50
    assert purge_below(STATE, 11, []) is None


def test_a_stream_that_is_nearly_full_keeps_only_what_is_needed() -> None:
    assert goal_of(CROWDED, 11) == 101
    assert purge_below(CROWDED, 101, [need(80), need(90)]) == 80
    assert purge_below(CROWDED, 101, []) == 101


@pytest.mark.parametrize("sequence", [1, 11])
def test_nothing_goes_that_is_needed_or_gone_already(sequence: int) -> None:
    assert purge_below(CROWDED, 101, [need(90), need(sequence)]) is None


@given(
    first=st.integers(1, 50),
    length=st.integers(0, 50),
    goal=st.integers(1, 120),
    needs=st.lists(st.integers(1, 120)),
)
def test_a_purge_never_reaches_what_somebody_needs_nor_beyond_the_end(
    first: int, length: int, goal: int, needs: list[int]
) -> None:
    state = replace(STATE, first=first, last=first + length - 1)
    below = purge_below(state, goal, map(need, needs))
    if below is not None:
        assert first < below <= min([goal, state.last + 1, *needs])


def test_each_shard_counts_from_its_position_or_from_where_the_type_begins() -> None:
    assert lowest(record()) == 41
    assert lowest(record(), {"worker.0": position(60)}) == 41
    assert lowest(record(), {"worker.0": position(60), "worker.1": position(70)}) == 61
    assert lowest(record(), {"worker.0": position(60), "worker.1": position(70), "other.1": position(5)}) == 61


def test_a_parked_key_keeps_its_events() -> None:
    parked = {"k": ParkedKey(unfinished=(52,), next=55, subscriptions=NOTHING)}
    assert lowest(record(), {"worker.0": position(60, parked=parked), "worker.1": position(70)}) == 52


def test_a_position_of_another_stream_counts_as_none() -> None:
    assert lowest(record(), {"worker.0": position(3, stream=OTHER), "worker.1": position(70)}) == 41


def test_a_type_that_has_not_begun_in_this_stream_needs_all_of_it() -> None:
    elsewhere = Beginning(sequence=40, stream=OTHER, subscriptions=NOTHING)
    assert lowest(record(begins=None)) == 1
    assert lowest(replace(record(), begins=elsewhere)) == 1


def test_only_instances_that_have_a_position_count() -> None:
    instances = record("instances", 1)
    assert lowest(instances) is None
    assert lowest(instances, {"worker.a=20b": position(60), "worker.k": position(50), "workers.k": position(1)}) == 51
    (hashed,) = needs_of(instances, {"worker.==" + "A" * 52: position(60)}, stream=STREAM)
    assert hashed.scope is None
    assert hashed.sequence == 61


def test_a_type_that_nobody_registered_counts_while_it_has_subscriptions() -> None:
    assert lowest(record(None)) is None
    assert lowest(record(None, added=frozenset({"exact:t"}))) == 41


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_a_retention_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="event_retention"):
        checked_retention(seconds)
    assert checked_retention(math.inf) == math.inf


@pytest.mark.parametrize(
    ("limits", "fullness"),
    [
        ({}, 0.0),
        ({"max_msgs": -1, "max_bytes": -1}, 0.0),
        ({"max_msgs": 20}, 0.5),
        ({"max_msgs": 100, "max_bytes": 1000}, 0.9),
    ],
)
def test_the_fullness_is_that_of_the_nearest_limit(limits: dict[str, int], fullness: float) -> None:
    state = {"messages": 10, "bytes": 900, "first_seq": 0, "last_seq": 0}
    info = {"created": STREAM, "ts": "2026-11-26T00:55:31.405414156Z", "state": state, "config": limits}
    read = StreamState.from_info(info)
    assert (read.fullness, read.crowded) == (fullness, fullness > 0.8)
    assert (read.first, read.last, read.now.year) == (1, 0, 2026)
