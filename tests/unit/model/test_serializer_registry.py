import json
import sys
import types
from dataclasses import dataclass, make_dataclass
from typing import Any

import pytest
from google.protobuf import struct_pb2, timestamp_pb2
from pydantic import BaseModel

from hivewire.exceptions import SerializationError
from hivewire.model.serialization import (
    DataclassJsonMessageSerializer,
    MessageSerializer,
    UnknownPayload,
    try_get_known_serializers_for_type,
)
from hivewire.model.serializer_registry import Encoded, SerializerRegistry

JSON = "application/json"
PROTOBUF = "application/x-protobuf"


@dataclass
class MyMessage:
    field1: str


@dataclass
class Reply:
    text: str


class ModelReply(BaseModel):
    text: str


class Shouting(MessageSerializer[MyMessage]):
    """A custom serializer without a type name."""

    @property
    def data_content_type(self) -> str:
        return JSON

    def serialize(self, message: MyMessage) -> bytes:
        return json.dumps({"FIELD1": message.field1}).encode()

    def deserialize(self, data: bytes) -> MyMessage:
        return MyMessage(json.loads(data)["FIELD1"])


class Versioned(Shouting):
    """One whose type name is not that of the class."""

    @property
    def type_name(self) -> str:
        return "my_message_v1"


class StringSerializer(MessageSerializer[str]):
    @property
    def type_name(self) -> str:
        return "str"

    def serialize(self, message: str) -> bytes:
        return json.dumps(message.upper()).encode()

    def deserialize(self, payload: bytes) -> str:
        return json.loads(payload)


class Anything(MessageSerializer):
    """The last resort: neither a type name nor a class."""

    def serialize(self, message: Any) -> bytes:
        return json.dumps(vars(message)).encode()

    def deserialize(self, data: bytes, type_name: str) -> Any:
        return {"type": type_name, **json.loads(data.decode())}


def round_trip(registry: SerializerRegistry, message: Any) -> Any:
    return round_trip_into(registry, registry.encode(message))


def round_trip_into(registry: SerializerRegistry, encoded: Encoded) -> Any:
    return registry.decode(encoded.payload, type_name=encoded.type_name, content_type=encoded.content_type)


def handling(*types: Any, serializer: MessageSerializer[Any] | None = None) -> type:
    """An agent class, as far as the registry looks at it."""
    pairs = [(cls, [serializer] if serializer else try_get_known_serializers_for_type(cls)) for cls in types]
    return type("HandlingAgent", (), {"_handles_types": classmethod(lambda cls: pairs)})


@pytest.mark.parametrize(
    "message",
    [
        MyMessage("a"), ModelReply(text="a"), timestamp_pb2.Timestamp(seconds=1),
        "a", 1, 1.5, True, None, {"a": [1]}, [None],
    ],
)  # fmt: skip
def test_row_14_known_classes_register_themselves_when_they_are_first_sent(message):
    back = round_trip(SerializerRegistry(), message)
    assert back == message
    assert type(back) is type(message)


def test_a_message_is_encoded_with_its_type_name_and_content_type():
    registry = SerializerRegistry()
    assert registry.encode(MyMessage("a")) == Encoded("MyMessage", JSON, b'{"field1":"a"}')
    assert registry.encode(None) == Encoded("NoneType", JSON, b"null")
    encoded = registry.encode(struct_pb2.Struct())
    assert (encoded.type_name, encoded.content_type) == ("google.protobuf.Struct", PROTOBUF)


@pytest.mark.parametrize("message", [object(), b"bytes", (1, 2), {1, 2}, MyMessage])
def test_row_14_a_message_without_a_serializer_is_refused_before_it_is_sent(message):
    with pytest.raises(SerializationError, match=type(message).__name__):
        SerializerRegistry().encode(message)


def test_learning_says_whether_there_is_a_serializer():
    registry = SerializerRegistry()
    assert registry.learn(MyMessage)
    assert registry.learn(MyMessage)
    assert not registry.learn(object)


def test_row_15_a_type_name_that_is_not_the_class_name_works_both_ways():
    registry = SerializerRegistry()
    registry.add(Versioned())
    assert registry.encode(MyMessage("a")) == Encoded("my_message_v1", JSON, b'{"FIELD1": "a"}')
    assert round_trip(registry, MyMessage("a")) == MyMessage("a")
    # What a process without that serializer sends is read as well.
    assert registry.decode(b'{"field1":"a"}', type_name="MyMessage", content_type=JSON) == MyMessage("a")


