"""Whatever comes, it is read as valid events or refused; and what is read means what was sent."""

import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from hivewire_gateway.cloud_events import CloudEvent, read_events
from hivewire_gateway.event_attributes import check_attributes
from hivewire_gateway.media_types import MediaType
from hivewire_gateway.problems import Problem
from hivewire_gateway.trace_context import trace_context
from unit.gateway.events import BATCH, MINIMAL, STRUCTURED, read

NAMES = st.sampled_from([*MINIMAL, "subject", "time", "dataschema", "datacontenttype", "data", "data_base64", "ext"])
CONTENT_TYPES = st.sampled_from(
    [STRUCTURED, BATCH, "application/json", "text/plain", "a/b+json; charset=utf-16", "application/cloudevents", "x"]
)
VALUES = st.sampled_from(["1.0", "x", "/x", "2018-04-05T17:31:00Z", "application/json", "e30=", "%41", "%", '"a"', ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | NAMES, inner, max_size=3),
    max_leaves=8,
)
# What HTTP servers hand on: bytes, decoded as Latin-1.
HEADER_TEXT = VALUES | st.text(st.characters(max_codepoint=255))
HEADERS = st.lists(
    st.tuples(NAMES.map("ce-{}".format) | st.text(st.characters(max_codepoint=127)).map("Ce-{}".format), HEADER_TEXT)
    | st.tuples(st.just("Content-Type"), CONTENT_TYPES | HEADER_TEXT)
    | st.tuples(st.text(st.characters(max_codepoint=127)), HEADER_TEXT),
    max_size=8,
)
MEMBERS = st.dictionaries(NAMES | st.text(max_size=3), JSON | VALUES, max_size=8)
MAYBE_EVENTS = MEMBERS.map(lambda members: {**MINIMAL, **members}) | MEMBERS | JSON
BODIES = st.binary() | (MAYBE_EVENTS | st.lists(MAYBE_EVENTS, max_size=3)).map(lambda value: json.dumps(value).encode())


def check_event(event: CloudEvent) -> None:
    """See that an event is one that could be sent on."""
    schema = {"dataschema": event.data_schema} if event.data_schema else {}
    required = {"specversion": "1.0", "id": event.id, "source": event.source, "type": event.type}
    assert not required.keys() & event.attributes.keys()
    check_attributes({**required, **schema, **event.attributes, "datacontenttype": event.data.content_type})
    assert event.data.content_type.isascii()
    if MediaType.parse(event.data.content_type).is_json:
        json.loads(event.data.payload.decode())
        assert event.type_name


@given(HEADERS, BODIES)
def test_any_request_holds_valid_events_or_is_a_problem(headers: list[tuple[str, str]], body: bytes) -> None:
    try:
        found = read_events(headers, body, max_events=2)
    except Problem as problem:
        assert problem.status in (400, 413, 415)
        problem.response()
    else:
        assert found.mode == "batch" or len(found.events) == 1
        for event in found.events:
            check_event(event)


@given(st.sampled_from([STRUCTURED, BATCH]), MAYBE_EVENTS)
def test_any_json_holds_a_valid_event_or_is_a_problem(content_type: str, value: Any) -> None:
    body = json.dumps([value] if content_type == BATCH else value).encode()
    try:
        found = read_events([("content-type", content_type)], body, max_events=2)
    except Problem as problem:
        assert problem.status in (400, 415)
    else:
        for event in found.events:
            check_event(event)


def is_allowed(text: str) -> bool:
    try:
        check_attributes({**MINIMAL, "ext": text})
    except ValueError:
        return False
    return True


TEXT = st.text().filter(is_allowed)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(TEXT.filter(bool), TEXT, st.dictionaries(st.from_regex(r"x[a-z0-9]{0,9}", fullmatch=True), TEXT, max_size=3))
def test_any_text_means_the_same_in_headers_and_in_json(
    event_id: str, subject: str, extensions: dict[str, str]
) -> None:
    attributes = {**MINIMAL, "id": event_id, "subject": f"{subject}.", **extensions}
    headers = [(f"ce-{name}", quote(value, safe="")) for name, value in attributes.items()]
    (in_headers,) = read(headers).events
    (in_json,) = read([("content-type", STRUCTURED)], json.dumps(attributes).encode()).events
    assert in_headers == in_json
    assert in_headers.id == event_id
    assert in_headers.attributes == {"subject": f"{subject}.", **extensions}


@given(DATA)
def test_any_json_means_the_same_in_either_mode(data: Any) -> None:
    body = json.dumps(data).encode()
    headers = [(f"ce-{name}", value) for name, value in MINIMAL.items()]
    in_binary = read([*headers, ("content-type", "application/json")], body).events[0].data
    members = {**MINIMAL, "data": data}
    in_json = read([("content-type", STRUCTURED)], json.dumps(members).encode()).events[0].data
    assert json.loads(in_binary.payload) == json.loads(in_json.payload) == data
    assert in_binary.value_type == in_json.value_type == type(data).__name__


@given(st.binary(min_size=1))
def test_any_bytes_stay_as_they_are(payload: bytes) -> None:
    headers = [(f"ce-{name}", value) for name, value in MINIMAL.items()]
    in_binary = read([*headers, ("content-type", "image/png")], payload).events[0].data
    members = {**MINIMAL, "datacontenttype": "image/png", "data_base64": b64encode(payload).decode()}
    in_json = read([("content-type", STRUCTURED)], json.dumps(members).encode()).events[0].data
    assert in_binary == in_json
    assert in_binary.payload == payload


@given(st.dictionaries(st.sampled_from(["traceparent", "tracestate"]), st.text()))
def test_a_trace_context_can_always_be_put_into_headers(headers: dict[str, str]) -> None:
    for value in trace_context(headers).values():
        assert value.isascii()
        assert value.isprintable()
