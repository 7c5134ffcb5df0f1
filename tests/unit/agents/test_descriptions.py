"""What an agent type's code says about its messages, and how that is written down."""

import dataclasses
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from pydantic import BaseModel, Field

from hivewire import (
    BaseAgent,
    ClosureAgent,
    ClosureContext,
    MessageContext,
    MessageSerializer,
    RoutedAgent,
    event,
    handles,
    message_handler,
    rpc,
)
from hivewire.agents.descriptions import described
from hivewire.model.type_messages import MAX_RECORD_BYTES, HandledMessage, MessageForm, TypeMessages


@dataclass
class Line:
    item: str
    count: int = 1


@dataclass
class Order:
    lines: list[Line]
    note: str | None = None
    picture: bytes = b""


class Receipt(BaseModel):
    total: float = Field(alias="sum")


@dataclass
class Strange:
    what: object


class Shop(RoutedAgent):
    """Sells things.

    More about it.
    """

    @message_handler
    async def on_order(self, message: Order, ctx: MessageContext) -> Receipt | None:
        """Take an order."""
        return None

    @event
    async def on_closing(self, message: str, ctx: MessageContext) -> None: ...

    @rpc
    async def on_count(self, message: int, ctx: MessageContext) -> AsyncIterator[Line]:
        yield Line("tea")

    @rpc
    async def on_text(self, message: str, ctx: MessageContext) -> Any:
        return message

    @rpc
    async def on_protobuf(self, message: StringValue, ctx: MessageContext) -> None: ...

    @rpc
    async def stock(self) -> int:
        return 0


def message(found: TypeMessages, name: str) -> HandledMessage:
    (only,) = [each for each in found.messages if each.form.name == name]
    return only


def test_handlers_tell_messages_replies_and_kinds() -> None:
    found = described("shop", Shop)
    assert found.type == "shop"
    assert found.description == "Sells things."
    assert not found.any_message
    names = ["Order", "RpcCall", "google.protobuf.StringValue", "int", "str"]
    assert [each.form.name for each in found.messages] == names
    order = message(found, "Order")
    assert (order.kind, order.streams, order.any_reply, order.description) == ("any", False, False, "Take an order.")
    assert [reply.name for reply in order.replies] == ["Receipt", "NoneType"]
    count = message(found, "int")
    assert (count.kind, count.streams) == ("rpc", True)
    assert [reply.name for reply in count.replies] == ["Line"]
    # One handler takes events, another one direct messages.
    assert (message(found, "str").kind, message(found, "str").any_reply) == ("any", True)
    call = message(found, "RpcCall").form.schema
    assert call is not None
    assert call["properties"]["method"] == {"enum": ["stock"]}


def test_schemas_are_those_of_what_is_read_and_written() -> None:
    found = described("shop", Shop)
    schema = message(found, "Order").form.schema
    assert schema is not None
    resolved = schema["$defs"]["Order"] if "$ref" in schema else schema
    assert resolved["required"] == ["lines"]
    assert resolved["properties"]["lines"]["items"] == {"$ref": "#/$defs/Line"}
    receipt = message(found, "Order").replies[0].schema
    assert receipt is not None
    # Fields are written by their names.
    assert list(receipt["properties"]) == ["total"]
    assert message(found, "int").form.schema == {"type": "integer"}
    protobuf = message(found, "google.protobuf.StringValue").form
    assert (protobuf.schema, protobuf.content_type) == (None, "application/x-protobuf")


def test_who_takes_anything_says_so() -> None:
    class Any_(RoutedAgent):
        @message_handler
        async def on_any(self, message: Any, ctx: MessageContext) -> None: ...

    class Unhandled(RoutedAgent):
        async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> Any: ...

    class Own(BaseAgent):
        async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any: ...

    for agent_class in (Any_, Unhandled, Own, None):
        assert described("a", agent_class).any_message

    @handles(Line)
    class Declared(BaseAgent):
        async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any: ...

    found = described("a", Declared)
    assert not found.any_message
    assert message(found, "Line").any_reply


async def test_closures_tell_what_they_take() -> None:
    class Registrar:
        factory: Any = None

        async def register_type(self, type: Any, factory: Any, **_: Any) -> Any:
            self.factory = factory
            return type

    async def double(ctx: ClosureContext, message: int) -> int:
        """Double a number."""
        return 2 * message

    registrar = Registrar()
    await ClosureAgent.register_closure(registrar, "double", double)  # type: ignore[arg-type]
    found = described("double", ClosureAgent, registrar.factory)
    assert [(each.form.name, each.description) for each in found.messages] == [("int", "Double a number.")]


def test_what_has_no_schema_says_why() -> None:
    class Own(MessageSerializer[Line]):
        def serialize(self, message: Line) -> bytes:
            return b""

        def deserialize(self, payload: bytes) -> Line:
            return Line("")

    @handles(Line, Own())
    class Custom(BaseAgent): ...

    Huge = dataclasses.make_dataclass("Huge", [(f"a_field_with_a_long_name_{number}", int) for number in range(400)])

    class Odd(RoutedAgent):
        @message_handler
        async def on_huge(self, message: Huge, ctx: MessageContext) -> Line: ...  # type: ignore[valid-type,empty-body]

        @message_handler
        async def on_order(self, message: complex, ctx: MessageContext) -> None: ...

    (custom,) = described("custom", Custom).messages
    assert (custom.form.schema, custom.form.note) == (None, "There is no JSON schema of it.")
    odd = described("odd", Odd)
    assert "more than 16384 bytes" in message(odd, "Huge").form.note
    assert message(odd, "complex").form.note == "No serializer is known."


def test_what_a_class_breaks_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(BaseAgent):
        @classmethod
        def _handles_types(cls) -> Any:
            raise KeyError("x")

    assert described("broken", Broken).any_message
    assert "broken" in caplog.text


def test_a_record_is_read_as_it_was_written() -> None:
    found = described("shop", Shop)
    assert TypeMessages.from_json(found.to_json()) == found
    assert found.to_json() == described("shop", Shop).to_json()
    with pytest.raises((ValueError, KeyError, TypeError)):
        TypeMessages.from_json(b'{"type": "a", "messages": [{"name": "x"}], "any": false}')


def test_a_record_stays_small() -> None:
    form = MessageForm(name="M", content_type="application/json", schema={"description": "x" * 10_000})
    many = TypeMessages(type="a", messages=tuple(HandledMessage(form=form) for _ in range(100)))
    payload = many.to_json()
    assert len(payload) <= MAX_RECORD_BYTES
    kept = TypeMessages.from_json(payload)
    assert len(kept.messages) == 100
    assert 5 < sum(each.form.schema is not None for each in kept.messages) < 100
    assert "too large together" in "".join(each.form.note for each in kept.messages)

    endless = TypeMessages(
        type="a", messages=tuple(HandledMessage(form=MessageForm(name="x" * 1000, content_type="")) for _ in range(999))
    )
    cut = TypeMessages.from_json(endless.to_json())
    assert 0 < len(cut.messages) < 999
    assert cut.any_message
