import json
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from hivewire.exceptions import SerializationError
from hivewire.model.codecs import Codec, normal_content_type
from hivewire.model.serialization import (
    DataclassJsonMessageSerializer,
    MessageSerializer,
    try_get_known_serializers_for_type,
)


@dataclass
class MyMessage:
    text: str


class Whole(MessageSerializer[MyMessage]):
    """Every part that the protocol names."""

    @property
    def data_content_type(self) -> str:
        return "application/json"

    @property
    def type_name(self) -> str:
        return "my_message_v1"

    def serialize(self, message: MyMessage) -> bytes:
        return json.dumps(message.text).encode()

    def deserialize(self, payload: bytes) -> MyMessage:
        return MyMessage(json.loads(payload))


class TwoArguments(MessageSerializer):
    """Seed form: no properties, no argument of the protocol, `deserialize` takes the type name."""

    def serialize(self, message: Any) -> bytes:
        return json.dumps(message.text).encode()

    def deserialize(self, data: bytes, type_name: str) -> Any:
        return type_name, json.loads(data)


def test_a_serializer_of_the_full_protocol_is_taken_as_it_is():
    codec = Codec(Whole())
    assert (codec.type_name, codec.content_type, codec.cls, codec.automatic) == (
        "my_message_v1", "application/json", MyMessage, False
    )  # fmt: skip
    assert codec.decode(codec.encode(MyMessage("a"))) == MyMessage("a")


def test_a_serializer_without_type_name_has_that_of_its_class():
    class Nameless(MessageSerializer[MyMessage]):
        def serialize(self, message: MyMessage) -> bytes:
            return message.text.encode()

        def deserialize(self, data: bytes) -> MyMessage:
            return MyMessage(data.decode())

    codec = Codec(Nameless())
    assert codec.key == ("MyMessage", "application/json")
    assert codec.decode(codec.encode(MyMessage("a"))) == MyMessage("a")


def test_a_serializer_with_a_two_argument_deserialize_gets_the_type_name():
    assert Codec(TwoArguments()).type_name == ""
    assert Codec(TwoArguments(), type_name="Other").decode(b'"a"') == ("Other", "a")


def test_optional_further_arguments_are_left_alone():
    class Lenient(Whole):
        def deserialize(self, payload: bytes, encoding: str = "utf-8") -> MyMessage:
            return MyMessage(json.loads(payload.decode(encoding)))

    assert Codec(Lenient()).decode(b'"a"') == MyMessage("a")


def test_a_class_that_derives_from_nothing_will_do():
    class Structural:
        type_name = "thing"

        def serialize(self, message: Any) -> bytearray:
            return bytearray(b"x")

        def deserialize(self, payload: bytes) -> Any:
            return payload

    codec = Codec(Structural())
    assert (codec.type_name, codec.content_type, codec.cls) == ("thing", "application/json", None)
    assert codec.encode(None) == b"x"
    assert codec.encode(None).__class__ is bytes


@pytest.mark.parametrize(
    ("given", "normal"),
    [
        ("application/json", "application/json"),
        ("Application/JSON; charset=utf-8", "application/json"),
        ("application/x-protobuf", "application/x-protobuf"),
        ("application/protobuf", "application/x-protobuf"),
        ("application/protobuf;proto=a.B", "application/x-protobuf"),
        ("text/plain", "text/plain"),
        ("", "application/json"),
        (None, "application/json"),
    ],
)
def test_content_types_have_one_spelling(given, normal):
    assert normal_content_type(given) == normal


def test_errors_of_a_serializer_become_serialization_errors_that_name_everything():
    class Broken(Whole):
        calls: ClassVar[list[str]] = []

        def serialize(self, message: MyMessage) -> bytes:
            raise KeyError("field1")

        def deserialize(self, payload: bytes) -> MyMessage:
            raise SerializationError("version 2")

    codec = Codec(Broken())
    with pytest.raises(SerializationError, match=r"encode 'my_message_v1' as application/json with Broken: KeyError"):
        codec.encode(MyMessage("a"))
    with pytest.raises(SerializationError, match=r"decode 'my_message_v1' as application/json .*version 2"):
        codec.decode(b"")


@pytest.mark.parametrize("wrong", ["text", None, {"a": 1}, 5])
def test_a_serializer_that_returns_no_bytes_is_refused(wrong):
    class Texty(Whole):
        def serialize(self, message: MyMessage) -> bytes:
            return wrong

    with pytest.raises(SerializationError, match="instead of bytes"):
        Codec(Texty()).encode(MyMessage("a"))


def test_a_built_in_serializer_is_automatic_only_when_it_was_found():
    assert Codec(try_get_known_serializers_for_type(MyMessage)[0]).automatic
    assert not Codec(DataclassJsonMessageSerializer(MyMessage)).automatic
