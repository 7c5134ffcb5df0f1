import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.exceptions import MessageDroppedException, RuntimeStateError
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.interventions import DefaultInterventionHandler, DropMessage, InterventionHandler
from hivewire.model.subscriptions import TypeSubscription
from hivewire.model.topics import TopicId

TOPIC = TopicId("t", "s")
AGENT = AgentId("agent", "s")


class Echo(BaseAgent):
    def __init__(self) -> None:
        super().__init__("echo")
        self.seen: list[Any] = []
        self.tokens: list[CancellationToken] = []

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.seen.append(message)
        self.tokens.append(ctx.cancellation_token)
        return message


@asynccontextmanager
async def running(*handlers: InterventionHandler, **options: Any) -> AsyncIterator[SingleThreadedAgentRuntime]:
    runtime = SingleThreadedAgentRuntime(intervention_handlers=list(handlers), **options)
    await runtime.register_factory("agent", Echo)
    await runtime.add_subscription(TypeSubscription("t", "agent"))
    runtime.start()
    async with asyncio.timeout(5):
        yield runtime
        if "stopped" not in repr(runtime):
            await runtime.stop()


async def seen(runtime: SingleThreadedAgentRuntime) -> list[Any]:
    return (await runtime.try_get_underlying_agent_instance(AGENT, Echo)).seen


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class Noting(DefaultInterventionHandler):
    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        self.notes.append(("send", message, message_context.sender, message_context.is_rpc, recipient))
        return message

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        self.notes.append(("publish", message, message_context.sender, message_context.topic_id))
        return message

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        self.notes.append(("response", message, sender, recipient))
        return message


