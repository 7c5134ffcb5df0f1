"""How a routed agent finds the handler of a message."""

import logging
from typing import Any

import pytest

from contract.support import MakeRuntime, Number, Runtime, Settle, Text, ignore, serve, until
from hivewire import (
    AgentId,
    BaseAgent,
    CantHandleException,
    DefaultTopicId,
    MessageContext,
    RoutedAgent,
    RpcCall,
    default_subscription,
    event,
    message_handler,
    rpc,
)

AGENT = AgentId("agent", "k")


class SpecialText(Text):
    pass


async def registered(runtime: Runtime, cls: type[RoutedAgent]) -> AgentId:
    await cls.register(runtime, "agent", cls)
    return AGENT


class TestByClass:
    class Routed(RoutedAgent):
        @message_handler
        async def on_text(self, message: Text, ctx: MessageContext) -> str:
            return f"text {message.value}"

        @message_handler
        async def on_number(self, message: Number, ctx: MessageContext) -> str:
            return f"number {message.value}"

        @message_handler
        async def on_json(self, message: str | list[int] | dict[str, Any], ctx: MessageContext) -> str:
            return f"{type(message).__name__} {message}"

    async def test_each_message_reaches_the_handler_of_its_class(self, runtime: Runtime) -> None:
        await registered(runtime, self.Routed)

        answers = [await runtime.send_message(message, AGENT) for message in (Text("a"), Number(1), "b", [1, 2], {})]
        assert answers == ["text a", "number 1", "str b", "list [1, 2]", "dict {}"]

    async def test_an_agent_may_be_built_with_nothing(self, runtime: Runtime) -> None:
        await registered(runtime, self.Routed)

        assert (await runtime.agent_metadata(AGENT))["description"] == "Routed"

    async def test_a_subclass_of_a_handled_class_is_not_handled(self, runtime: Runtime) -> None:
        await registered(runtime, self.Routed)

        assert await runtime.send_message(SpecialText("a"), AGENT) is None

    async def test_a_handler_of_any_takes_what_no_other_does(self, runtime: Runtime) -> None:
        class WithAny(RoutedAgent):
            @message_handler
            async def anything(self, message: Any, ctx: MessageContext) -> str:
                return f"any {type(message).__name__}"

            @message_handler
            async def on_text(self, message: Text, ctx: MessageContext) -> str:
                return "text"

        await registered(runtime, WithAny)

        messages = (Text("a"), Number(1), None, 1.5, SpecialText("a"))
        answers = [await runtime.send_message(message, AGENT) for message in messages]
        assert answers == ["text", "any Number", "any NoneType", "any float", "any SpecialText"]

    async def test_a_subclass_may_replace_a_handler(self, runtime: Runtime) -> None:
        class Replacing(self.Routed):  # type: ignore[name-defined, misc]
            @message_handler
            async def on_text(self, message: Text, ctx: MessageContext) -> str:
                return "replaced"

        await registered(runtime, Replacing)

        assert await runtime.send_message(Text("a"), AGENT) == "replaced"
        assert await runtime.send_message(Number(1), AGENT) == "number 1"


class TestByMatch:
    class Matching(RoutedAgent):
        @message_handler(match=lambda message, ctx: message.value.startswith("a"))
        async def a_first(self, message: Text, ctx: MessageContext) -> str:
            return "starts with a"

        @message_handler(match=lambda message, ctx: ctx.sender is not None)
        async def b_second(self, message: Text, ctx: MessageContext) -> str:
            return f"from {ctx.sender}"

        @rpc(match=lambda message, ctx: message.value == "broken" and message.nothing)
        async def c_third(self, message: Text, ctx: MessageContext) -> str:
            return "never"

    async def test_the_first_in_alphabetical_order_that_matches_is_called(self, runtime: Runtime) -> None:
        await registered(runtime, self.Matching)
        sender = AgentId("sender", "s")

        assert await runtime.send_message(Text("ab"), AGENT, sender=sender) == "starts with a"
        assert await runtime.send_message(Text("b"), AGENT, sender=sender) == "from sender/s"
        assert await runtime.send_message(Text("b"), AGENT) is None

    async def test_a_match_that_raises_is_an_error_of_the_caller(self, runtime: Runtime) -> None:
        await registered(runtime, self.Matching)

        with pytest.raises(AttributeError, match="nothing"):
            await runtime.send_message(Text("broken"), AGENT)


