import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from hivewire.agents.base import handles
from hivewire.agents.handlers import event, message_handler, rpc
from hivewire.agents.routed import RoutedAgent
from hivewire.exceptions import CantHandleException, SerializationError
from hivewire.logging import ROOT_LOGGER_NAME
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.serialization import RpcCall
from hivewire.model.topics import TopicId


@dataclass
class Ping:
    text: str


@dataclass
class LoudPing(Ping):
    pass


@dataclass
class Pong:
    text: str


class Opaque:
    pass


RPC = MessageContext(None, None, True, CancellationToken(), "1")
EVENT = MessageContext(None, TopicId("t", "s"), False, CancellationToken(), "1")


class Router(RoutedAgent):
    """Says which of its handlers ran."""

    @message_handler(match=lambda message, ctx: message.text == "b")
    async def b_second(self, message: Ping, ctx: MessageContext) -> str:
        return "b_second"

    @message_handler(match=lambda message, ctx: message.text in "ab")
    async def a_first(self, message: Ping, ctx: MessageContext) -> str:
        return "a_first"

    @event
    async def on_event(self, message: Pong, ctx: MessageContext) -> None:
        self.seen = message

    @rpc
    async def on_rpc(self, message: Pong, ctx: MessageContext) -> str:
        return "on_rpc"


async def test_the_first_handler_in_alphabetical_order_that_matches_is_called() -> None:
    agent = Router()

    assert await agent.on_message(Ping("a"), RPC) == "a_first"
    assert await agent.on_message(Ping("b"), RPC) == "a_first"


async def test_direct_messages_and_events_find_their_own_handlers() -> None:
    agent = Router()

    assert await agent.on_message(Pong("x"), RPC) == "on_rpc"
    assert await agent.on_message(Pong("x"), EVENT) is None
    assert agent.seen == Pong("x")


@pytest.mark.parametrize("message", [Ping("no match"), LoudPing("a"), 3])
async def test_a_message_that_no_handler_takes_is_logged_by_type_only(
    message: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, ROOT_LOGGER_NAME):
        assert await Router().on_message(message, RPC) is None

    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith(f"Unhandled message: {type(message).__name__}")
    assert "no match" not in record.getMessage()


async def test_a_runtime_can_make_unhandled_messages_an_error() -> None:
    agent = Router()
    await agent.bind_id_and_runtime(AgentId("router", "k"), SimpleNamespace(strict_unhandled=True))  # type: ignore[arg-type]

    with pytest.raises(CantHandleException, match=r"Agent router/k \(Router\) has no handler for int"):
        await agent.on_message(3, RPC)


async def test_on_unhandled_message_may_be_overridden() -> None:
    class Fallback(RoutedAgent):
        async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> Any:
            return f"fallback for {message}"

    assert await Fallback().on_message(1, RPC) == "fallback for 1"


async def test_a_match_that_raises_is_an_error_of_the_handler() -> None:
    class Broken(RoutedAgent):
        @message_handler(match=lambda message, ctx: message.missing)
        async def handle(self, message: Ping, ctx: MessageContext) -> None: ...

    with pytest.raises(AttributeError, match="missing"):
        await Broken().on_message(Ping("x"), RPC)


async def test_handlers_of_any_come_after_those_of_the_class() -> None:
    class Catcher(RoutedAgent):
        @message_handler
        async def a_any(self, message: Any, ctx: MessageContext) -> str:
            return "any"

        @message_handler
        async def b_ping(self, message: Ping, ctx: MessageContext) -> str:
            return "ping"

    agent = Catcher()
    assert await agent.on_message(Ping("x"), RPC) == "ping"
    assert await agent.on_message({"x": 1}, RPC) == "any"


async def test_generic_hints_take_their_origin_class() -> None:
    class Generic(RoutedAgent):
        @rpc
        async def handle(self, message: list[int] | dict[str, Any], ctx: MessageContext) -> list[str]:
            return [type(message).__name__]

    agent = Generic()
    assert await agent.on_message([1], RPC) == ["list"]
    assert await agent.on_message({}, RPC) == ["dict"]


