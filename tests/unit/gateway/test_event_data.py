"""Data arrives as the bytes that were meant, under a name that agents know."""

import json
from base64 import b64encode
from typing import Any

import pytest

from unit.gateway.events import (
    MINIMAL,
    STRUCTURED,
    binary,
    read,
    refused,
    refused_binary,
    refused_structured,
    structured,
)

VALUES = [
    ({"a": [1, None]}, "dict"),
    ([1, 2], "list"),
    ("text", "str"),
    (1, "int"),
    (1.5, "float"),
    (True, "bool"),
    (None, "NoneType"),
]


@pytest.mark.parametrize(("value", "name"), VALUES)
def test_json_without_a_schema_has_the_type_of_its_value(value: Any, name: str) -> None:
    for event in (structured(data=value), binary(json.dumps(value).encode(), "application/json")):
        assert (event.type_name, event.data.content_type) == (name, "application/json")
        assert json.loads(event.data.payload) == value


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "text/json", "application/vnd.x+json", "A/JSON"]
)
def test_json_is_told_by_the_subtype(content_type: str) -> None:
    for event in (structured(data={}, datacontenttype=content_type), binary(b"{}", content_type)):
        assert (event.type_name, event.data.content_type, event.data.payload) == ("dict", content_type, b"{}")


def test_a_schema_names_the_type() -> None:
    for event in (structured(data={}, dataschema="Order"), binary(b"{}", "application/json", dataschema="Order")):
        assert event.type_name == "Order"
        assert event.attributes == {}


def test_data_that_is_not_json_has_no_type_of_its_own() -> None:
    for event in (
        structured(data="<x/>", datacontenttype="application/xml"),
        binary(b"<x/>", "application/xml"),
        structured(data_base64=b64encode(b"<x/>").decode(), datacontenttype="application/xml"),
    ):
        assert (event.type_name, event.data.content_type, event.data.payload) == ("", "application/xml", b"<x/>")


def test_a_string_in_json_stays_a_json_string() -> None:
    assert structured(data='{"a":1}').data.payload == b'"{\\"a\\":1}"'


def test_bytes_stay_as_they_are() -> None:
    payload = bytes(range(256))
    assert binary(payload, "application/octet-stream").data.payload == payload
    event = structured(data_base64=b64encode(payload).decode(), datacontenttype="image/png")
    assert event.data.payload == payload


def test_json_in_binary_mode_stays_as_it_is() -> None:
    payload = b' {"a":  1.000, "b": 1e30 }\n'
    assert binary(payload, "application/json").data.payload == payload


@pytest.mark.parametrize("data", ["ä€😀", {"k€": ["\u2028"]}])
def test_any_text_comes_through(data: Any) -> None:
    assert json.loads(structured(data=data).data.payload) == data


@pytest.mark.parametrize("body", [b"{", b"{}x", b"\xff", b"\xef\xbb\xbf{}", "{}".encode("utf-16")])
def test_data_that_is_no_json_although_its_type_says_so_is_refused(body: bytes) -> None:
    refused_binary(400, body, "application/json")
    refused_structured(data_base64=b64encode(body).decode(), datacontenttype="application/json")


def test_json_in_another_charset_is_refused() -> None:
    refused_binary(415, b"{}", "application/json; charset=utf-16")


def test_text_in_another_charset_is_passed_on_as_bytes_only() -> None:
    assert binary(b"\xe4", "text/plain; charset=latin-1").data.payload == b"\xe4"
    assert "data_base64" in refused_structured(data="ä", datacontenttype="text/plain; charset=latin-1")


@pytest.mark.parametrize("content_type", ["nonsense", "a/b/c", ""])
def test_a_content_type_that_is_no_media_type_is_not_supported(content_type: str) -> None:
    refused_binary(415, b"{}", content_type)


def test_without_a_content_type_data_is_json_if_it_can_be() -> None:
    for json_event in (binary(b'{"a":1}'), structured(data_base64=b64encode(b'{"a":1}').decode())):
        assert (json_event.data.content_type, json_event.type_name) == ("application/json", "dict")
    for other in (binary(b"\x00\x01"), structured(data_base64=b64encode(b"\x00\x01").decode())):
        assert (other.data.content_type, other.type_name) == ("application/octet-stream", "")


def test_an_event_without_data_is_the_value_none() -> None:
    for event in (
        structured(),
        structured(data_base64=None),
        structured(data_base64=""),
        binary(),
        binary(b"", "a/json"),
    ):
        assert (event.data.payload, event.type_name) == (b"null", "NoneType")


def test_no_data_of_another_type_than_json_is_no_bytes() -> None:
    for event in (structured(datacontenttype="text/plain"), binary(b"", "text/plain")):
        assert (event.data.payload, event.data.content_type, event.type_name) == (b"", "text/plain", "")


def test_data_and_data_base64_exclude_each_other() -> None:
    assert "both" in refused_structured(data="x", data_base64="eA==")
    assert "both" in refused_structured(data=None, data_base64="eA==")
    assert structured(data="x", data_base64=None).data.payload == b'"x"'


@pytest.mark.parametrize("value", [1, {}, [], True, "x", "####", "eA==\n", "eA", "ä", "e-A="])
def test_data_base64_that_is_not_base64_is_refused(value: Any) -> None:
    assert "base64" in refused_structured(data_base64=value)


@pytest.mark.parametrize("value", [1, {}, [], None, True])
def test_data_that_is_not_json_is_a_string(value: Any) -> None:
    assert "string" in refused_structured(data=value, datacontenttype="text/plain")


def test_text_with_a_lone_surrogate_is_refused() -> None:
    assert "surrogate" in refused_structured(data="\ud800", datacontenttype="text/plain")


def test_a_number_that_python_can_not_hold_is_refused() -> None:
    for number in (b"1e400", b"-1e400"):
        body = json.dumps(MINIMAL).encode()[:-1] + b', "data": ' + number + b"}"
        assert "number" in refused(400, [("content-type", STRUCTURED)], body)


def test_deeply_nested_data_is_refused_or_read() -> None:
    for depth in (50, 100_000):
        body = json.dumps(MINIMAL).encode()[:-1] + b', "data": ' + b"[" * depth + b"]" * depth + b"}"
        if depth == 50:
            assert read([("content-type", STRUCTURED)], body).events[0].type_name == "list"
        else:
            refused(400, [("content-type", STRUCTURED)], body)
