import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.exceptions import UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import (
    CallEnvelope,
    EnvelopeError,
    EventEnvelope,
    ReplyEnvelope,
    call_id_of,
    decode_call,
    decode_event,
    decode_reply,
    deduplication_id,
    encode_call,
    encode_event,
    encode_reply,
)

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
topic_types = st.text(alphabet="aé9_-.:=", min_size=1, max_size=20)
agent_types = st.text(alphabet="aé9_-.", min_size=1, max_size=20)
agent_ids = st.builds(AgentId, agent_types, texts)
traces = st.sampled_from([{}, {"traceparent": TRACEPARENT}, {"traceparent": TRACEPARENT, "tracestate": "a=1"}])
content_types = st.sampled_from(["application/json", "application/x-protobuf", 'text/plain; charset="utf-8"'])

events = st.builds(
    EventEnvelope,
    topic=st.builds(TopicId, topic_types, texts),
    message_id=texts,
    sender=st.none() | agent_ids,
    type_name=texts,
    content_type=content_types,
    payload=st.binary(max_size=40),
    trace=traces,
)
calls = st.builds(
    CallEnvelope,
    type_name=texts,
    payload=st.binary(max_size=40),
    left_ms=st.integers(0, 10**12),
    content_type=content_types,
    operation=st.sampled_from(["message", "metadata", "save_state", "load_state"]),
    sender=st.none() | agent_ids,
    message_id=st.none() | texts,
    key=st.none() | texts,
    chain=st.lists(texts.filter(bool), max_size=3).map(tuple),
    kept=st.booleans(),
    trace=traces,
)


def wire(headers: dict[str, str]) -> dict[str, str]:
    """Check that headers survive a NATS connection, which strips their values and knows lines only."""
    for name, value in headers.items():
        assert name.isascii()
        assert value.isascii()
        assert value.isprintable()
        assert value == value.strip()
    return headers


@given(events)
def test_an_event_comes_back_as_it_was(event: EventEnvelope) -> None:
    headers, payload = encode_event(event)
    assert decode_event(wire(headers), payload) == event


@given(calls)
def test_a_request_comes_back_as_it_was(call: CallEnvelope) -> None:
    headers, payload = encode_call(call)
    assert decode_call(wire(headers), payload) == call


@given(texts, content_types, st.binary(max_size=40))
def test_a_value_comes_back_as_it_was(type_name: str, content_type: str, payload: bytes) -> None:
    reply = ReplyEnvelope(type_name=type_name, content_type=content_type, payload=payload)
    headers, sent = encode_reply(reply)
    assert decode_reply(wire(headers), sent) == reply


@pytest.mark.parametrize("status", ["error", "alive", "moved", "overloaded"])
def test_a_reply_that_is_no_value_has_a_status_alone(status: Any) -> None:
    reply = ReplyEnvelope(status=status, payload=b"{}" if status == "error" else b"")
    headers, payload = encode_reply(reply)
    assert headers == {"Hw-Status": status}
    assert decode_reply(headers, payload) == reply


def test_an_event_is_a_cloud_event_in_binary_mode() -> None:
    event = EventEnvelope(
        topic=TopicId("task.done", "order 1/2"),
        message_id="m-1",
        sender=AgentId("writer", "ä"),
        type_name="Done",
        payload=b'{"n":1}',
        trace={"traceparent": TRACEPARENT},
    )
    headers, payload = encode_event(event)
    assert payload == b'{"n":1}'
    assert headers == {
        "ce-specversion": "1.0",
        "ce-id": "m-1",
        "ce-type": "task.done",
        "ce-source": "order%201/2",
        "ce-dataschema": "Done",
        "ce-agmsgkind": "publish",
        "ce-agagentsendertype": "writer",
        "ce-agagentsenderkey": "%C3%A4",
        "content-type": "application/json",
        "traceparent": TRACEPARENT,
        "Nats-Msg-Id": deduplication_id(event.topic, "m-1"),
    }


def test_a_plain_request_has_two_headers_and_a_plain_value_one() -> None:
    assert encode_call(CallEnvelope(type_name="Ask", payload=b"{}", left_ms=300_000)) == (
        {"Hw-Type": "Ask", "Hw-Left": "300000"},
        b"{}",
    )
    assert encode_reply(ReplyEnvelope(type_name="NoneType", payload=b"null")) == ({"Hw-Type": "NoneType"}, b"null")


def test_a_request_says_what_differs_from_the_usual() -> None:
    call = CallEnvelope(
        type_name="Ask",
        payload=b"\x00",
        left_ms=1,
        content_type="application/x-protobuf",
        operation="load_state",
        sender=AgentId("writer", "a/b c"),
        message_id="m,1",
        key="k" * 130,
        chain=("t,1", "t2"),
        kept=True,
        trace={"traceparent": TRACEPARENT, "tracestate": "a=1"},
    )
    assert encode_call(call)[0] == {
        "Hw-Type": "Ask",
        "Hw-Left": "1",
        "Hw-Op": "load_state",
        "Hw-Content": "application/x-protobuf",
        "Hw-Sender": "writer/a/b%20c",
        "Hw-Id": "m,1",
        "Hw-Key": "k" * 130,
        "Hw-Chain": "t%2C1,t2",
        "Hw-Stream": "keep",
        "traceparent": TRACEPARENT,
        "tracestate": "a=1",
    }