class Gated(DefaultInterventionHandler):
    """Lets nothing pass until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        self.entered += 1
        await self.opened.wait()
        return message

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        self.entered += 1
        await self.opened.wait()
        return message


async def test_every_hook_learns_about_the_message() -> None:
    handler, caller = Noting(), AgentId("caller", "k")
    async with running(handler) as runtime:
        await runtime.send_message("x", AGENT, sender=caller)
        await runtime.publish_message("y", TOPIC)
        await runtime.stop_when_idle()

    assert handler.notes == [
        ("send", "x", caller, True, AGENT),
        ("response", "x", AGENT, caller),
        ("publish", "y", None, TOPIC),
    ]


async def test_a_hook_sees_the_same_token_as_the_handler() -> None:
    tokens = []

    class Tokens(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            tokens.append(message_context.cancellation_token)
            return message

    async with running(Tokens()) as runtime:
        await runtime.send_message("x", AGENT)
        assert (await runtime.try_get_underlying_agent_instance(AGENT, Echo)).tokens == tokens


@pytest.mark.parametrize("drop", [DropMessage, DropMessage("not approved")])
@pytest.mark.parametrize("hook", ["on_send", "on_response"])
@pytest.mark.parametrize("raised", [False, True])
async def test_a_dropped_message_or_answer_is_an_error_of_the_caller(
    drop: Any, hook: str, raised: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(message: Any, **context: Any) -> Any:
        if raised:
            raise drop
        return drop

    handler = DefaultInterventionHandler()
    setattr(handler, hook, _method(refuse))
    with caplog.at_level(logging.INFO, EVENT_LOGGER_NAME):
        async with running(handler) as runtime:
            with pytest.raises(MessageDroppedException) as caught:
                await runtime.send_message("x", AGENT)
            assert await seen(runtime) == ([] if hook == "on_send" else ["x"])

    assert caught.value.reason == (None if drop is DropMessage else "not approved")
    (dropped,) = [record.msg for record in caplog.records if "MessageDropped" in str(record.msg)]
    assert dropped.kwargs["kind"] == ("MessageKind.DIRECT" if hook == "on_send" else "MessageKind.RESPOND")
    assert not [record for record in caplog.records if "MessageHandlerException" in str(record.msg)]


async def test_a_dropped_event_just_ends() -> None:
    class DropEvents(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            return DropMessage

    async with running(DropEvents()) as runtime:
        await runtime.publish_message("x", TOPIC)
        await runtime.stop_when_idle()
        assert await seen(runtime) == []


@pytest.mark.parametrize("hook", ["on_send", "on_response"])
async def test_another_error_of_a_hook_reaches_the_caller(hook: str) -> None:
    async def fail(message: Any, **context: Any) -> Any:
        raise KeyError("boom")

    handler = DefaultInterventionHandler()
    setattr(handler, hook, _method(fail))
    async with running(handler) as runtime:
        with pytest.raises(KeyError, match="boom"):
            await runtime.send_message("x", AGENT)
        await runtime.stop_when_idle()


async def test_an_error_of_a_hook_for_events_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Fail(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            raise KeyError("boom")

    async with running(Fail()) as runtime:
        with caplog.at_level(logging.ERROR):
            await runtime.publish_message("x", TOPIC)
            await runtime.stop_when_idle()

    assert "An intervention handler failed for str published to t/s" in caplog.text


async def test_an_answer_can_be_changed() -> None:
    class Shout(DefaultInterventionHandler):
        async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
            return message.upper()

    async with running(Shout(), Shout()) as runtime:
        assert await runtime.send_message("x", AGENT) == "X"


async def test_hooks_written_with_a_context_parameter_work() -> None:
    class Plain(InterventionHandler):
        async def on_send(self, message: Any, ctx: MessageContext) -> Any:  # type: ignore[override]
            return f"{message} {ctx.is_rpc}"

        async def on_publish(self, message: Any, ctx: MessageContext) -> Any:  # type: ignore[override]
            return f"{message} {ctx.is_rpc}"

    async with running(Plain()) as runtime:
        assert await runtime.send_message("x", AGENT) == "x True"
        await runtime.publish_message("y", TOPIC)
        await runtime.stop_when_idle()
        assert await seen(runtime) == ["x True", "y False"]


async def test_a_slow_hook_keeps_the_order_of_messages() -> None:
    class SlowForFirst(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            for _ in range(10 - message):
                await asyncio.sleep(0)
            return message

    async with running(SlowForFirst()) as runtime:
        for number in range(10):
            await runtime.publish_message(number, TOPIC)
        await runtime.stop_when_idle()
        assert await seen(runtime) == list(range(10))


async def test_a_hook_may_send_messages_of_its_own_and_wait_for_the_answer() -> None:
    class Ask(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            if message == "question":
                return await self.runtime.send_message("approve?", AgentId("agent", "judge"))
            return message

        runtime: SingleThreadedAgentRuntime

    handler = Ask()
    async with running(handler) as runtime:
        handler.runtime = runtime
        assert await runtime.send_message("question", AGENT) == "approve?"
        assert await seen(runtime) == ["approve?"]


async def test_a_hook_may_wait_for_an_agent_that_calls_another_one() -> None:
    class Forward(BaseAgent):
        async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
            return await self.send_message(message, AGENT)

    class Ask(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            return await self.runtime.send_message(message, AgentId("forward", "k"))

        runtime: SingleThreadedAgentRuntime

    handler = Ask()
    async with running(handler) as runtime:
        handler.runtime = runtime
        await runtime.register_factory("forward", Forward)
        await runtime.publish_message("x", TOPIC)
        await runtime.stop_when_idle()
        assert await seen(runtime) == ["x", "x"]


async def test_a_hook_may_stop_the_runtime() -> None:
    class Stop(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            await self.runtime.stop()
            return message

        runtime: SingleThreadedAgentRuntime

    handler = Stop()
    async with running(handler) as runtime:
        handler.runtime = runtime
        await runtime.publish_message("x", TOPIC)
        await until(lambda: "stopped" in repr(runtime))


async def test_a_call_can_be_cancelled_while_a_hook_holds_it() -> None:
    gated, token = Gated(), CancellationToken()
    async with running(gated) as runtime:
        called = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: gated.entered == 1)
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await called
        gated.opened.set()
        await runtime.stop_when_idle()
        assert await seen(runtime) == []


async def test_a_message_that_a_hook_holds_when_the_runtime_stops_is_refused() -> None:
    gated = Gated()
    async with running(gated) as runtime:
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gated.entered == 1)
        stopping = asyncio.create_task(runtime.stop())
        await until(lambda: "stopping" in repr(runtime))
        assert not stopping.done()
        gated.opened.set()
        with pytest.raises(RuntimeStateError):
            await called
        await stopping
        assert await seen(runtime) == []


async def test_process_next_runs_the_hooks_too() -> None:
    handler = Noting()
    runtime = SingleThreadedAgentRuntime(intervention_handlers=[handler])
    await runtime.register_factory("agent", Echo)
    called = asyncio.create_task(runtime.send_message("x", AGENT))
    await until(lambda: runtime.unprocessed_messages_count == 1)
    await runtime.process_next()

    assert await called == "x"
    assert [note[0] for note in handler.notes] == ["send", "response"]


async def test_hooks_of_a_serializing_runtime_see_copies() -> None:
    class Change(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            message.append("by the hook")
            return message

    async with running(Change(), serialize_messages=True) as runtime:
        message = ["sent"]
        await runtime.publish_message(message, TOPIC)
        message.append("by the sender")
        await runtime.stop_when_idle()

        assert await seen(runtime) == [["sent", "by the hook"]]
    assert message == ["sent", "by the sender"]


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function the keyword parameters that hooks of any kind may have."""

    async def hook(
        message: Any,
        *,
        message_context: Any = None,
        sender: AgentId | None = None,
        recipient: AgentId | None = None,
    ) -> Any:
        return await function(message)

    return hook
