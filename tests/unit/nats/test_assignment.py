"""Which session owns which shard."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.assignment import assign

agent_types = st.text(min_size=1, max_size=20)
shard_counts = st.sampled_from([1, 2, 4, 8, 16, 64, 256])
session_sets = st.sets(st.text(min_size=1, max_size=16), min_size=1, max_size=24)


@given(agent_types, shard_counts, session_sets)
def test_every_shard_has_one_owner_and_no_session_more_than_its_share(
    agent_type: str, shards: int, sessions: set[str]
) -> None:
    owners = assign(agent_type, shards, sessions)
    assert set(owners) == set(range(shards))
    assert set(owners.values()) <= sessions
    assert max(Counter(owners.values()).values()) <= math.ceil(shards / len(sessions))


@given(agent_types, shard_counts, session_sets, st.randoms(use_true_random=False))
def test_all_processes_reach_the_same_answer(agent_type: str, shards: int, sessions: set[str], random: object) -> None:
    shuffled = list(sessions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assign(agent_type, shards, shuffled) == assign(agent_type, shards, sessions)


def test_the_answer_is_part_of_the_protocol_and_never_changes() -> None:
    owners = assign("worker", 8, ["a", "b", "c"])
    assert "".join(owners[shard] for shard in range(8)) == "abccacbb"


def test_without_sessions_nobody_owns_anything() -> None:
    assert assign("worker", 16, []) == {}


def test_a_lone_session_owns_all() -> None:
    assert assign("worker", 16, ["s"]) == dict.fromkeys(range(16), "s")


@pytest.mark.parametrize("shards", [16, 256])
@pytest.mark.parametrize("sessions", [1, 2, 3, 5, 8])
def test_a_session_that_joins_or_leaves_moves_little_more_than_its_share(shards: int, sessions: int) -> None:
    names = [f"session {number}" for number in range(sessions + 1)]
    moved = []
    for number in range(40):
        before = assign(f"type {number}", shards, names[:-1])
        after = assign(f"type {number}", shards, names)
        changed = [shard for shard in range(shards) if before[shard] != after[shard]]
        assert len([shard for shard in changed if after[shard] != names[-1]]) <= shards / 4
        moved.append(len(changed))
    share = shards / (sessions + 1)
    assert sum(moved) / len(moved) <= 1.5 * share + 1


def test_types_are_spread_differently_so_that_no_session_has_the_first_shard_of_all() -> None:
    owners = {assign(f"type {number}", 1, ["a", "b", "c"])[0] for number in range(30)}
    assert owners == {"a", "b", "c"}


def test_the_returned_assignment_is_the_callers_own() -> None:
    assign("worker", 2, ["a"]).clear()
    assert assign("worker", 2, ["a"]) == {0: "a", 1: "a"}