@given(texts, texts, texts, texts)
def test_deduplication_ids_tell_topics_and_message_ids_apart(a: str, b: str, c: str, d: str) -> None:
    one, other = deduplication_id(TopicId("t", a), b), deduplication_id(TopicId("t", c), d)
    assert (one == other) == ((a, b) == (c, d))
    assert len(one) == 32
    assert int(one, 16) >= 0


def test_header_names_of_events_are_read_in_any_case() -> None:
    headers = {"CE-ID": "1", "Ce-Type": "t", "ce-Source": "s", "Ce-SpecVersion": "1.0", "Content-Type": "text/plain"}
    event = decode_event({**headers, "TraceParent": TRACEPARENT}, b"hi")
    assert event == EventEnvelope(
        topic=TopicId("t", "s"),
        message_id="1",
        type_name="",
        content_type="text/plain",
        payload=b"hi",
        trace={"traceparent": TRACEPARENT},
    )


def test_an_event_of_another_producer_has_no_type_name_no_sender_and_json_by_default() -> None:
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "A%20B",
        "ce-type": "com.example",
        "ce-source": "https://x/%E2%82%AC?q",
    }
    event = decode_event(headers, b"{}")
    assert event.topic == TopicId("com.example", "https://x/€?q")
    assert event.message_id == "A B"
    assert (event.type_name, event.sender, event.content_type) == ("", None, "application/json")


def test_the_content_type_and_trace_of_an_event_may_come_as_attributes() -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s"}
    event = decode_event({**headers, "ce-datacontenttype": "text/csv", "ce-traceparent": TRACEPARENT}, b"")
    assert event.content_type == "text/csv"
    assert event.trace == {"traceparent": TRACEPARENT}


STRUCTURED = {"specversion": "1.0", "id": "1", "type": "t.a", "source": "s", "dataschema": "Done"}


@pytest.mark.parametrize(
    ("data", "content_type", "payload"),
    [
        ({"data": {"n": 1}}, "application/json", b'{"n":1}'),
        ({"data": "text", "datacontenttype": "text/plain"}, "text/plain", b"text"),
        ({"data": "text", "datacontenttype": "application/ld+json"}, "application/ld+json", b'"text"'),
        ({"data": None}, "application/json", b"null"),
        ({"data_base64": "AAE=", "datacontenttype": "application/x-protobuf"}, "application/x-protobuf", b"\0\1"),
        ({}, "application/json", b""),
    ],
)
def test_an_event_in_structured_mode_is_understood(data: dict[str, Any], content_type: str, payload: bytes) -> None:
    event = {**STRUCTURED, "traceparent": TRACEPARENT, "count": 3, "flag": True, "gone": None, **data}
    headers = {"Content-Type": "Application/CloudEvents+JSON; charset=UTF-8"}
    assert decode_event(headers, json.dumps(event).encode()) == EventEnvelope(
        topic=TopicId("t.a", "s"),
        message_id="1",
        type_name="Done",
        content_type=content_type,
        payload=payload,
        trace={"traceparent": TRACEPARENT},
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        json.dumps({**STRUCTURED, "id": ["list"]}).encode(),
        json.dumps({**STRUCTURED, "data_base64": "?"}).encode(),
        json.dumps({**STRUCTURED, "data_base64": 1}).encode(),
        json.dumps({**STRUCTURED, "data": "\ud800", "datacontenttype": "text/plain"}).encode(),
    ],
)
def test_structured_mode_that_is_no_event_is_refused(payload: bytes) -> None:
    with pytest.raises(EnvelopeError, match="CloudEvent"):
        decode_event({"content-type": "application/cloudevents+json"}, payload)