async def test_a_wrong_result_reaches_the_caller_as_an_error() -> None:
    class Wrong(RoutedAgent):
        @rpc
        async def handle(self, message: Ping, ctx: MessageContext) -> Pong:
            return message  # type: ignore[return-value]

    with pytest.raises(ValueError, match="returned Ping, but its hint says Pong"):
        await Wrong().on_message(Ping("x"), RPC)


class Status(RoutedAgent):
    @rpc
    async def get_status(self, *, detail: str = "none") -> dict:  # type: ignore[type-arg]
        return {"status": "ready", "detail": detail}


class TestRpcCall:
    async def test_it_calls_the_method_that_it_names(self) -> None:
        assert await Status().on_message(RpcCall("get_status"), RPC) == {"status": "ready", "detail": "none"}
        assert await Status().on_message(RpcCall("get_status", {"detail": "all"}), RPC) == {
            "status": "ready",
            "detail": "all",
        }

    @pytest.mark.parametrize("method", ["missing", "on_message", "close", "__init__"])
    async def test_it_reaches_nothing_but_decorated_methods(self, method: str) -> None:
        with pytest.raises(CantHandleException, match=f"Status has no rpc method named '{method}'"):
            await Status().on_message(RpcCall(method), RPC)

    async def test_wrong_arguments_are_an_error(self) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
            await Status().on_message(RpcCall("get_status", {"x": 1}), RPC)

    async def test_a_method_stays_callable(self) -> None:
        assert (await Status().get_status(detail="all"))["detail"] == "all"


class TestHandledTypes:
    def test_they_are_those_of_messages_and_answers(self) -> None:
        assert {cls for cls, _ in Router._handles_types()} == {Ping, Pong, str, type(None)}
        assert {cls for cls, _ in Status._handles_types()} == {RpcCall, dict}
        assert all(serializers for _, serializers in Router._handles_types())

    def test_a_message_type_without_serializer_is_an_error(self) -> None:
        class Wrong(RoutedAgent):
            @rpc
            async def handle(self, message: Opaque, ctx: MessageContext) -> None: ...

        with pytest.raises(SerializationError, match=r"No serializers found .*Opaque.* which Wrong handles"):
            Wrong._handles_types()

    def test_an_answer_type_without_serializer_is_left_out(self) -> None:
        class Local(RoutedAgent):
            @rpc
            async def handle(self, message: Ping, ctx: MessageContext) -> Opaque:
                return Opaque()

        assert [cls for cls, _ in Local._handles_types()] == [Ping]

    def test_any_needs_no_serializer(self) -> None:
        class Catcher(RoutedAgent):
            @message_handler
            async def handle(self, message: Any, ctx: MessageContext) -> None: ...

        assert [cls for cls, _ in Catcher._handles_types()] == [type(None)]

    def test_a_declared_serializer_serves_a_type_that_has_none(self) -> None:
        declared: Any = SimpleNamespace()

        @handles(Opaque, declared)
        class Declared(RoutedAgent):
            @rpc
            async def handle(self, message: Opaque, ctx: MessageContext) -> None: ...

        assert (Opaque, [declared]) in Declared._handles_types()


class TestStreams:
    async def test_a_handler_that_yields_gives_an_iterator(self) -> None:
        agent = Streaming()
        chunks = await agent.on_message(Ping("xy"), RPC)
        assert [chunk async for chunk in chunks] == [Pong("x"), Pong("y")]

        numbers = await agent.on_message(RpcCall("count", {"to": 2}), RPC)
        assert [number async for number in numbers] == [0, 1]

    def test_their_chunks_are_serialized_like_answers(self) -> None:
        assert {cls for cls, _ in Streaming._handles_types()} == {Ping, Pong, RpcCall, int}


class Streaming(RoutedAgent):
    @message_handler
    async def on_ping(self, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
        for letter in message.text:
            yield Pong(letter)

    @rpc
    async def count(self, *, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
