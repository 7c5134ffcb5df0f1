"""The golden vectors of the wire protocol, which implementations in other languages may check themselves against."""

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import (
    CallEnvelope,
    EventEnvelope,
    ReplyEnvelope,
    decode_call,
    decode_event,
    decode_reply,
    encode_call,
    encode_event,
    encode_reply,
)
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import fnv1a32, slot, slot_of_token, token, untoken
from hivewire.nats.topic_filters import TopicFilter, minimal_tails, topic_tokens, topic_type_of

VECTORS = Path(__file__).parents[2] / "vectors"


def vectors(name: str, *kinds: str) -> list[Any]:
    """Return the vectors of a file whose input has one of some kinds, as pytest parameters."""
    rows = json.loads((VECTORS / f"{name}.json").read_text())
    chosen = [row for row in rows if not kinds or any(kind in row["input"] for kind in kinds)]
    assert chosen
    return [pytest.param(row["input"], row["expected"], id=ascii(row["input"])[:60]) for row in chosen]


def event_of(fields: dict[str, Any]) -> EventEnvelope:
    return EventEnvelope(
        topic=TopicId(fields["topic_type"], fields["topic_source"]),
        message_id=fields["message_id"],
        sender=fields["sender"] and AgentId.from_str(fields["sender"]),
        type_name=fields["type_name"],
        content_type=fields["content_type"],
        payload=b64decode(fields["payload_base64"]),
        trace=fields["trace"],
    )


def call_of(fields: dict[str, Any]) -> CallEnvelope:
    own = {"sender", "chain", "payload_base64"}
    return CallEnvelope(
        **{name: value for name, value in fields.items() if name not in own},
        sender=fields["sender"] and AgentId.from_str(fields["sender"]),
        chain=tuple(fields["chain"]),
        payload=b64decode(fields["payload_base64"]),
    )


def reply_of(fields: dict[str, Any]) -> ReplyEnvelope:
    own = {"payload_base64"}
    return ReplyEnvelope(
        **{name: value for name, value in fields.items() if name not in own},
        payload=b64decode(fields["payload_base64"]),
    )


def on_the_wire(headers: dict[str, str], payload: bytes) -> dict[str, Any]:
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return {
        "headers": headers,
        "header_block": "".join(["NATS/1.0\r\n", *lines, "\r\n"]),
        "payload_base64": b64encode(payload).decode(),
    }


@pytest.mark.parametrize(("text", "expected"), vectors("tokens"))
def test_tokens_hashes_and_slots(text: str, expected: dict[str, Any]) -> None:
    encoded = token(text)
    assert encoded == expected["token"]
    assert fnv1a32(encoded.encode()) == expected["fnv1a32"]
    assert slot(text) == slot_of_token(encoded) == expected["slot"]
    assert untoken(encoded) == (None if encoded.startswith("==") else text)


@pytest.mark.parametrize(("given", "expected"), vectors("topics", "topic_type"))
def test_topic_types(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert topic_tokens(given["topic_type"]) == expected["tokens"]
    assert topic_type_of(expected["tokens"]) == (given["topic_type"] if expected["reads_back"] else None)


@pytest.mark.parametrize(("given", "expected"), vectors("topics", "filter"))
def test_topic_filters(given: dict[str, Any], expected: dict[str, Any]) -> None:
    topic_filter = TopicFilter(**given["filter"])
    assert topic_filter.tail() == expected["tail"]
    assert topic_filter.content_id == expected["content_id"]


@pytest.mark.parametrize(("given", "expected"), vectors("topics", "filters"))
def test_sets_of_topic_filters(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert minimal_tails([TopicFilter(**each) for each in given["filters"]]) == expected["minimal_tails"]


@pytest.mark.parametrize(("given", "expected"), vectors("subjects"))
def test_subjects_and_names(given: dict[str, Any], expected: Any) -> None:
    named = getattr(Subjects(given["namespace"]), given["name"])
    assert (named(**given["arguments"]) if "arguments" in given else named) == expected


@pytest.mark.parametrize(("given", "expected"), vectors("envelopes", "event"))
def test_events(given: dict[str, Any], expected: dict[str, Any]) -> None:
    event = event_of(given["event"])
    headers, payload = encode_event(event)
    assert on_the_wire(headers, payload) == expected
    assert decode_event(headers, payload) == event


@pytest.mark.parametrize(("given", "expected"), vectors("envelopes", "call"))
def test_calls(given: dict[str, Any], expected: dict[str, Any]) -> None:
    call = call_of(given["call"])
    headers, payload = encode_call(call)
    assert on_the_wire(headers, payload) == expected
    assert decode_call(headers, payload) == call


@pytest.mark.parametrize(("given", "expected"), vectors("envelopes", "reply"))
def test_replies(given: dict[str, Any], expected: dict[str, Any]) -> None:
    reply = reply_of(given["reply"])
    headers, payload = encode_reply(reply)
    assert on_the_wire(headers, payload) == expected
    assert decode_reply(headers, payload) == reply


@pytest.mark.parametrize(("given", "expected"), vectors("envelopes", "headers"))
def test_events_of_other_producers(given: dict[str, Any], expected: dict[str, Any]) -> None:
    decoded = decode_event(given["headers"], b64decode(given["payload_base64"]))
    assert decoded == event_of(expected["event"])
