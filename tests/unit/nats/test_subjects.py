from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.subjects import Subjects, check_shards, process_type, shard_of, type_of_token, type_token
from hivewire.nats.tokens import slot, token
from hivewire.nats.topic_filters import topic_tokens

SHARD_COUNTS = [1, 2, 4, 8, 16, 32, 64, 128, 256]

subjects = Subjects("default")
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=150)
agent_types = st.text(alphabet="aZ9_-.é", min_size=1, max_size=150)


def covers(pattern: str, subject: str) -> bool:
    """Tell whether a NATS subject pattern takes a subject."""
    patterns, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(patterns):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(patterns) == len(tokens)


@pytest.mark.parametrize("namespace", ["default", "a", "0", "team-a_1", "x" * 63])
def test_a_namespace_is_lower_case_letters_digits_dash_and_underscore(namespace: str) -> None:
    assert Subjects(namespace).cancels == f"{namespace}.cancel.*"


@pytest.mark.parametrize("namespace", ["", "A", "-a", "_a", "a.b", "a b", "x" * 64, "é", "a\n", "$SYS"])
def test_another_namespace_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="is not a namespace"):
        Subjects(namespace)


@given(agent_types, texts)
def test_the_subject_of_a_direct_message_tells_its_recipient(agent_type: str, key: str) -> None:
    parsed = subjects.parse_rpc(subjects.rpc(agent_type, key))
    assert parsed == (token(agent_type), token(key), slot(key))
    assert subjects.parse_inbox(subjects.inbox(agent_type, key)) == parsed


@given(texts, texts)
def test_the_subject_of_a_stored_event_tells_source_and_topic_type(source: str, topic_type: str) -> None:
    parsed = subjects.parse_stored_event(subjects.stored_event(source, topic_type))
    assert parsed == (slot(source), token(source), topic_tokens(topic_type))


@pytest.mark.parametrize("shards", SHARD_COUNTS)
@given(texts)
def test_every_key_is_in_the_wildcards_of_its_shard_and_of_no_other(shards: int, key: str) -> None:
    of_key = shard_of(slot(key), shards)
    families: list[tuple[str, Callable[[int], list[str]]]] = [
        (subjects.rpc("w", key), lambda shard: subjects.rpc_shard("w", shard, shards)),
        (subjects.inbox("w", key), lambda shard: subjects.inbox_filters("w", shard, shards)),
        (subjects.stored_event(key, "a.b"), lambda shard: subjects.stored_event_filters(["a.>"], shard, shards)),
    ]
    for subject, patterns in families:
        for shard in {of_key, (of_key + 1) % shards, (of_key + shards // 2) % shards}:
            taken = [pattern for pattern in patterns(shard) if covers(pattern, subject)]
            assert len(taken) == (1 if shard == of_key else 0)


@pytest.mark.parametrize("shards", SHARD_COUNTS)
def test_the_shards_of_a_type_have_each_slot_once(shards: int) -> None:
    filters = [pattern for shard in range(shards) for pattern in subjects.inbox_filters("w", shard, shards)]
    for each in range(256):
        assert sum(covers(pattern, f"default.inbox.w.{each % 16}.{each}.k") for pattern in filters) == 1


def test_a_shard_of_16_is_one_wildcard() -> None:
    assert subjects.rpc_shard("w", 3, 16) == ["default.rpc.w.3.>"]
    assert subjects.inbox_filters("w", 3, 16) == ["default.inbox.w.3.*.*"]
    assert subjects.stored_event_filters(["a.>", "b"], 3, 16) == ["default.events.3.*.*.a.>", "default.events.3.*.*.b"]


def test_other_shard_counts_take_the_wildcards_that_make_them_up() -> None:
    assert subjects.rpc_shard("w", 0, 1) == ["default.rpc.w.>"] == [subjects.rpc_type("w")]
    assert subjects.rpc_shard("w", 1, 4) == [f"default.rpc.w.{group}.>" for group in (1, 5, 9, 13)]
    assert subjects.rpc_shard("w", 35, 64) == [f"default.rpc.w.3.{each}.>" for each in (35, 99, 163, 227)]
    assert subjects.rpc_shard("w", 255, 256) == ["default.rpc.w.15.255.>"]
    assert subjects.stored_event_filters([">"], 0, 1) == ["default.events.*.*.*.>"]


def test_the_filters_of_one_source_name_its_slot() -> None:
    assert subjects.stored_event_filters_of_source(["a.>", "b"], "k1") == [
        "default.events.1.193.k1.a.>",
        "default.events.1.193.k1.b",
    ]


@pytest.mark.parametrize("shards", [0, -1, 3, 24, 257, 512])
def test_a_shard_count_that_is_no_power_of_two_up_to_256_is_refused(shards: int) -> None:
    with pytest.raises(ValueError, match="a power of two from 1 to 256"):
        check_shards(shards)
    with pytest.raises(ValueError, match="a power of two from 1 to 256"):
        subjects.rpc_shard("w", 0, shards)


@pytest.mark.parametrize(("shard", "shards"), [(-1, 16), (16, 16), (1, 1), (256, 256)])
def test_a_shard_out_of_range_is_refused(shard: int, shards: int) -> None:
    with pytest.raises(ValueError, match="there is no shard"):
        subjects.rpc_shard("w", shard, shards)


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "default.rpc.w.1.193",
        "default.rpc.w.1.193.k1.x",
        "other.rpc.w.1.193.k1",
        "default.inbox.w.1.193.k1",
        "default.rpc.w.2.193.k1",
        "default.rpc.w.1.17.k1",
        "default.rpc.w.1.0193.k1",
        "default.rpc.w.one.slot.k1",
        "default.rpc.w.1.193.é",
    ],
)
def test_a_subject_of_another_form_or_with_a_wrong_slot_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match=r"is not the subject|carries the slot"):
        subjects.parse_rpc(subject)