def test_a_serializer_without_a_type_name_is_used_for_its_class():
    registry = SerializerRegistry()
    registry.add(Shouting())
    assert registry.encode(MyMessage("a")) == Encoded("MyMessage", JSON, b'{"FIELD1": "a"}')
    assert round_trip(registry, MyMessage("a")) == MyMessage("a")


def test_a_serializer_that_only_names_a_class_is_used_for_it():
    class Named:
        type_name = "MyMessage"

        def serialize(self, message: Any) -> bytes:
            return message.field1.encode()

        def deserialize(self, payload: bytes) -> Any:
            return MyMessage(payload.decode())

    registry = SerializerRegistry()
    registry.add(Named())
    assert registry.encode(MyMessage("a")).payload == b"a"
    assert round_trip(registry, MyMessage("a")) == MyMessage("a")


def test_an_explicit_serializer_replaces_the_built_in_one_of_str():
    registry = SerializerRegistry()
    assert registry.encode("a").payload == b'"a"'
    registry.add(StringSerializer())
    assert registry.encode("a").payload == b'"A"'
    assert round_trip(registry, "a") == "A"


def test_a_later_explicit_serializer_replaces_an_earlier_one():
    registry = SerializerRegistry()
    registry.add([Shouting(), DataclassJsonMessageSerializer(MyMessage)])
    assert registry.encode(MyMessage("a")).payload == b'{"field1":"a"}'
    registry.add(Shouting())
    assert registry.encode(MyMessage("a")).payload == b'{"FIELD1": "a"}'


def test_an_agent_that_registers_its_types_does_not_replace_an_explicit_serializer():
    registry = SerializerRegistry()
    registry.add(Shouting())
    registry.add(try_get_known_serializers_for_type(MyMessage))
    assert registry.encode(MyMessage("a")).payload == b'{"FIELD1": "a"}'
    encoded = registry.encode(MyMessage("a"))
    preferred = registry.handled_types(handling(MyMessage))
    assert registry.decode(encoded.payload, type_name="MyMessage", content_type=JSON, preferred=preferred) == MyMessage(
        "a"
    )


def test_handled_types_follow_a_serializer_that_is_added_later():
    registry = SerializerRegistry()
    agent_class = handling(str)
    assert registry.handled_types(agent_class) is registry.handled_types(agent_class)
    registry.add(StringSerializer())
    payload = registry.encode("a").payload
    assert registry.decode(
        payload, type_name="str", content_type=JSON, preferred=registry.handled_types(agent_class)
    ) == "A"  # fmt: skip


def test_both_spellings_of_the_protobuf_content_type_mean_the_same():
    class Raw(MessageSerializer[timestamp_pb2.Timestamp]):
        @property
        def data_content_type(self) -> str:
            return "application/protobuf"

        @property
        def type_name(self) -> str:
            return "Timestamp"

        def serialize(self, message: timestamp_pb2.Timestamp) -> bytes:
            return message.SerializeToString()

        def deserialize(self, data: bytes) -> timestamp_pb2.Timestamp:
            return timestamp_pb2.Timestamp.FromString(data)

    registry = SerializerRegistry()
    registry.add(Raw())
    message = timestamp_pb2.Timestamp(seconds=1)
    assert registry.encode(message) == Encoded("Timestamp", PROTOBUF, b"\x08\x01")
    for spelling in ("application/protobuf", "application/x-protobuf"):
        assert registry.decode(b"\x08\x01", type_name="Timestamp", content_type=spelling) == message
    wrapped = SerializerRegistry().encode(message).payload
    for spelling in ("application/protobuf", "application/x-protobuf"):
        decoded = SerializerRegistry().decode(
            wrapped, type_name="google.protobuf.Timestamp", content_type=spelling
        )  # fmt: skip
        assert decoded == message


def test_the_last_resort_takes_what_nothing_else_does():
    class Plain:
        def __init__(self) -> None:
            self.a = 1

    registry = SerializerRegistry()
    registry.add(Anything())
    assert registry.encode(Plain()) == Encoded("Plain", JSON, b'{"a": 1}')
    assert round_trip(registry, Plain()) == {"type": "Plain", "a": 1}
    assert registry.encode(MyMessage("a")).payload == b'{"field1":"a"}'
    with pytest.warns(RuntimeWarning):
        assert registry.decode(b"x", type_name="Plain", content_type=PROTOBUF) == UnknownPayload(
            "Plain", PROTOBUF, b"x"
        )


