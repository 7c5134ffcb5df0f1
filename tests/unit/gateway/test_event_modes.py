"""The content type decides how a request is read, before anything else."""

import json

import pytest

from hivewire_gateway.cloud_events import read_events
from hivewire_gateway.problems import Problem
from unit.gateway.events import BATCH, MINIMAL, STRUCTURED, Headers, read, refused

EVENT = json.dumps(MINIMAL).encode()
CE_HEADERS = [(f"ce-{name}", value) for name, value in MINIMAL.items()]


@pytest.mark.parametrize(
    "content_type",
    [
        STRUCTURED,
        f"{STRUCTURED}; charset=utf-8",
        f"{STRUCTURED};charset=UTF-8",
        f'{STRUCTURED} ; charset="utf-8"',
        f"{STRUCTURED}; profile=x; charset=utf8",
        "Application/CloudEvents+JSON",
    ],
)
def test_structured_mode_is_told_by_the_media_type_in_any_spelling(content_type: str) -> None:
    found = read([("Content-Type", content_type)], EVENT)
    assert found.mode == "structured"
    assert found.events[0].id == "1"


@pytest.mark.parametrize("content_type", [BATCH, f"{BATCH}; charset=utf-8"])
def test_batched_mode_is_told_by_the_media_type(content_type: str) -> None:
    found = read([("content-type", content_type)], b"[" + EVENT + b"," + EVENT + b"]")
    assert (found.mode, len(found.events)) == ("batch", 2)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=latin-1", "image/png", None])
def test_any_other_content_type_with_attributes_in_headers_is_binary_mode(content_type: str | None) -> None:
    headers = CE_HEADERS + ([] if content_type is None else [("content-type", content_type)])
    assert read(headers, b"{}").mode == "binary"


def test_attributes_in_headers_do_not_make_binary_mode_of_a_structured_event() -> None:
    found = read([("content-type", STRUCTURED), *[(name, "other") for name, _ in CE_HEADERS]], EVENT)
    assert found.mode == "structured"
    assert found.events[0].source == "/shop"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/cloudevents",
        "application/cloudevents+avro",
        "application/cloudevents+xml",
        "application/cloudevents-batch",
        "application/cloudevents-batch+protobuf",
        "application/cloudeventsx+json",
        f"{STRUCTURED}; charset=utf-16",
        f"{STRUCTURED}; charset=iso-8859-1",
        f"{STRUCTURED}; charset",
        f"{STRUCTURED}, {STRUCTURED}",
        f'{STRUCTURED}; charset="utf-8',
    ],
)
@pytest.mark.parametrize("headers", [[], CE_HEADERS])
def test_another_event_format_or_charset_is_no_supported_media_type(content_type: str, headers: Headers) -> None:
    refused(415, [*headers, ("content-type", content_type)], EVENT)


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "nonsense", "", None])
def test_what_can_be_no_cloud_event_is_no_supported_media_type(content_type: str | None) -> None:
    headers = [] if content_type is None else [("content-type", content_type)]
    assert "/v1/topics" in refused(415, headers, EVENT)


def test_an_unsupported_media_type_is_told_which_ones_are() -> None:
    with pytest.raises(Problem) as caught:
        read_events([], b"", max_events=1)
    assert caught.value.headers["Accept"] == f"{STRUCTURED}, {BATCH}"


def test_two_content_types_are_refused() -> None:
    refused(400, [("content-type", STRUCTURED), ("Content-Type", "application/json")], EVENT)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"text"', b"null", b"1", b"\xff\xfe", EVENT.decode().encode("utf-16")]
)
def test_a_structured_event_that_is_no_json_object_in_utf8_is_refused(body: bytes) -> None:
    refused(400, [("content-type", STRUCTURED)], body)


def test_an_empty_batch_is_valid() -> None:
    assert read([("content-type", BATCH)], b"[]").events == ()


@pytest.mark.parametrize("body", [b"", b"{}", EVENT, b"null", b"[", EVENT.decode().encode("utf-32")])
def test_a_batch_that_is_no_json_array_in_utf8_is_refused(body: bytes) -> None:
    refused(400, [("content-type", BATCH)], body)


def test_a_batch_with_one_event_that_is_not_valid_is_refused_as_a_whole() -> None:
    with pytest.raises(Problem) as caught:
        read([("content-type", BATCH)], b"[" + EVENT + b', {"id": "2"}]')
    assert caught.value.status == 400
    assert caught.value.members == {"index": 1}
    assert "event 1" in caught.value.detail


def test_a_batch_of_too_many_events_is_too_large() -> None:
    assert len(read([("content-type", BATCH)], b"[" + EVENT + b"," + EVENT + b"]", max_events=2).events) == 2
    refused(413, [("content-type", BATCH)], b"[" + EVENT + b"," + EVENT + b"]", max_events=1)