@pytest.mark.parametrize("content_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"])
def test_other_formats_of_structured_mode_are_refused(content_type: str) -> None:
    with pytest.raises(EnvelopeError, match=r"only application/cloudevents\+json is understood"):
        decode_event({"content-type": content_type}, b"{}")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"ce-id": None}, "ce-id missing"),
        ({"ce-type": None, "ce-source": None}, "ce-type, ce-source missing"),
        ({"ce-specversion": "0.3"}, "version '0.3'"),
        ({"ce-type": "no topic type"}, "ce-type can't be a topic type"),
        ({"ce-id": "%FF"}, "not percent-encoded UTF-8"),
        ({"ce-agagentsendertype": "a b", "ce-agagentsenderkey": "k"}, "not an agent id"),
    ],
)
def test_an_event_that_lacks_something_is_refused_by_name(changes: dict[str, str | None], text: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s", **changes}
    with pytest.raises(EnvelopeError, match=text):
        decode_event({name: value for name, value in headers.items() if value is not None}, b"")


def test_a_message_without_headers_is_no_event() -> None:
    with pytest.raises(EnvelopeError, match="ce-specversion, ce-id, ce-type, ce-source missing"):
        decode_event(None, b"")


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (None, "without the headers Hw-Type and Hw-Left"),
        ({}, "without the header Hw-Type"),
        ({"Hw-Type": "A"}, "without the header Hw-Left"),
        ({"Hw-Type": "A", "Hw-Left": "soon"}, "Hw-Left"),
        ({"Hw-Type": "A", "Hw-Left": "-1"}, "Hw-Left"),
        ({"Hw-Type": "A", "Hw-Left": "9" * 5000}, "Hw-Left"),
        ({"Hw-Type": "%FF", "Hw-Left": "1"}, "percent-encoded"),
        ({"Hw-Type": "A", "Hw-Left": "1", "Hw-Op": "format"}, "unknown operation 'format'"),
        ({"Hw-Type": "A", "Hw-Left": "1", "Hw-Stream": "for ever"}, "'for ever' and not 'keep'"),
        ({"Hw-Type": "A", "Hw-Left": "1", "Hw-Sender": "nobody"}, "not type/key"),
        ({"Hw-Type": "A", "Hw-Left": "1", "Hw-Sender": "no%20type/k"}, "not an agent id"),
    ],
)
def test_a_malformed_request_is_refused(headers: dict[str, str] | None, text: str) -> None:
    with pytest.raises(EnvelopeError, match=text):
        decode_call(headers, b"")


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (None, "without headers"),
        ({}, "neither"),
        ({"Status": "503"}, "neither"),
        ({"Hw-Status": "lost"}, "unknown status 'lost'"),
        ({"Hw-Status": "value"}, "neither"),
        ({"Hw-Type": "%FF"}, "percent-encoded"),
    ],
)
def test_a_malformed_reply_is_refused(headers: dict[str, str] | None, text: str) -> None:
    with pytest.raises(EnvelopeError, match=text):
        decode_reply(headers, b"")


CALL = {"Hw-Type": "A", "Hw-Left": "1"}
EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "ce-source": "s"}


@pytest.mark.parametrize("number", ["2", "10", "", "one", "-1", "1.0", "9" * 5000])
def test_a_message_of_another_format_is_refused(number: str) -> None:
    for headers in ({**CALL, "Hw-Format": number}, {"Hw-Format": number}, {"Hw-Format": number, "Hw-New": "1"}):
        with pytest.raises(UnsupportedFormatError, match=r"a request has format .* upgrade this process"):
            decode_call(headers, b"")
    for headers in ({"Hw-Type": "A", "Hw-Format": number}, {"Hw-Status": "new", "Hw-Format": number}):
        with pytest.raises(UnsupportedFormatError, match="a reply has format"):
            decode_reply(headers, b"")
    with pytest.raises(UnsupportedFormatError, match="an event has format"):
        decode_event({**EVENT, "Ce-HwFormat": number}, b"")


def test_an_event_of_a_newer_format_is_refused_in_structured_mode_too() -> None:
    event = {"specversion": "1.0", "id": "1", "type": "t", "source": "s", "hwformat": 2}
    with pytest.raises(UnsupportedFormatError, match="an event has format 2"):
        decode_event({"content-type": "application/cloudevents+json"}, json.dumps(event).encode())


def test_a_message_that_names_the_present_format_is_read_as_one_that_names_none() -> None:
    assert decode_call({**CALL, "Hw-Format": "1"}, b"x") == decode_call(CALL, b"x")
    assert decode_reply({"Hw-Type": "A", "Hw-Format": "1"}, b"x") == decode_reply({"Hw-Type": "A"}, b"x")
    assert decode_event({**EVENT, "ce-hwformat": "1"}, b"x") == decode_event(EVENT, b"x")


@pytest.mark.parametrize("content_type", ["", "a\r\nb: c", " text", "é"])
def test_a_content_type_that_fits_no_header_is_refused(content_type: str) -> None:
    event = EventEnvelope(
        topic=TopicId("t", "s"), message_id="1", type_name="T", content_type=content_type, payload=b""
    )
    with pytest.raises(EnvelopeError, match="content type"):
        encode_event(event)


def test_a_lone_surrogate_is_refused_before_sending() -> None:
    with pytest.raises(EnvelopeError, match="lone surrogate"):
        encode_event(EventEnvelope(topic=TopicId("t", "\udc80"), message_id="1", type_name="T", payload=b""))
    with pytest.raises(EnvelopeError, match="lone surrogate"):
        encode_call(CallEnvelope(type_name="A", payload=b"", left_ms=1, message_id="\udc80"))


def test_the_call_id_is_the_last_token_of_the_reply_subject() -> None:
    assert call_id_of("_INBOX_web.s1.c42") == "c42"
    assert call_id_of("c42") == "c42"