def test_row_5_undecodable_bytes_are_an_error_that_names_type_and_content_type():
    registry = SerializerRegistry()
    registry.add(Versioned())
    registry.learn(Reply)
    for type_name in ("my_message_v1", "Reply"):
        with pytest.raises(SerializationError, match=f"{type_name}.*{JSON}"):
            registry.decode(b"{", type_name=type_name, content_type=JSON)


def test_an_unknown_payload_is_returned_with_a_warning():
    with pytest.warns(RuntimeWarning, match="'Nobody' as application/json"):
        unknown = SerializerRegistry().decode(b"x", type_name="Nobody", content_type=JSON)
    assert unknown == UnknownPayload("Nobody", JSON, b"x")


def test_json_under_another_name_is_read_as_json_unless_somebody_reads_that_name():
    class Special(MessageSerializer[MyMessage]):
        data_content_type = "application/special+json"

        def serialize(self, message: MyMessage) -> bytes:
            return b""

        def deserialize(self, payload: bytes) -> MyMessage:
            return MyMessage("special")

    registry = SerializerRegistry()
    registry.learn(MyMessage)
    handled = registry.handled_types(handling(MyMessage, dict))
    for content_type in ("application/vnd.x+json", "Application/Special+JSON; v=1", "text/json"):
        assert registry.decode(b"{}", type_name="dict", content_type=content_type) == {}
        for preferred in (None, handled):
            payload = b'{"field1":"a"}'
            assert registry.decode(
                payload, type_name="MyMessage", content_type=content_type, preferred=preferred
            ) == MyMessage("a")
    registry.add(Special())
    assert registry.decode(b"", type_name="MyMessage", content_type="application/special+json") == MyMessage("special")
    with pytest.warns(RuntimeWarning, match="'Nobody' as application/x"):
        unknown = registry.decode(b"{}", type_name="Nobody", content_type="application/x+json")
    assert unknown == UnknownPayload("Nobody", "application/x+json", b"{}")


def test_an_unknown_payload_is_an_error_for_a_strict_registry():
    with pytest.raises(SerializationError, match="'Nobody' as application/json"):
        SerializerRegistry(strict=True).decode(b"x", type_name="Nobody", content_type=JSON)


def namesakes() -> tuple[type, type]:
    first = make_dataclass("Same", [("text", str)], namespace={"__module__": "first_module"})
    second = make_dataclass("Same", [("text", str), ("number", int, 0)], namespace={"__module__": "second_module"})
    return first, second


def test_two_classes_of_one_name_are_warned_about():
    first, second = namesakes()
    registry = SerializerRegistry()
    registry.learn(first)
    with pytest.warns(RuntimeWarning, match=r"first_module\.Same and second_module\.Same"):
        assert registry.learn(second)
    assert registry.learn(second)
    assert registry.encode(first("a")).payload == b'{"text":"a"}'
    assert registry.encode(second("a")).payload == b'{"text":"a","number":0}'
    assert type(registry.decode(b'{"text":"a"}', type_name="Same", content_type=JSON)) is first


def test_the_types_that_the_agent_handles_come_first():
    first, second = namesakes()
    registry = SerializerRegistry()
    registry.learn(first)
    preferred = registry.handled_types(handling(int, second))
    decoded = registry.decode(b'{"text":"a"}', type_name="Same", content_type=JSON, preferred=preferred)
    assert type(decoded) is second
    others = registry.handled_types(handling(int))
    assert type(registry.decode(b'{"text":"a"}', type_name="Same", content_type=JSON, preferred=others)) is first


def test_a_class_that_is_defined_again_takes_the_place_of_its_former_self():
    namespace = {"__module__": "notebook_cell"}
    old = make_dataclass("Cell", [("a", int)], namespace=dict(namespace))
    new = make_dataclass("Cell", [("a", int), ("b", int, 2)], namespace=dict(namespace))
    registry = SerializerRegistry()
    registry.learn(old)
    registry.learn(new)
    assert registry.decode(b'{"a":1}', type_name="Cell", content_type=JSON) == new(1, 2)


