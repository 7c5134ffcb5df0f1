"""The golden vectors of what processes share: records, error replies, and who owns which shard."""

import asyncio
import base64
import builtins
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import BytesValue

import hivewire.exceptions
from hivewire.model.ids import AgentId
from hivewire.model.interventions import DropMessage
from hivewire.model.remote_errors import decode_error, encode_error
from hivewire.model.schedule_rules import ScheduleRule, utc_text
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.state_values import decode_state, encode_state
from hivewire.model.topics import TopicId
from hivewire.nats.assignment import assign
from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.envelope import EventEnvelope
from hivewire.nats.positions import (
    ParkedKey,
    Position,
    PositionTracker,
    RunningElsewhere,
    SubscriptionChange,
    Suspect,
)
from hivewire.nats.registry import Beginning, TypeRecord, TypeShape
from hivewire.nats.schedule_records import ScheduleRecord
from hivewire.nats.session import SessionRecord
from hivewire.nats.state_records import StateRecord
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.topic_filters import TopicFilter

VECTORS = Path(__file__).parents[2] / "vectors"
SUBJECTS = Subjects("default")


def vectors(name: str, kind: str) -> list[Any]:
    """Return the vectors of a file whose input has a kind, as pytest parameters."""
    rows = json.loads((VECTORS / f"{name}.json").read_text())
    chosen = [row for row in rows if kind in row["input"]]
    assert chosen
    return [pytest.param(row["input"], row["expected"], id=ascii(row["input"])[:60]) for row in chosen]


def changed(registry: Mapping[str, Any]) -> TypeRecord:
    """Return the record of a type after some changes."""
    record = TypeRecord(name=registry["type"])
    for change, *arguments in registry["changes"]:
        match change, arguments:
            case (("declare" | "join"), (kind, shards, declared)):
                filters = {TopicFilter.parse(text) for text in declared}
                if change == "join":
                    filters |= {TopicFilter.parse(text) for text in record.declared}
                record = replace(record, shape=TypeShape(kind=kind, shards=shards)).declare(filters)
            case "add", (text,):
                record = record.add(TopicFilter.parse(text))
            case "remove", (text,):
                record = record.remove(TopicFilter.parse(text))
            case "marked", (number, sequence, stream):
                begins = Beginning(sequence=sequence, stream=stream, subscriptions=record.subscriptions)
                record = replace(record, marked=number, begins=record.begins or begins)
            case _:
                raise AssertionError(change)
    return record