class TestByKind:
    async def test_calls_and_events_find_their_own_handlers(self, runtime: Runtime, settle: Settle) -> None:
        seen: list[str] = []

        @default_subscription
        class Both(RoutedAgent):
            @event
            async def on_event(self, message: Text, ctx: MessageContext) -> None:
                seen.append(f"event {message.value}")

            @rpc
            async def on_rpc(self, message: Text, ctx: MessageContext) -> str:
                seen.append(f"rpc {message.value}")
                return "answer"

        await registered(runtime, Both)
        assert await runtime.send_message(Text("a"), AGENT) == "answer"
        await runtime.publish_message(Text("b"), DefaultTopicId())
        await settle(runtime)

        assert seen == ["rpc a", "event b"]

    async def test_a_call_to_an_agent_that_takes_events_only_is_unhandled(self, runtime: Runtime) -> None:
        class EventsOnly(RoutedAgent):
            @event
            async def on_event(self, message: Text, ctx: MessageContext) -> None:
                raise AssertionError

        await registered(runtime, EventsOnly)

        assert await runtime.send_message(Text("a"), AGENT) is None

    async def test_an_event_for_an_agent_that_takes_calls_only_is_unhandled(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        called: list[Any] = []

        @default_subscription
        class CallsOnly(RoutedAgent):
            @rpc
            async def on_rpc(self, message: Text, ctx: MessageContext) -> None:
                called.append(message)

        await registered(runtime, CallsOnly)
        await runtime.publish_message(Text("a"), DefaultTopicId())
        await settle(runtime)

        assert called == []


class TestByName:
    class Worker(RoutedAgent):
        @rpc
        async def get_status(self) -> dict[str, Any]:
            return {"status": "ready", "id": str(self.id)}

        @rpc
        async def add(self, *, a: int, b: int = 10) -> int:
            return a + b

        @rpc
        async def fail(self) -> None:
            raise KeyError("boom")

        async def secret(self) -> str:
            return "secret"

        @message_handler
        async def on_text(self, message: Text, ctx: MessageContext) -> str:
            return message.value

    async def test_a_call_by_name_reaches_the_method(self, runtime: Runtime) -> None:
        await registered(runtime, self.Worker)

        assert await runtime.send_message(RpcCall("get_status"), AGENT) == {"status": "ready", "id": "agent/k"}
        assert await runtime.send_message(RpcCall("add", {"a": 1}), AGENT) == 11
        assert await runtime.send_message(RpcCall(method="add", kwargs={"a": 1, "b": 2}), AGENT) == 3
        assert await runtime.send_message(Text("x"), AGENT) == "x"

    @pytest.mark.parametrize("method", ["unknown", "secret", "on_text", "__init__", "send_message", "close", ""])
    async def test_only_methods_that_are_made_for_it_can_be_called(self, runtime: Runtime, method: str) -> None:
        await registered(runtime, self.Worker)

        with pytest.raises(CantHandleException):
            await runtime.send_message(RpcCall(method), AGENT)

    async def test_arguments_that_do_not_fit_are_an_error(self, runtime: Runtime) -> None:
        await registered(runtime, self.Worker)

        with pytest.raises((TypeError, CantHandleException)):
            await runtime.send_message(RpcCall("add", {"c": 1}), AGENT)

    async def test_what_the_method_raises_reaches_the_caller(self, runtime: Runtime) -> None:
        await registered(runtime, self.Worker)

        with pytest.raises(KeyError, match="boom"):
            await runtime.send_message(RpcCall("fail"), AGENT)


class TestUnhandled:
    class TextOnly(RoutedAgent):
        @message_handler
        async def on_text(self, message: Text, ctx: MessageContext) -> str:
            return message.value

    async def test_a_call_that_no_handler_takes_is_answered_with_none_and_logged(
        self, runtime: Runtime, caplog: pytest.LogCaptureFixture
    ) -> None:
        await registered(runtime, self.TextOnly)
        with caplog.at_level(logging.INFO):
            assert await runtime.send_message(Number(12345), AGENT) is None

        assert [record.levelname for record in caplog.records if "Unhandled message: Number" in record.message] == [
            "INFO"
        ]
        assert "12345" not in caplog.text

    async def test_a_runtime_may_make_it_an_error(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(strict_unhandled=True)
        await runtime.start()
        await registered(runtime, self.TextOnly)

        with pytest.raises(CantHandleException):
            await runtime.send_message(Number(1), AGENT)
        assert await runtime.send_message(Text("x"), AGENT) == "x"

    async def test_an_agent_may_say_what_happens_instead(self, runtime: Runtime) -> None:
        class Catching(self.TextOnly):  # type: ignore[name-defined, misc]
            async def on_unhandled_message(self, message: Any, ctx: MessageContext) -> str:
                return f"caught {type(message).__name__}"

        await registered(runtime, Catching)

        assert await runtime.send_message(Number(1), AGENT) == "caught Number"

    async def test_an_agent_that_handles_nothing_refuses_calls(self, runtime: Runtime) -> None:
        await BaseAgent.register(runtime, "agent", lambda: BaseAgent("nothing"))
        with pytest.raises(CantHandleException):
            await runtime.send_message("x", AGENT)


class TestAnswersOfAnotherClass:
    class Lying(RoutedAgent):
        @message_handler
        async def strict(self, message: Text, ctx: MessageContext) -> str:
            return 1  # type: ignore[return-value]

        @message_handler(strict=False)
        async def lax(self, message: Number, ctx: MessageContext) -> str:
            return 1  # type: ignore[return-value]

    async def test_are_an_error_of_the_caller(self, runtime: Runtime) -> None:
        await registered(runtime, self.Lying)

        with pytest.raises(ValueError, match="int"):
            await runtime.send_message(Text("x"), AGENT)

    async def test_are_a_warning_when_the_handler_is_not_strict(
        self, runtime: Runtime, caplog: pytest.LogCaptureFixture
    ) -> None:
        await registered(runtime, self.Lying)
        with caplog.at_level(logging.WARNING):
            assert await runtime.send_message(Number(1), AGENT) == 1

        assert "returned int" in caplog.text


async def test_a_plain_function_may_be_a_handler(runtime: Runtime) -> None:
    @message_handler
    async def on_text(self: RoutedAgent, message: Text, ctx: MessageContext) -> str:
        return f"{self.id} got {message.value}"

    class Holder(RoutedAgent):
        handler = on_text

    await registered(runtime, Holder)

    assert await runtime.send_message(Text("x"), AGENT) == "agent/k got x"


async def test_a_handler_may_publish_to_others_of_its_type(runtime: Runtime) -> None:
    @default_subscription
    class Gossip(RoutedAgent):
        @rpc
        async def tell(self, message: Text, ctx: MessageContext) -> None:
            await self.publish_message(message, DefaultTopicId(source="other"))

        @event
        async def hear(self, message: Text, ctx: MessageContext) -> None:
            await self.send_message(f"{self.id.key} heard {message.value}", AgentId("noting", "n"))

    inbox = await serve(runtime, "noting", ignore)
    await registered(runtime, Gossip)
    await runtime.send_message(Text("x"), AGENT)

    await until(lambda: inbox.messages == ["other heard x"])
