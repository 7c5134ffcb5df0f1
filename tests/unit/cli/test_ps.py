"""What `hivewire ps` makes of a snapshot."""

import io
from typing import Any

from rich.console import Console

from hivewire.cli.ps import Overview, overview_as_json, tables
from hivewire.nats.positions import ParkedKey, Position, RunningElsewhere, SubscriptionChange
from hivewire.nats.registry import TypeRecord, TypeShape
from hivewire.nats.session import SessionRecord
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.snapshot import Shard, Snapshot

NO_SUBSCRIPTIONS = SubscriptionChange(change=1, filters=())


def shard(number: int, owner: str | None, position: Position | None = None) -> Shard:
    scope = ShardScope(agent_type="worker", shard=number, shards=4)
    return Shard(agent_type="worker", name=str(number), owner=owner, scope=scope, position=position)


def session(session: str, instance: str) -> SessionRecord:
    return SessionRecord(session=session, deployment="d", instance=instance, state="serving", types=("worker",))


def position(**fields: Any) -> Position:
    return Position(owner="s1", epoch=1, stream="", subscriptions=NO_SUBSCRIPTIONS, **fields)


def overview(*shards: Shard, sessions: tuple[SessionRecord, ...] = ()) -> Overview:
    record = TypeRecord(
        name="worker",
        shape=TypeShape(kind="sharded", shards=4),
        declared=frozenset({"exact:news", "prefix:task.", "prefix:worker:"}),
    )
    snapshot = Snapshot(types=(record,), sessions=sessions, shards=shards)
    lags = [2 if each.owner is None else 0 for each in shards]
    return Overview("default", snapshot, lags, [sum(lags)])


def shown(overview: Overview) -> list[list[str]]:
    console = Console(file=io.StringIO(), width=200)
    for table in tables(overview):
        console.print(table)
    assert isinstance(console.file, io.StringIO)
    return [line.split() for line in console.file.getvalue().splitlines()]


def test_shards_of_one_owner_share_a_row() -> None:
    lines = shown(
        overview(
            *(shard(number, owner) for number, owner in enumerate(["s1", "s1", None, "s1"])),
            sessions=(session("s1", "pod-a"),),
        )
    )
    assert ["worker", "0-1,", "3", "pod-a", "?", "0"] in lines
    assert ["worker", "2", "nobody", "?", "2"] in lines
    assert ["pod-a", "d", "s1", "serving", "3", "worker"] in lines
    assert ["worker", "sharded", "4", "1", "news,", "task.*", "2"] in lines


def test_a_row_tells_the_lowest_floor_of_its_shards() -> None:
    lines = shown(overview(shard(0, "s1", position(floor=30)), shard(1, "s1", position(floor=20)), shard(2, "s1")))
    assert ["worker", "0-2", "gone", "(s1)", "20", "0"] in lines


def test_a_shard_that_lags_or_has_parked_keys_has_a_row_of_its_own() -> None:
    parked = {"hot": ParkedKey(unfinished=(3,), next=4, subscriptions=NO_SUBSCRIPTIONS)}
    shards = [shard(0, "s1", position(floor=9)), shard(1, "s1", position(floor=5, parked=parked))]
    lines = shown(overview(*shards, shard(2, None), shard(3, None)))
    assert ["SHARDS", "OF", "SHARD", "OWNER", "FLOOR", "LAG", "PARKED", "KEYS"] in lines
    assert ["worker", "0", "gone", "(s1)", "9", "0", "0"] in lines
    assert ["worker", "1", "gone", "(s1)", "5", "0", "1"] in lines
    assert ["worker", "2", "nobody", "?", "2", "0"] in lines and ["worker", "3", "nobody", "?", "2", "0"] in lines


def test_json_has_the_whole_position() -> None:
    running = {"k": RunningElsewhere("d", "s0", (4,))}
    data = overview_as_json(overview(shard(0, "s1", position(floor=3, unclean=1, running=running, lag=7))))
    shown = data["shards"][0]["position"]
    assert (shown["floor"], shown["unclean"], shown["running"], shown["lag"]) == (3, 1, {"k": ["d", "s0", [4]]}, 7)
    assert {"parked", "finished", "started", "suspect", "epoch", "stream", "subscriptions"} <= shown.keys()


def test_an_owner_whose_session_is_gone_is_told() -> None:
    assert ["worker", "0", "gone", "(s9)", "?", "0"] in shown(overview(shard(0, "s9")))


def test_processes_with_one_label_are_told_apart() -> None:
    sessions = (session("s1", "pod"), session("s2", "pod"))
    lines = shown(overview(shard(0, "s1"), shard(1, "s2"), sessions=sessions))
    assert ["worker", "0", "pod", "(s1)", "?", "0"] in lines and ["worker", "1", "pod", "(s2)", "?", "0"] in lines


def test_instances_are_named_by_their_keys() -> None:
    scope = ShardScope(agent_type="worker", key="the key")
    instance = Shard(agent_type="worker", name="the key", owner=None, scope=scope, position=None)
    assert ["worker", "the", "key", "nobody", "?", "2"] in shown(overview(instance))


def test_names_are_neither_markup_nor_control_characters() -> None:
    text = "\n".join(" ".join(line) for line in shown(overview(sessions=(session("s1", "[red]a\x1b[2J[/red]"),))))
    assert "[red]a\\x1b[2J[/red]" in text


def test_a_type_that_has_subscriptions_only_is_shown() -> None:
    snapshot = Snapshot(types=(TypeRecord(name="later"),), sessions=(), shards=())
    lines = shown(Overview("default", snapshot, [], [None]))
    assert ["later", "not", "registered", "0", "?"] in lines


def test_json_has_every_shard() -> None:
    data = overview_as_json(overview(shard(0, "s1"), shard(1, None), sessions=(session("s1", "pod-a"),)))
    assert data["shards"] == [
        {"type": "worker", "shard": "0", "owner": "s1", "instance": "pod-a", "lag": 0, "position": None},
        {"type": "worker", "shard": "1", "owner": None, "instance": None, "lag": 2, "position": None},
    ]
    assert data["types"][0]["subscriptions"] == ["news", "task.*", "worker:*"]