@pytest.mark.parametrize(
    "subject",
    ["default.events.1.193.k1", "default.events.1.193.k1.", "default.event.1.193.k1.a", "default.events.1.194.k1.a"],
)
def test_a_subject_of_no_stored_event_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match=r"is not the subject|carries the slot"):
        subjects.parse_stored_event(subject)


@given(texts, agent_types)
def test_a_type_that_ends_with_its_process_has_a_token_of_its_own(deployment: str, agent_type: str) -> None:
    name = process_type(deployment, agent_type)
    assert type_token(name) == f"~{token(deployment)}~{token(agent_type)}"
    hashed = "==" in type_token(name)
    assert type_of_token(type_token(name)) == (None if hashed else name)
    assert subjects.parse_rpc(subjects.rpc(name, "k1")).type_token == type_token(name)


@given(agent_types)
def test_an_agent_type_is_read_back_from_its_token(agent_type: str) -> None:
    assert type_of_token(type_token(agent_type)) == (None if "==" in type_token(agent_type) else agent_type)


def test_names_that_are_not_slotted() -> None:
    assert subjects.cancel("c1") == "default.cancel.c1"
    assert subjects.pod("web.1", "s1") == "default.pod.web=2E1.s1"
    assert subjects.wake("w") == "default.wake.w"
    assert subjects.event("k 1", "worker:x") == "default.event.k=201.worker=3A.x"
    assert subjects.marker("w") == "default.marker.w"
    assert subjects.schedule("s1") == "default.schedule.s1"
    assert subjects.due("s1") == "default.due.s1"
    assert subjects.chunk("c1") == "default.chunk.c1"
    assert subjects.dead("w", "k.1", 17) == "default.dead.w.k=2E1.17"
    assert subjects.dead_of("w") == "default.dead.w.*.*"
    assert subjects.dead_of("w", "k.1") == "default.dead.w.k=2E1.*"


def test_streams_buckets_and_consumers_of_a_namespace() -> None:
    names = Subjects("team-a")
    assert names.events_stream == "TEAM-A_EVENTS"
    assert names.schedules_stream == "TEAM-A_SCHEDULES"
    assert names.dead_stream == "TEAM-A_DEAD"
    assert names.chunks_stream == "TEAM-A_CHUNKS"
    assert names.state_bucket == "team-a_state"
    assert names.registry_bucket == "team-a_registry"
    assert names.leases_bucket == "team-a_leases"
    assert names.positions_bucket == "team-a_positions"
    assert names.consumer_of("my.type") == "my=2Etype"
    assert names.state_key("w", "k.1") == "w.k=2E1"
    assert names.lease_key("web", "s1") == "web.s1"
    assert names.position_key("w", 3) == "w.3"
    assert names.bucket_subject(names.state_bucket, "w.k1") == "$KV.team-a_state.w.k1"


def test_a_lone_surrogate_in_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        subjects.rpc("w", "\ud800")