def tracked(reading: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a shard's position says after some steps of its reading."""
    tracker = PositionTracker(
        Position(
            owner="s1",
            epoch=1,
            stream="S",
            subscriptions=SubscriptionChange.from_json(reading["subscriptions"]),
            floor=reading["floor"],
            finished=tuple((first, last) for first, last in reading["finished"]),
        )
    )
    handled = []
    for step, sequence, *change in reading["steps"]:
        match step:
            case "read":
                handled += [sequence] if tracker.read(sequence) else []
            case "finish":
                tracker.finish(sequence)
            case "skip":
                tracker.skip_to(sequence)
            case "marker":
                tracker.read_marker(sequence, SubscriptionChange.from_json(change[0]))
    return {
        "handled": handled,
        "floor": tracker.floor,
        "finished": [list(each) for each in tracker.finished_above_floor],
        "subscriptions": tracker.in_force_at_floor.to_json(),
        "in_force": tracker.in_force.to_json(),
    }


@pytest.mark.parametrize(("given", "expected"), vectors("records", "registry"))
def test_registry_records(given: dict[str, Any], expected: dict[str, Any]) -> None:
    record = changed(given["registry"])

    assert record.to_json().decode() == expected["record"]
    assert TypeRecord.from_json(expected["record"].encode()) == record
    assert f"{type_token(record.name)}.type" == expected["key"]


@pytest.mark.parametrize(("given", "expected"), vectors("records", "session"))
def test_session_records(given: dict[str, Any], expected: dict[str, Any]) -> None:
    fields = given["session"]
    record = SessionRecord(**{**fields, "types": tuple(fields["types"])})

    assert record.to_json().decode() == expected["record"]
    assert SessionRecord.from_json(expected["record"].encode()) == record
    assert SUBJECTS.lease_key(record.deployment, record.session) == expected["key"]


@pytest.mark.parametrize(("given", "expected"), vectors("records", "position"))
def test_position_records(given: dict[str, Any], expected: dict[str, Any]) -> None:
    fields = given["position"]
    position = Position(
        owner=fields["owner"],
        epoch=fields["epoch"],
        stream=fields["stream"],
        subscriptions=SubscriptionChange.from_json(fields["subscriptions"]),
        floor=fields["floor"],
        finished=tuple((first, last) for first, last in fields["finished"]),
        running={
            key: RunningElsewhere(deployment, session, tuple(sequences))
            for key, (deployment, session, sequences) in fields["running"].items()
        },
        parked={
            key: ParkedKey(
                unfinished=tuple(parked["unfinished"]),
                next=parked["next"],
                subscriptions=SubscriptionChange.from_json(parked["subscriptions"]),
            )
            for key, parked in fields["parked"].items()
        },
        unclean=fields["unclean"],
        started=fields["started"],
        suspect=fields["suspect"] and Suspect(*fields["suspect"]),
        lag=fields["lag"],
    )

    assert position.to_json().decode() == expected["record"]
    assert position.claimed_by("s2").to_json().decode() == expected["claimed_by_s2"]
    assert Position.from_json(expected["record"].encode()) == position
    assert SUBJECTS.position_key(fields["type"], fields["name"]) == expected["key"]


@pytest.mark.parametrize(("given", "expected"), vectors("records", "tracker"))
def test_the_reading_of_a_shard(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert tracked(given["tracker"]) == expected


@pytest.mark.parametrize(("given", "expected"), vectors("records", "state"))
def test_state_records(given: dict[str, Any], expected: dict[str, Any]) -> None:
    fields = given["state"]
    serializers = SerializerRegistry()
    for cls in (Item, BytesValue):
        serializers.learn(cls)
    state = revived(fields["state"])
    record = StateRecord(
        **{**fields, "agent": AgentId.from_str(fields["agent"])} | {"state": state and encode_state(state, serializers)}
    )

    assert record.to_json().decode() == expected["record"]
    assert StateRecord.from_json(expected["record"].encode()) == record
    assert record.state is None or decode_state(record.state, serializers) == state
    assert SUBJECTS.state_key(record.agent.type, record.agent.key) == expected["key"]


@pytest.mark.parametrize(("given", "expected"), vectors("records", "dead"))
def test_dead_letters(given: dict[str, Any], expected: dict[str, Any]) -> None:
    fields = given["dead"]
    payload = base64.b64decode(fields["payload_base64"])
    members = {name: value for name, value in fields.items() if name != "payload_base64"}
    letter = DeadLetter(**{**members, "agent": AgentId.from_str(fields["agent"])}, payload=payload)

    assert letter.encode() == expected["headers"]
    assert DeadLetter.decode(expected["headers"], payload) == letter
    assert letter.replay() == expected["replay"]
    assert SUBJECTS.dead(letter.agent.type, letter.agent.key, letter.sequence) == expected["subject"]


@pytest.mark.parametrize(("given", "expected"), vectors("records", "error"))
def test_error_replies(given: dict[str, Any], expected: dict[str, Any]) -> None:
    fields = given["error"]
    raised = exception_class(fields["class"])(*fields["args"])
    vars(raised).update(fields["fields"])
    for note in fields["notes"]:
        raised.add_note(note)

    assert json.loads(encode_error(raised, agent=fields["agent"])) == expected["payload"]


@pytest.mark.parametrize(("given", "expected"), vectors("records", "payload"))
def test_rebuilt_errors(given: dict[str, Any], expected: dict[str, Any]) -> None:
    error = decode_error(json.dumps(given["payload"]).encode())
    rebuilt = expected["rebuilt"]

    assert f"{type(error).__module__}.{type(error).__qualname__}" == rebuilt["class"]
    if "args" in rebuilt:
        assert list(error.args) == rebuilt["args"]
    if "args_text" in rebuilt:
        assert repr(error.args) == rebuilt["args_text"]
    assert getattr(error, "__notes__", []) == rebuilt.get("notes", [])
    assert {name: getattr(error, name) for name in rebuilt.get("fields", {})} == rebuilt.get("fields", {})


@pytest.mark.parametrize(("given", "expected"), vectors("assignment", "shard"))
def test_scores(given: dict[str, Any], expected: dict[str, Any]) -> None:
    text = f"{given['type']}/{given['shard']}/{given['session']}"

    assert blake2b(text.encode(), digest_size=8).hexdigest() == expected["score"]


@pytest.mark.parametrize(("given", "expected"), vectors("assignment", "shards"))
def test_owners_of_shards(given: dict[str, Any], expected: dict[str, Any]) -> None:
    owners = assign(given["type"], given["shards"], given["sessions"])

    assert [owners.get(shard) for shard in range(given["shards"])] == expected["owners"]
    assert owners == dealt_by_the_document(given["type"], given["shards"], given["sessions"])


def dealt_by_the_document(agent_type: str, shards: int, sessions: list[str]) -> dict[int, str]:
    """Assign shards as docs/protocol.md describes it."""
    if not sessions:
        return {}
    room = dict.fromkeys(sessions, (shards + len(sessions) - 1) // len(sessions))
    pairs = [
        (blake2b(f"{agent_type}/{shard}/{session}".encode(), digest_size=8).digest(), shard, session)
        for shard in range(shards)
        for session in sessions
    ]
    owners: dict[int, str] = {}
    for _, shard, session in sorted(pairs, reverse=True):
        if shard not in owners and room[session]:
            owners[shard] = session
            room[session] -= 1
    return owners


@dataclass
class Item:
    """What the vectors' states hold as an object: `{"Item": <name>}`."""

    name: str


def revived(state: Any) -> Any:
    if isinstance(state, list):
        return [revived(each) for each in state]
    if not isinstance(state, dict):
        return state
    if state.keys() == {"Item"}:
        return Item(state["Item"])
    if state.keys() == {"BytesValue"}:
        return BytesValue(value=base64.b64decode(state["BytesValue"]))
    return {name: revived(each) for name, each in state.items()}


def exception_class(path: str) -> type[BaseException]:
    module, _, name = path.rpartition(".")
    if name == "DropMessage":
        return DropMessage
    if name == "CancelledError":
        return asyncio.CancelledError
    cls = getattr(builtins if module == "builtins" else hivewire.exceptions, name)
    assert isinstance(cls, type) and issubclass(cls, BaseException)
    return cls


@pytest.mark.parametrize(("given", "expected"), vectors("records", "schedule"))
def test_a_schedule_is_stored_and_fires_as_the_protocol_says(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert _stored_and_fired(given["schedule"]) == expected


def _stored_and_fired(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a timer, its firing when that has a sequence, and the timer that is set when it is a certain time."""
    topic = given.get("topic")
    target = AgentId.from_str(given["agent"]) if topic is None else TopicId(topic["type"], topic["source"])
    event = EventEnvelope(
        topic=TopicId(target.type, target.key) if isinstance(target, AgentId) else target,
        message_id=given["id"],
        sender=None if given["sender"] is None else AgentId.from_str(given["sender"]),
        type_name=given["type"],
        payload=b"{}",
        direct=isinstance(target, AgentId),
    )
    due = datetime.fromisoformat(given["due"])
    record = ScheduleRecord.of(given["id"], target, ScheduleRule.from_json(given["rule"]), due, event)
    timer = record.timer(SUBJECTS)
    assert ScheduleRecord.decode(timer, b"{}") == record
    subject, headers = record.firing(SUBJECTS, given["sequence"])
    following = record.next(datetime.fromisoformat(given["now"]))
    return {
        "subject": SUBJECTS.schedule(record.id),
        "timer": timer,
        "forwarded": {"subject": subject, "headers": headers},
        "next": None if following is None else utc_text(following.due),
    }
