"""Messages as JSON."""

import base64
import io
import json
import sys
from pathlib import Path

import pytest

from hivewire.cli.errors import UsageError
from hivewire.cli.messages import (
    JsonPayload,
    JsonPayloadSerializer,
    payload_as_json,
    read_message,
    reply_as_json,
)
from hivewire.model.serialization import UnknownPayload
from hivewire.model.serializer_registry import SerializerRegistry


def test_json_in_the_argument_is_kept_as_it_is_typed() -> None:
    assert read_message(' {"b": 1.0,  "a": "✓"} ') == ('{"b": 1.0,  "a": "✓"}'.encode(), {"b": 1.0, "a": "✓"})


@pytest.mark.parametrize(("typed", "value"), [("null", None), ("true", True), ("-1", -1), ("[]", []), ('""', "")])
def test_every_json_value_will_do(typed: str, value: object) -> None:
    assert read_message(typed)[1] == value


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "message.json").write_text('{"a": 1}\n')
    assert read_message(f"@{tmp_path}/message.json") == (b'{"a": 1}', {"a": 1})


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'"piped"')))
    assert read_message("-")[1] == "piped"


@pytest.mark.parametrize("typed", ["", "{", "hello", "{'a': 1}", "[" * 100_000, "\udcff"])
def test_what_is_not_json_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match="the message is not JSON"):
        read_message(typed)


def test_a_text_without_quotes_gets_a_hint() -> None:
    with pytest.raises(UsageError, match="a text needs double quotes"):
        read_message("hello")


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "message.json").write_bytes(b"\xff\x00")
    with pytest.raises(UsageError, match=r"message\.json is not JSON"):
        read_message(f"@{tmp_path}/message.json")
    with pytest.raises(UsageError, match="Is a directory"):
        read_message(f"@{tmp_path}")


def test_a_payload_is_sent_as_it_is_under_any_type_name() -> None:
    registry = SerializerRegistry()
    registry.add(JsonPayloadSerializer("Task"))
    encoded = registry.encode(JsonPayload(b'{"a":  1}'))
    assert (encoded.type_name, encoded.content_type, encoded.payload) == ("Task", "application/json", b'{"a":  1}')
    reply = registry.decode(b'{"b":  2}', type_name="Task", content_type="application/json")
    assert reply_as_json(reply) == '{"b":  2}'


@pytest.mark.parametrize(
    ("reply", "shown"),
    [
        (None, "null"),
        ("ü", '"ü"'),
        ({"a": [1, 2.5, True]}, '{"a": [1, 2.5, true]}'),
        (UnknownPayload("Greeting", "application/json", b'{"text":"hi"}'), '{"text":"hi"}'),
        (UnknownPayload("Greeting", "application/cloudevents+json", b"{}"), "{}"),
        (UnknownPayload("Greeting", "Application/JSON; charset=utf-8", b"{}"), "{}"),
    ],
)
def test_a_reply_is_shown_as_the_json_it_is(reply: object, shown: str) -> None:
    assert reply_as_json(reply) == shown


@pytest.mark.parametrize(
    ("content_type", "payload"),
    [("application/x-protobuf", b"\x00\xff"), ("application/json", b"no json"), ("application/json", b"\xff")],
)
def test_a_payload_that_is_not_json_is_shown_in_base64(content_type: str, payload: bytes) -> None:
    shown = json.loads(payload_as_json("Task", content_type, payload))
    assert (shown["type"], shown["content_type"]) == ("Task", content_type)
    assert base64.b64decode(shown["base64"]) == payload