def test_an_explicit_serializer_settles_whose_name_it_is_without_a_warning():
    first, second = namesakes()
    registry = SerializerRegistry()
    registry.add(DataclassJsonMessageSerializer(second))
    registry.learn(first)
    assert type(registry.decode(b'{"text":"a"}', type_name="Same", content_type=JSON)) is second


def test_a_serializer_that_the_agent_declares_is_used_for_what_it_handles():
    registry = SerializerRegistry()
    preferred = registry.handled_types(handling(MyMessage, serializer=Shouting()))
    decoded = registry.decode(b'{"FIELD1":"a"}', type_name="MyMessage", content_type=JSON, preferred=preferred)
    assert decoded == MyMessage("a")


def test_agent_classes_without_declared_types_are_no_obstacle():
    def refuse(cls: type) -> None:
        raise SerializationError("no serializer for one of them")

    registry = SerializerRegistry()
    assert registry.handled_types(object) == {}
    assert registry.handled_types(type("Agent", (), {"_handles_types": classmethod(refuse)})) == {}


def test_row_13_a_reply_of_a_class_that_was_never_sent_is_found_where_known_messages_are_defined():
    registry = SerializerRegistry()
    with pytest.warns(RuntimeWarning):
        registry.decode(b'{"text":"a"}', type_name="Reply", content_type=JSON)
    registry.learn(MyMessage)
    assert registry.decode(b'{"text":"a"}', type_name="Reply", content_type=JSON) == Reply("a")
    assert registry.decode(b'{"text":"a"}', type_name="ModelReply", content_type=JSON) == ModelReply(text="a")


@pytest.mark.parametrize("value", ["a", 1, 1.5, True, None, {"a": [1]}, [None]])
def test_row_13_a_plain_value_is_read_by_a_process_that_never_sent_one(value):
    encoded = SerializerRegistry().encode(value)
    assert round_trip_into(SerializerRegistry(strict=True), encoded) == value


def test_row_13_a_reply_class_is_found_in_a_remembered_module_and_nothing_is_imported(monkeypatch):
    registry = SerializerRegistry(strict=True)
    registry.remember_module("replies_of_others")
    with pytest.raises(SerializationError):
        registry.decode(b'{"text":"a"}', type_name="Later", content_type=JSON)
    module = types.ModuleType("replies_of_others")
    module.Later = make_dataclass("Later", [("text", str)])
    monkeypatch.setitem(sys.modules, "replies_of_others", module)
    assert registry.decode(b'{"text":"a"}', type_name="Later", content_type=JSON) == module.Later("a")


def test_row_13_a_name_that_two_modules_define_stays_unknown(monkeypatch):
    registry = SerializerRegistry(strict=True)
    for name, cls in zip(("first_module", "second_module"), namesakes(), strict=True):
        module = types.ModuleType(name)
        module.Same = cls
        monkeypatch.setitem(sys.modules, name, module)
        registry.remember_module(name)
    with pytest.raises(SerializationError):
        registry.decode(b'{"text":"a"}', type_name="Same", content_type=JSON)


@pytest.mark.parametrize("name", ["registry_helper", "BaseModel", "handling", "Any", "JSON", "__name__", "", "a.b"])
def test_names_that_are_no_message_class_stay_unknown(name):
    registry = SerializerRegistry(strict=True)
    registry.learn(MyMessage)
    with pytest.raises(SerializationError):
        registry.decode(b"{}", type_name=name, content_type=JSON)


def test_a_protobuf_reply_is_found_by_its_full_name():
    payload = SerializerRegistry().encode(struct_pb2.Value(string_value="a")).payload
    registry = SerializerRegistry(strict=True)
    decoded = registry.decode(payload, type_name="google.protobuf.Value", content_type=PROTOBUF)
    assert decoded == struct_pb2.Value(string_value="a")
    with pytest.raises(SerializationError):
        registry.decode(payload, type_name="google.protobuf.Nothing", content_type=PROTOBUF)


def test_names_from_outside_leave_nothing_behind():
    registry = SerializerRegistry()
    registry.add(Anything())
    for number in range(100):
        registry.decode(b"{}", type_name=f"Unknown{number}", content_type=JSON)
    assert not [key for key in registry._by_name if key[0].startswith("Unknown")]
