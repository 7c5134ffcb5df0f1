import asyncio
import logging
from typing import Any

import pytest

from contract.support import MakeRuntime, Number, Runtime, Scripted, Settle, Text, echo, ignore, serve, until
from hivewire import (
    EVENT_LOGGER_NAME,
    AgentId,
    CancellationToken,
    DefaultInterventionHandler,
    DropMessage,
    InterventionHandler,
    MessageContext,
    MessageDroppedException,
    TopicId,
)
from hivewire.logging import MessageDroppedEvent

AGENT = AgentId("agent", "k")
SENDER = AgentId("sender", "s")
TOPIC = TopicId("t", "k")


async def intercepted(make_runtime: MakeRuntime, *handlers: Any) -> Runtime:
    runtime = make_runtime(intervention_handlers=list(handlers))
    await runtime.start()
    return runtime


class Adding(DefaultInterventionHandler):
    """Adds to every number that passes."""

    def __init__(self, send: int = 0, publish: int = 0, respond: int = 0) -> None:
        self.send, self.publish, self.respond = send, publish, respond

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return Number(message.value + self.send)

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        return Number(message.value + self.publish)

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        return Number(message.value + self.respond)


class Outcome(DefaultInterventionHandler):
    """Returns, or raises, what the test says at one hook."""

    def __init__(self, hook: str, outcome: Any, *, raised: bool = False) -> None:
        self.hook, self.outcome, self.raised = hook, outcome, raised

    def _at(self, hook: str, message: Any) -> Any:
        if hook != self.hook or message == "let through":
            return message
        if self.raised:
            raise self.outcome
        return self.outcome

    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        return self._at("on_send", message)

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
        return self._at("on_publish", message)

    async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
        return self._at("on_response", message)


