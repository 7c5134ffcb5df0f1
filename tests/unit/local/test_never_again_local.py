"""Faults that in-process runtimes of this kind are known to have. Each number is that of one fault."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from hivewire.agents.base import BaseAgent
from hivewire.agents.closure import ClosureAgent, ClosureContext, UnknownTypePolicy
from hivewire.agents.handlers import event, message_handler
from hivewire.agents.routed import RoutedAgent
from hivewire.exceptions import (
    AgentNotFoundError,
    CantHandleException,
    MessageDroppedException,
    RuntimeStateError,
    SerializationError,
    UndeliverableException,
)
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.interventions import DefaultInterventionHandler, DropMessage
from hivewire.model.subscriptions import TypePrefixSubscription, TypeSubscription
from hivewire.model.topics import DefaultTopicId, TopicId

TOPIC = TopicId("t", "s")
ANYONE = AgentId("agent", "k")


@dataclass
class Number:
    value: int


@dataclass
class LoudNumber(Number):
    pass


@dataclass
class Basket:
    numbers: list[Number]
    best: "Number | None" = None
    notes: dict[str, Number] = field(default_factory=dict)


Handle = Callable[["Scripted", Any, MessageContext], Awaitable[Any]]


class Scripted(BaseAgent):
    """An agent that does what the test says, and notes what it got."""

    def __init__(self, handle: Handle | None = None) -> None:
        super().__init__("scripted")
        self._handle = handle
        self.seen: list[Any] = []

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.seen.append(message)
        return message if self._handle is None else await self._handle(self, message, ctx)


class Remembering(Scripted):
    async def save_state(self) -> Mapping[str, Any]:
        return {"seen": len(self.seen)}


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[SingleThreadedAgentRuntime]:
    """A started runtime; everything in the body has five seconds."""
    runtime = SingleThreadedAgentRuntime(**options)
    runtime.start()
    async with asyncio.timeout(5):
        yield runtime
        if "stopped" not in repr(runtime):
            await runtime.stop()


async def add(runtime: SingleThreadedAgentRuntime, type: str, handle: Handle | None = None) -> AgentId:
    """Register a scripted agent type, subscribed to topic type `t`."""
    await runtime.register_factory(type, lambda: Scripted(handle))
    await runtime.add_subscription(TypeSubscription("t", type))
    return AgentId(type, "s")


async def seen_by(runtime: SingleThreadedAgentRuntime, agent_id: AgentId) -> list[Any]:
    return (await runtime.try_get_underlying_agent_instance(agent_id, Scripted)).seen


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
    raise ValueError("boom")


class Gate:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0
        self.most_at_once = 0
        self._inside = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.entered += 1
        self._inside += 1
        self.most_at_once = max(self.most_at_once, self._inside)
        try:
            await self.opened.wait()
        finally:
            self._inside -= 1
        return message


async def test_row_40_a_call_to_an_unknown_type_says_that_the_recipient_was_not_found() -> None:
    async with running() as runtime:
        with pytest.raises(AgentNotFoundError, match=r"^Recipient not found") as caught:
            await runtime.send_message(Number(1), ANYONE)

    assert isinstance(caught.value, UndeliverableException)
    assert isinstance(caught.value, LookupError)


async def test_row_41_stopping_lets_a_running_call_answer_and_refuses_a_waiting_one() -> None:
    gate = Gate()
    async with running() as runtime:
        agent_id = await add(runtime, "agent", gate)
        called = asyncio.create_task(runtime.send_message(Number(1), agent_id))
        await until(lambda: gate.entered == 1)
        # Both run before the loop comes to what was sent.
        waiting = asyncio.create_task(runtime.send_message(Number(2), agent_id))
        stopping = asyncio.create_task(runtime.stop())
        with pytest.raises(RuntimeStateError, match="stopped before the message was handled"):
            await waiting
        assert not stopping.done()
        gate.opened.set()
        await stopping

        assert await called == Number(1)
        assert gate.entered == 1


async def test_row_42_a_handler_that_fails_after_its_token_was_cancelled_does_not_keep_the_runtime_busy() -> None:
    token = CancellationToken()

    async def cancel_and_fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        token.cancel()
        raise ValueError("boom")

    async with running() as runtime:
        agent_id = await add(runtime, "agent", cancel_and_fail)
        with pytest.raises(asyncio.CancelledError):
            await runtime.send_message(Number(1), agent_id, cancellation_token=token)
        await runtime.stop_when_idle()


@pytest.mark.parametrize("hook", ["on_response", "on_send"])
async def test_row_43_a_cancelled_call_whose_intervention_fails_leaves_later_calls_alone(hook: str) -> None:
    token = CancellationToken()

    class CancelFirst(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            return await self._on("on_send", message)

        async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
            return await self._on("on_response", message)

        async def _on(self, name: str, message: Any) -> Any:
            if message == Number(1) and name == hook:
                token.cancel()
                return DropMessage
            return message

    async with running(intervention_handlers=[CancelFirst()]) as runtime:
        agent_id = await add(runtime, "agent")
        with pytest.raises(asyncio.CancelledError):
            await runtime.send_message(Number(1), agent_id, cancellation_token=token)

        assert await runtime.send_message(Number(2), agent_id) == Number(2)
        await runtime.stop_when_idle()


@pytest.mark.parametrize("outcome", [DropMessage, DropMessage("no"), ValueError("boom")])
async def test_row_44_the_runtime_becomes_idle_after_an_intervention_drops_or_raises(outcome: Any) -> None:
    class Refuse(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            return self._refuse()

        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            return self._refuse()

        def _refuse(self) -> Any:
            if isinstance(outcome, ValueError):
                raise outcome
            return outcome

    async with running(intervention_handlers=[Refuse()]) as runtime:
        agent_id = await add(runtime, "agent")
        with pytest.raises((MessageDroppedException, ValueError)):
            await runtime.send_message(Number(1), agent_id)
        await runtime.publish_message(Number(1), TOPIC)
        await runtime.stop_when_idle()

        assert await seen_by(runtime, agent_id) == []


async def test_row_45_interventions_chain_and_none_leaves_the_message_as_it_is() -> None:
    class AddOne(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            return Number(message.value + 1)

        async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any:
            return Number(message.value + 1)

    class Forget(DefaultInterventionHandler):
        async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
            return None

    async with running(intervention_handlers=[AddOne(), AddOne()]) as runtime:
        agent_id = await add(runtime, "agent")
        assert await runtime.send_message(Number(1), agent_id) == Number(3)
        await runtime.publish_message(Number(1), TOPIC)
        await runtime.stop_when_idle()
        assert await seen_by(runtime, agent_id) == [Number(3), Number(3)]

    async with running(intervention_handlers=[Forget()]) as runtime:
        agent_id = await add(runtime, "agent")
        with pytest.warns(RuntimeWarning, match="None"):
            assert await runtime.send_message(Number(1), agent_id) == Number(1)


async def test_row_46_an_event_handler_error_that_is_not_ignored_is_raised_and_refuses_what_comes_after() -> None:
    async with running(ignore_unhandled_exceptions=False) as runtime:
        agent_id = await add(runtime, "agent", fail)
        await runtime.publish_message(Number(1), TOPIC)
        await until(lambda: "1 agents" in repr(runtime))
        await asyncio.sleep(0)
        for _ in range(2):
            with pytest.raises(RuntimeStateError) as caught:
                await runtime.send_message(Number(2), agent_id)
            assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(ValueError, match="boom"):
            await runtime.stop_when_idle()


@pytest.mark.parametrize("stop", ["stop", "stop_when_idle", "close", "stop_when"])
async def test_row_46_each_way_to_stop_raises_the_error_once(stop: str) -> None:
    async with running(ignore_unhandled_exceptions=False) as runtime:
        await add(runtime, "agent", fail)
        await runtime.publish_message(Number(1), TOPIC)
        await until(lambda: "1 agents" in repr(runtime))
        with pytest.raises(ValueError, match="boom"):
            await (runtime.stop_when(lambda: False) if stop == "stop_when" else getattr(runtime, stop)())
        await runtime.close()


async def test_row_46_process_next_raises_the_error_of_the_message_before() -> None:
    runtime = SingleThreadedAgentRuntime(ignore_unhandled_exceptions=False)
    await add(runtime, "agent", fail)
    await runtime.publish_message(Number(1), TOPIC)
    await runtime.process_next()

    with pytest.raises(ValueError, match="boom"):
        await runtime.process_next()


async def test_row_47_a_recipient_that_cannot_be_built_takes_nothing_from_the_others() -> None:
    def cannot() -> Scripted:
        raise ValueError("boom")

    async with running() as runtime:
        first = await add(runtime, "first")
        await runtime.register_factory("broken", cannot)
        await runtime.add_subscription(TypeSubscription("t", "broken"))
        last = await add(runtime, "last")
        await runtime.publish_message(Number(1), TOPIC)
        await runtime.stop_when_idle()

        assert await seen_by(runtime, first) == await seen_by(runtime, last) == [Number(1)]


async def test_row_48_idle_means_that_the_slow_handler_is_done_too() -> None:
    gate = Gate()
    async with running() as runtime:
        await add(runtime, "fast", fail)
        await add(runtime, "slow", gate)
        await runtime.publish_message(Number(1), TOPIC)
        idle = asyncio.create_task(runtime.stop_when_idle())
        await until(lambda: gate.entered == 1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not idle.done()
        gate.opened.set()
        await idle


async def test_row_49_any_id_may_be_a_sender() -> None:
    senders = []

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        senders.append(ctx.sender)

    stranger = AgentId("never.registered", "x")
    async with running() as runtime:
        agent_id = await add(runtime, "agent", note)
        await runtime.send_message(Number(1), agent_id, sender=stranger)
        await runtime.publish_message(Number(1), TOPIC, sender=stranger)
        await runtime.stop_when_idle()

    assert senders == [stranger, stranger]


async def test_row_50_a_sender_without_instance_is_not_built_even_for_tracing() -> None:
    async with running(tracer_provider=TracerProvider()) as runtime:
        sender = await add(runtime, "sender")
        recipient = await add(runtime, "recipient")
        await runtime.send_message(Number(1), recipient, sender=sender)
        await runtime.publish_message(Number(1), TOPIC, sender=sender)
        await runtime.stop_when_idle()

        assert "1 agents" in repr(runtime)


async def test_row_51_a_message_that_is_cancelled_in_the_queue_is_not_handled() -> None:
    runtime = SingleThreadedAgentRuntime()
    agent_id = await add(runtime, "agent")
    token = CancellationToken()
    called = asyncio.create_task(runtime.send_message(Number(1), agent_id, cancellation_token=token))
    await runtime.publish_message(Number(1), TOPIC, cancellation_token=token)
    await until(lambda: runtime.unprocessed_messages_count == 2)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await called
    runtime.start()
    await runtime.stop_when_idle()

    assert await seen_by(runtime, agent_id) == []


async def test_row_52_five_first_messages_build_the_agent_once() -> None:
    built = []

    async def factory() -> Scripted:
        await asyncio.sleep(0)
        built.append(Scripted())
        return built[-1]

    async with running() as runtime:
        await runtime.register_factory("agent", factory)
        await asyncio.gather(*(runtime.send_message(Number(n), ANYONE) for n in range(5)))

    assert len(built) == 1
    assert built[0].seen == [Number(n) for n in range(5)]


@pytest.mark.parametrize(
    ("agent_class", "concurrency", "most_at_once"),
    [(Scripted, None, 10), (Remembering, None, 1), (Remembering, "interleaved", 10), (Scripted, "serial", 1)],
)
async def test_row_53_agents_with_state_take_one_turn_at_a_time_and_the_others_overlap(
    agent_class: type[Scripted], concurrency: Any, most_at_once: int
) -> None:
    gate = Gate()
    async with running(concurrency=concurrency) as runtime:
        await runtime.register_factory("agent", lambda: agent_class(gate))
        calls = [asyncio.create_task(runtime.send_message(Number(n), ANYONE)) for n in range(10)]
        await until(lambda: gate.entered == most_at_once)
        gate.opened.set()

        assert await asyncio.gather(*calls) == [Number(n) for n in range(10)]
        assert gate.most_at_once == most_at_once
        assert await seen_by(runtime, ANYONE) == [Number(n) for n in range(10)]


@pytest.mark.parametrize("path", ["aba", "aa", "abcab"])
@pytest.mark.parametrize("concurrency", ["serial", "interleaved"])
async def test_row_53_a_call_chain_may_come_back_to_an_agent_that_is_in_it(path: str, concurrency: Any) -> None:
    async def call_on(agent: Scripted, message: str, ctx: MessageContext) -> str:
        if len(message) == 1:
            return message
        return message[0] + str(await agent.send_message(message[1:], AgentId(message[1], "k")))

    async with running(concurrency=concurrency) as runtime:
        for type in set(path):
            await runtime.register_factory(type, lambda: Remembering(call_on))

        assert await runtime.send_message(path, AgentId(path[0], "k")) == path


async def test_row_54_two_subscriptions_that_match_one_agent_deliver_once() -> None:
    async with running() as runtime:
        agent_id = await add(runtime, "agent")
        await runtime.add_subscription(TypePrefixSubscription("t", "agent"))
        await runtime.publish_message(Number(1), TOPIC)
        await runtime.stop_when_idle()

        assert await seen_by(runtime, agent_id) == [Number(1)]


async def test_row_55_a_registration_that_fails_can_be_repeated() -> None:
    class Opaque:
        pass

    class Handles(RoutedAgent):
        @message_handler
        async def handle(self, message: Opaque, ctx: MessageContext) -> None: ...

    async with running() as runtime:
        for _ in range(2):
            with pytest.raises(SerializationError, match="No serializers found"):
                await Handles.register(runtime, "agent", Handles)
        assert await Scripted.register(runtime, "agent", Scripted) == AgentType("agent")
        assert await runtime.send_message(Number(1), ANYONE) == Number(1)


class Particular(RoutedAgent):
    @event
    async def on_event(self, message: str, ctx: MessageContext) -> None: ...

    @message_handler(match=lambda message, ctx: message.value > 100)
    async def on_number(self, message: Number, ctx: MessageContext) -> Number:
        return message


@pytest.mark.parametrize("message", ["for events only", LoudNumber(101), Number(1)])
async def test_row_56_a_call_that_no_handler_takes_is_logged_or_refused(
    message: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as runtime:
        await Particular.register(runtime, "agent", Particular)
        with caplog.at_level(logging.INFO):
            assert await runtime.send_message(message, ANYONE) is None
    assert any("Unhandled message: " in record.getMessage() for record in caplog.records)

    async with running(strict_unhandled=True) as runtime:
        await Particular.register(runtime, "agent", Particular)
        with pytest.raises(CantHandleException, match="has no handler for"):
            await runtime.send_message(message, ANYONE)


async def test_row_57_a_default_topic_equals_a_topic_of_the_same_type_and_source() -> None:
    assert DefaultTopicId() == TopicId("default", "default")
    assert len({DefaultTopicId(), TopicId("default", "default")}) == 1


async def test_row_58_callbacks_of_a_token_may_use_it_and_may_fail() -> None:
    token = CancellationToken()
    ran = []
    token.add_callback(lambda: token.add_callback(lambda: ran.append(bool(token.is_cancelled))))
    token.add_callback(lambda: next(iter([])))
    token.add_callback(lambda: ran.append("last"))

    async with running() as runtime:
        agent_id = await add(runtime, "agent", Gate())
        called = asyncio.create_task(runtime.send_message(Number(1), agent_id, cancellation_token=token))
        await until(lambda: "1 agents" in repr(runtime))
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await called
        (gate,) = [agent._handle for agent in runtime._catalog.live_agents() if isinstance(agent, Scripted)]
        assert isinstance(gate, Gate)
        gate.opened.set()

    assert ran == [True, "last"]


async def test_row_59_serialized_fields_come_back_as_the_classes_that_they_were_declared_with() -> None:
    basket = Basket([Number(1)], Number(2), {"a": Number(3)})
    async with running(serialize_messages=True) as runtime:
        agent_id = await add(runtime, "agent")

        assert await runtime.send_message(basket, agent_id) == basket
        (received,) = await seen_by(runtime, agent_id)
        assert received == basket
        assert received is not basket


@pytest.mark.parametrize("isolated", [False, True])
async def test_row_60_a_change_by_one_recipient_is_seen_by_the_others_unless_messages_are_serialized(
    isolated: bool,
) -> None:
    async def change(agent: Scripted, message: Basket, ctx: MessageContext) -> None:
        message.numbers.append(Number(len(message.numbers)))

    published = Basket([])
    async with running(serialize_messages=isolated) as runtime:
        first, second = await add(runtime, "first", change), await add(runtime, "second", change)
        await runtime.publish_message(published, TOPIC)
        await runtime.stop_when_idle()
        (by_first,), (by_second,) = await seen_by(runtime, first), await seen_by(runtime, second)

    assert (by_first is published) is not isolated
    assert (by_first is by_second) is not isolated
    assert len(published.numbers) == (0 if isolated else 2)
    assert len(by_second.numbers) == (1 if isolated else 2)


@pytest.mark.parametrize("policy", ["warn", "error", "ignore"])
async def test_row_61_a_closure_of_any_is_called_under_every_policy(policy: UnknownTypePolicy) -> None:
    async def closure(ctx: ClosureContext, message: Any, context: MessageContext) -> Any:
        return message

    async with running() as runtime:
        await ClosureAgent.register_closure(runtime, "agent", closure, unknown_type_policy=policy)

        assert await runtime.send_message(Number(1), ANYONE) == Number(1)


async def test_row_62_messages_and_topics_leave_nothing_behind() -> None:
    async with running() as runtime:
        # One agent for all sources, so that only what the runtime keeps of topics and messages could grow.
        class ToOne(TypeSubscription):
            def map_to_agent(self, topic_id: TopicId) -> AgentId:
                return ANYONE

        await runtime.register_factory("agent", lambda: Scripted(_discard))
        await runtime.add_subscription(ToOne("t", "agent"))

        async def publish(sources: range) -> int:
            for source in sources:
                await runtime.publish_message(Number(source), TopicId("t", f"source-{source}"))
                if source % 100 == 0:
                    await runtime.send_message(Number(source), ANYONE, cancellation_token=CancellationToken())
            await runtime.stop_when_idle()
            runtime.start()
            gc.collect()
            return len(gc.get_objects())

        before = await publish(range(1_000))
        after = await publish(range(1_000, 11_000))

    assert after - before < 500


async def _discard(agent: Scripted, message: Any, ctx: MessageContext) -> None:
    agent.seen.clear()
