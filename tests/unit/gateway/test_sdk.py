"""Events of the CloudEvents SDK for Python are understood; what the SDK lets through is refused all the same."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_http_event, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent as SdkEvent
from hypothesis import given
from hypothesis import strategies as st

from hivewire_gateway.cloud_events import CloudEvent
from hivewire_gateway.event_attributes import check_text
from unit.gateway.events import MINIMAL, STRUCTURED, read, refused, refused_structured

WRITERS = [to_binary_event, to_structured_event]


def taken(message: HTTPMessage) -> CloudEvent:
    (event,) = read(list(message.headers.items()), message.body).events
    return event


def is_allowed(text: str) -> bool:
    try:
        check_text(text)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("write", WRITERS)
def test_an_event_of_the_sdk_comes_through(write: Any) -> None:
    attributes = {
        **MINIMAL,
        "subject": 'Euro € 😀 %41 "x"',
        "time": datetime(2018, 4, 5, 17, 31, tzinfo=UTC),
        "datacontenttype": "application/json",
        "dataschema": "Order",
        "ext": "x",
    }
    event = taken(write(SdkEvent(attributes, {"item": "tea"})))
    assert (event.id, event.source, event.type) == ("1", "/shop", "order.placed")
    assert event.attributes == {"subject": attributes["subject"], "time": "2018-04-05T17:31:00Z", "ext": "x"}
    assert (event.type_name, json.loads(event.data.payload)) == ("Order", {"item": "tea"})


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("data", "content_type", "payload"),
    [
        (b"\x00\xff", "image/png", b"\x00\xff"),
        (b"\x00\xff", None, b"\x00\xff"),
        ("<x/>", "application/xml", b"<x/>"),
        (None, None, b"null"),
        ({"a": "ä"}, None, '{"a":"ä"}'),
    ],
)
def test_data_of_the_sdk_comes_through(write: Any, data: Any, content_type: str | None, payload: Any) -> None:
    attributes = {**MINIMAL, **({"datacontenttype": content_type} if content_type else {})}
    found = taken(write(SdkEvent(attributes, data))).data.payload
    assert (json.loads(found) == json.loads(payload)) if isinstance(payload, str) else found == payload


@given(
    st.sampled_from(WRITERS),
    st.text(min_size=1).filter(is_allowed),
    st.dictionaries(st.from_regex(r"x[a-z0-9]{0,9}", fullmatch=True), st.text(min_size=1).filter(is_allowed)),
    st.dictionaries(st.text(), st.integers() | st.text(), max_size=3),
)
def test_any_event_of_the_sdk_comes_through(
    write: Any, event_id: str, extensions: dict[str, str], data: dict[str, Any]
) -> None:
    event = taken(write(SdkEvent({**MINIMAL, "id": event_id, **extensions}, data)))
    assert event.id == event_id
    assert {name: value for name, value in event.attributes.items() if name != "time"} == extensions
    assert json.loads(event.data.payload) == data


def sdk_takes(headers: dict[str, str], body: bytes) -> None:
    """See that the SDK lets something through, so that the test here is about more than it does."""
    from_http_event(HTTPMessage(headers, body))


def test_no_id_is_made_up() -> None:
    event = {name: value for name, value in MINIMAL.items() if name != "id"}
    sdk_takes({"content-type": STRUCTURED}, json.dumps(event).encode())
    assert "id" in refused_structured(id="(missing)")


def test_a_structured_event_in_plain_text_is_none() -> None:
    sdk_takes({"content-type": "text/plain"}, json.dumps(MINIMAL).encode())
    refused(415, [("content-type", "text/plain")], json.dumps(MINIMAL).encode())


def test_bad_json_in_binary_mode_does_not_become_text() -> None:
    headers = {"content-type": "application/json", **{f"ce-{name}": value for name, value in MINIMAL.items()}}
    sdk_takes(headers, b"{")
    refused(400, list(headers.items()), b"{")


def test_an_overlong_encoding_is_refused() -> None:
    headers = {**{f"ce-{name}": value for name, value in MINIMAL.items()}, "ce-ext": "%C0%A0"}
    sdk_takes(headers, b"")
    refused(400, list(headers.items()))


def test_an_object_is_no_extension() -> None:
    sdk_takes({"content-type": STRUCTURED}, json.dumps({**MINIMAL, "ext": {"a": 1}}).encode())
    refused_structured(ext={"a": 1})