class TestWhatHooksLearn:
    async def test_a_call_shows_itself_its_context_and_its_answer(self, make_runtime: MakeRuntime) -> None:
        seen: list[Any] = []

        class Noting(DefaultInterventionHandler):
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                ctx = message_context
                seen.append(("send", message, ctx.sender, ctx.topic_id, ctx.is_rpc, ctx.message_id, recipient))
                return message

            async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
                seen.append(("respond", message, sender, recipient))
                return message

        runtime = await intercepted(make_runtime, Noting())
        await serve(runtime, "agent")
        await runtime.send_message(Text("x"), AGENT, sender=SENDER, message_id="id")
        await runtime.send_message(Text("y"), AGENT, message_id="id2")

        assert seen == [
            ("send", Text("x"), SENDER, None, True, "id", AGENT),
            ("respond", Text("x"), AGENT, SENDER),
            ("send", Text("y"), None, None, True, "id2", AGENT),
            ("respond", Text("y"), AGENT, None),
        ]

    async def test_an_event_shows_itself_and_its_context(self, make_runtime: MakeRuntime, settle: Settle) -> None:
        seen: list[Any] = []

        class Noting(DefaultInterventionHandler):
            async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
                ctx = message_context
                seen.append((message, ctx.sender, ctx.topic_id, ctx.is_rpc, ctx.message_id))
                return message

        runtime = await intercepted(make_runtime, Noting())
        await serve(runtime, "agent", ignore, "t")
        await serve(runtime, "agent2", ignore, "t")
        await runtime.publish_message(Text("x"), TOPIC, sender=SENDER, message_id="id")
        await settle(runtime)

        assert seen == [(Text("x"), SENDER, TOPIC, False, "id")]

    async def test_a_generated_message_id_is_the_one_that_the_handler_sees(self, make_runtime: MakeRuntime) -> None:
        seen: list[str] = []

        class Noting(DefaultInterventionHandler):
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                seen.append(message_context.message_id)
                return message

        runtime = await intercepted(make_runtime, Noting())
        inbox = await serve(runtime, "agent")
        await runtime.send_message("x", AGENT)

        assert seen == [inbox.only.ctx.message_id]

    async def test_a_hook_can_see_the_callers_token(self, make_runtime: MakeRuntime) -> None:
        seen: list[CancellationToken] = []

        class Noting(DefaultInterventionHandler):
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                seen.append(message_context.cancellation_token)
                return message

        runtime = await intercepted(make_runtime, Noting())
        await serve(runtime, "agent")
        token = CancellationToken()
        await runtime.send_message("x", AGENT, cancellation_token=token)

        assert seen == [token]

    async def test_agents_calls_and_events_pass_too(self, make_runtime: MakeRuntime, settle: Settle) -> None:
        seen: list[Any] = []

        class Noting(DefaultInterventionHandler):
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                seen.append((message, message_context.sender))
                return message

            async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
                seen.append((message, message_context.sender))
                return message

        async def talk(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.send_message("inner", AgentId("other", "o"))
            await agent.publish_message("event", TOPIC)

        runtime = await intercepted(make_runtime, Noting())
        await serve(runtime, "agent", talk)
        await serve(runtime, "other")
        await runtime.send_message("outer", AGENT)
        await settle(runtime)

        assert seen == [("outer", None), ("inner", AGENT), ("event", AGENT)]


class TestTheChain:
    async def test_each_hook_sees_what_the_one_before_returned(self, make_runtime: MakeRuntime, settle: Settle) -> None:
        handlers = [Adding(send=1, publish=10, respond=100), Adding(send=1, publish=10, respond=100)]
        runtime = await intercepted(make_runtime, *handlers)
        inbox = await serve(runtime, "agent", echo, "t")

        assert await runtime.send_message(Number(0), AGENT) == Number(202)
        await runtime.publish_message(Number(0), TOPIC)
        await settle(runtime)
        assert inbox.messages == [Number(2), Number(20)]

    async def test_it_goes_in_the_order_of_the_list(self, make_runtime: MakeRuntime) -> None:
        class Appending(DefaultInterventionHandler):
            def __init__(self, text: str) -> None:
                self.text = text

            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                await asyncio.sleep(0)
                return message + self.text

        runtime = await intercepted(make_runtime, *map(Appending, "abc"))
        await serve(runtime, "agent")

        assert await runtime.send_message("", AGENT) == "abc"

    async def test_a_hook_may_change_the_class_of_a_message(self, make_runtime: MakeRuntime) -> None:
        runtime = await intercepted(make_runtime, Outcome("on_send", Number(1)), Outcome("on_response", Text("x")))
        inbox = await serve(runtime, "agent")

        assert await runtime.send_message("y", AGENT) == Text("x")
        assert inbox.messages == [Number(1)]

    async def test_hooks_that_a_handler_leaves_out_pass_messages_through(self, make_runtime: MakeRuntime) -> None:
        class Bare:
            pass

        class OnlySend:
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                return message

        runtime = await intercepted(make_runtime, Bare(), OnlySend(), DefaultInterventionHandler())
        inbox = await serve(runtime, "agent", echo, "t")
        assert await runtime.send_message("x", AGENT) == "x"
        await runtime.publish_message("y", TOPIC)

        await until(lambda: inbox.messages == ["x", "y"])

    async def test_hooks_may_be_written_with_a_plain_context_parameter(
        self, make_runtime: MakeRuntime, settle: Settle
    ) -> None:
        class Approving:
            async def on_send(self, message: Any, ctx: MessageContext) -> Any:
                assert ctx.is_rpc
                if message == "bad":
                    raise DropMessage("not approved")
                return message

            async def on_publish(self, message: Any, ctx: MessageContext) -> Any:
                assert ctx.topic_id == TOPIC
                return f"{message}, seen"

        runtime = await intercepted(make_runtime, Approving())
        inbox = await serve(runtime, "agent", echo, "t")
        with pytest.raises(MessageDroppedException, match="not approved"):
            await runtime.send_message("bad", AGENT)
        assert await runtime.send_message("good", AGENT) == "good"
        await runtime.publish_message("event", TOPIC)
        await settle(runtime)

        assert inbox.messages == ["good", "event, seen"]


DROPS = [
    (DropMessage, False, None),
    (DropMessage(), False, None),
    (DropMessage("why"), False, "why"),
    (DropMessage, True, None),
    (DropMessage("why"), True, "why"),
]
DROP_NAMES = ["class", "instance", "instance with reason", "raised class", "raised with reason"]


class TestDropping:
    @pytest.mark.parametrize(("outcome", "raised", "reason"), DROPS, ids=DROP_NAMES)
    @pytest.mark.parametrize("hook", ["on_send", "on_response"])
    async def test_a_dropped_call_or_answer_is_an_error_of_the_caller(
        self, make_runtime: MakeRuntime, settle: Settle, hook: str, outcome: Any, raised: bool, reason: str | None
    ) -> None:
        runtime = await intercepted(make_runtime, Outcome(hook, outcome, raised=raised))
        inbox = await serve(runtime, "agent")

        with pytest.raises(MessageDroppedException) as caught:
            await runtime.send_message("x", AGENT)
        await settle(runtime)

        assert caught.value.reason == reason
        assert inbox.messages == ([] if hook == "on_send" else ["x"])
        assert await runtime.send_message("let through", AGENT) == "let through"

    @pytest.mark.parametrize(("outcome", "raised", "reason"), DROPS, ids=DROP_NAMES)
    async def test_a_dropped_event_just_ends(
        self, make_runtime: MakeRuntime, settle: Settle, outcome: Any, raised: bool, reason: str | None
    ) -> None:
        runtime = await intercepted(make_runtime, Outcome("on_publish", outcome, raised=raised))
        inbox = await serve(runtime, "agent", ignore, "t")
        await runtime.publish_message("x", TOPIC)
        await runtime.publish_message("let through", TOPIC)
        await settle(runtime)

        assert inbox.messages == ["let through"]

    @pytest.mark.parametrize("hook", ["on_send", "on_publish", "on_response"])
    async def test_it_is_told_to_the_event_logger(
        self, make_runtime: MakeRuntime, settle: Settle, caplog: pytest.LogCaptureFixture, hook: str
    ) -> None:
        runtime = await intercepted(make_runtime, Outcome(hook, DropMessage("why")))
        await serve(runtime, "agent", ignore, "t")
        with caplog.at_level(logging.INFO, logger=EVENT_LOGGER_NAME):
            if hook == "on_publish":
                await runtime.publish_message("secret", TOPIC, sender=SENDER)
            else:
                with pytest.raises(MessageDroppedException):
                    await runtime.send_message("secret", AGENT, sender=SENDER)
            await settle(runtime)

        (dropped,) = [record.msg for record in caplog.records if isinstance(record.msg, MessageDroppedEvent)]
        expected = {
            "on_send": ("MessageKind.DIRECT", "sender/s", "agent/k"),
            "on_publish": ("MessageKind.PUBLISH", "sender/s", "t/k"),
            "on_response": ("MessageKind.RESPOND", "agent/k", "sender/s"),
        }[hook]
        assert (dropped.kwargs["kind"], dropped.kwargs["sender"], dropped.kwargs["receiver"]) == expected
        assert dropped.kwargs["reason"] == "why"
        assert "secret" not in str(dropped)

    async def test_later_hooks_do_not_see_what_was_dropped(self, make_runtime: MakeRuntime) -> None:
        seen: list[Any] = []

        class Noting(DefaultInterventionHandler):
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                seen.append(message)
                return message

        runtime = await intercepted(make_runtime, Outcome("on_send", DropMessage), Noting())
        await serve(runtime, "agent")
        with pytest.raises(MessageDroppedException):
            await runtime.send_message("x", AGENT)

        assert seen == []


class TestReturningNone:
    @pytest.mark.parametrize("hook", ["on_send", "on_publish", "on_response"])
    async def test_leaves_the_message_as_it_is_with_a_warning(
        self, make_runtime: MakeRuntime, settle: Settle, hook: str
    ) -> None:
        runtime = await intercepted(make_runtime, Outcome(hook, None))
        inbox = await serve(runtime, "agent", echo, "t")

        with pytest.warns(RuntimeWarning, match=f"{hook} returned None"):
            if hook == "on_publish":
                await runtime.publish_message("x", TOPIC)
            else:
                assert await runtime.send_message("x", AGENT) == "x"
            await settle(runtime)
        assert inbox.messages == ["x"]

    async def test_is_fine_when_the_answer_is_none(self, make_runtime: MakeRuntime) -> None:
        runtime = await intercepted(make_runtime, DefaultInterventionHandler(), Outcome("on_response", None))
        await serve(runtime, "agent", ignore)

        assert await runtime.send_message("x", AGENT) is None


class TestFailingHooks:
    @pytest.mark.parametrize("hook", ["on_send", "on_response"])
    async def test_the_error_reaches_the_caller_and_later_calls_go_through(
        self, make_runtime: MakeRuntime, settle: Settle, hook: str
    ) -> None:
        runtime = await intercepted(make_runtime, Outcome(hook, KeyError("boom"), raised=True))
        await serve(runtime, "agent")
        for _ in range(2):
            with pytest.raises(KeyError, match="boom"):
                await runtime.send_message("x", AGENT)
        await settle(runtime)

        assert await runtime.send_message("let through", AGENT) == "let through"

    async def test_for_an_event_it_is_logged_and_later_events_go_through(
        self, make_runtime: MakeRuntime, settle: Settle, caplog: pytest.LogCaptureFixture
    ) -> None:
        runtime = await intercepted(make_runtime, Outcome("on_publish", KeyError("boom"), raised=True))
        inbox = await serve(runtime, "agent", ignore, "t")
        with caplog.at_level(logging.ERROR, logger="hivewire"):
            await runtime.publish_message("x", TOPIC)
            await runtime.publish_message("let through", TOPIC)
            await settle(runtime)

        assert inbox.messages == ["let through"]
        assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [KeyError]

    @pytest.mark.parametrize("hook", ["on_send", "on_response"])
    async def test_a_cancelled_call_whose_hook_fails_leaves_later_calls_alone(
        self, make_runtime: MakeRuntime, settle: Settle, hook: str
    ) -> None:
        token = CancellationToken()

        class CancelAndFail(DefaultInterventionHandler):
            async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
                return self.at("on_send", message)

            async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
                return self.at("on_response", message)

            def at(self, name: str, message: Any) -> Any:
                if name == hook and message == "x":
                    token.cancel()
                    raise DropMessage("too late")
                return message

        runtime = await intercepted(make_runtime, CancelAndFail())
        await serve(runtime, "agent")
        with pytest.raises((asyncio.CancelledError, MessageDroppedException)):
            await runtime.send_message("x", AGENT, cancellation_token=token)
        await settle(runtime)

        assert await runtime.send_message("y", AGENT) == "y"


async def test_a_slow_hook_keeps_the_order_of_messages_of_one_sender(make_runtime: MakeRuntime, settle: Settle) -> None:
    class Slow(DefaultInterventionHandler):
        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            for _ in range(5 - message):
                await asyncio.sleep(0.001)
            return message

    runtime = await intercepted(make_runtime, Slow())
    inbox = await serve(runtime, "agent", ignore, "t")
    for number in range(5):
        await runtime.publish_message(number, TOPIC)
    await settle(runtime)

    assert inbox.messages == list(range(5))


async def test_a_hook_may_send_messages_of_its_own(make_runtime: MakeRuntime) -> None:
    class Asking(InterventionHandler):
        runtime: Runtime

        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            if recipient.type == "oracle":
                return message
            return await self.runtime.send_message(message, AgentId("oracle", "o"))

    class Oracle(Scripted):
        pass

    asking = Asking()
    runtime = await intercepted(make_runtime, asking)
    asking.runtime = runtime

    async def foretell(agent: Scripted, message: str, ctx: MessageContext) -> str:
        return f"{message}!"

    await serve(runtime, "oracle", foretell)
    inbox = await serve(runtime, "agent")

    assert await runtime.send_message("x", AGENT) == "x!"
    assert inbox.messages == ["x!"]
