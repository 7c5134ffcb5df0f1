import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider

from hivewire.agents.base import BaseAgent
from hivewire.agents.proxy import AgentProxy
from hivewire.exceptions import (
    AgentNotFoundError,
    DeadlineExceededError,
    RuntimeStateError,
    SerializationError,
    SubscriptionNotFoundError,
    UndeliverableException,
)
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model import grace
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext, MessageHandlerContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.runtime import AgentRuntime, TypeRegistrar
from hivewire.model.serialization import UnknownPayload
from hivewire.model.serializer_registry import Encoded
from hivewire.model.subscriptions import Subscription, TypeSubscription
from hivewire.model.topics import DefaultTopicId, TopicId

TOPIC = TopicId("t", "s")
AGENT = AgentId("agent", "s")


@dataclass
class Number:
    value: int


Handle = Callable[["Scripted", Any, MessageContext], Awaitable[Any]]


class Scripted(BaseAgent):
    """An agent that does what the test says, and notes what it got."""

    def __init__(self, handle: Handle | None = None) -> None:
        super().__init__("scripted")
        self._handle = handle
        self.seen: list[Any] = []
        self.contexts: list[MessageContext] = []
        self.closed = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.seen.append(message)
        self.contexts.append(ctx)
        return message if self._handle is None else await self._handle(self, message, ctx)

    async def close(self) -> None:
        self.closed += 1


class Remembering(Scripted):
    async def save_state(self) -> Mapping[str, Any]:
        return {"seen": list(self.seen)}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["seen"])


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[SingleThreadedAgentRuntime]:
    """A started runtime; everything in the body has five seconds."""
    runtime = SingleThreadedAgentRuntime(**options)
    runtime.start()
    async with asyncio.timeout(5):
        yield runtime
        if "stopped" not in repr(runtime):
            await runtime.stop()


async def add(runtime: SingleThreadedAgentRuntime, type: str = "agent", handle: Handle | None = None) -> AgentId:
    """Register a scripted agent type, subscribed to topic type `t`."""
    await runtime.register_factory(type, lambda: Scripted(handle))
    await runtime.add_subscription(TypeSubscription("t", type))
    return AgentId(type, "s")


async def the(runtime: SingleThreadedAgentRuntime, agent_id: AgentId) -> Scripted:
    return await runtime.try_get_underlying_agent_instance(agent_id, Scripted)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class Gate:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.entered += 1
        await self.opened.wait()
        return message


def test_it_is_an_agent_runtime() -> None:
    runtime = SingleThreadedAgentRuntime()

    assert isinstance(runtime, AgentRuntime)
    assert isinstance(runtime, TypeRegistrar)


class TestCalls:
    async def test_the_caller_gets_the_very_object_that_the_handler_returns(self) -> None:
        async with running() as runtime:
            message = Number(1)

            assert await runtime.send_message(message, await add(runtime)) is message

    async def test_none_is_an_answer(self) -> None:
        async def nothing(agent: Scripted, message: Any, ctx: MessageContext) -> None: ...

        async with running() as runtime:
            assert await runtime.send_message("x", await add(runtime, handle=nothing)) is None

    @pytest.mark.parametrize("error", [ValueError(), KeyError("x"), KeyboardInterrupt(), SystemExit(3)])
    async def test_the_caller_gets_the_very_exception_that_the_handler_raises(self, error: BaseException) -> None:
        async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            raise error

        async with running() as runtime:
            with pytest.raises(type(error)) as caught:
                await runtime.send_message("x", await add(runtime, handle=fail))
            assert caught.value is error

    async def test_the_caller_gets_what_the_factory_raises_and_the_next_call_builds_again(self) -> None:
        outcomes: list[Any] = [ValueError("boom"), None]

        def factory() -> Scripted:
            if error := outcomes.pop(0):
                raise error
            return Scripted()

        async with running() as runtime:
            await runtime.register_factory("agent", factory)
            with pytest.raises(ValueError, match="boom"):
                await runtime.send_message("x", AGENT)
            assert await runtime.send_message("x", AGENT) == "x"

    async def test_the_handler_learns_where_the_message_comes_from(self) -> None:
        token = CancellationToken()
        sender = AgentId("sender", "k")
        async with running() as runtime:
            agent_id = await add(runtime)
            await runtime.send_message("x", agent_id, sender=sender, cancellation_token=token, message_id="7")
            await runtime.send_message("x", agent_id)
            await runtime.publish_message("x", TOPIC, sender=sender, message_id="8")
            await runtime.stop_when_idle()
            call, anonymous, event = (await the(runtime, agent_id)).contexts

        # The token is the handler's own: the caller's may serve other calls.
        assert call == MessageContext(sender, None, True, call.cancellation_token, "7")
        assert call.cancellation_token is not token
        assert (anonymous.sender, anonymous.topic_id, anonymous.is_rpc) == (None, None, True)
        assert anonymous.message_id
        assert (event.sender, event.topic_id, event.is_rpc, event.message_id) == (sender, TOPIC, False, "8")

    async def test_generated_message_ids_differ(self) -> None:
        async with running() as first, running() as second:
            contexts = []
            for runtime in (first, second):
                agent_id = await add(runtime)
                for _ in range(10):
                    await runtime.send_message("x", agent_id)
                contexts += (await the(runtime, agent_id)).contexts

        assert len({context.message_id for context in contexts}) == 20

    async def test_handlers_know_their_agent_and_nothing_of_the_senders_context(self) -> None:
        variable: ContextVar[str] = ContextVar("variable", default="default")
        seen = []

        async def look(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            seen.append((MessageHandlerContext.agent_id(), DefaultTopicId().source, variable.get()))
            variable.set("changed by a handler")

        async with running() as runtime:
            agent_id = await add(runtime, handle=look)
            variable.set("changed by the sender")
            await runtime.send_message("x", agent_id)
            await runtime.publish_message("x", TOPIC)
            await runtime.stop_when_idle()

        assert seen == [(agent_id, "s", "default")] * 2
        with pytest.raises(RuntimeError):
            MessageHandlerContext.agent_id()

    async def test_messages_start_in_the_order_in_which_they_were_sent(self) -> None:
        async def factory() -> Scripted:
            await asyncio.sleep(0)
            return Scripted()

        async with running() as runtime:
            await runtime.register_factory("agent", factory)
            async with asyncio.TaskGroup() as group:
                for number in range(500):
                    group.create_task(runtime.send_message(number, AGENT))

            assert (await the(runtime, AGENT)).seen == list(range(500))

    async def test_what_a_handler_published_has_started_when_its_caller_gets_the_answer(self) -> None:
        async def publish(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            for number in range(3):
                await agent.publish_message(number, TOPIC)
            return "done"

        async with running() as runtime:
            watcher = await add(runtime, "watcher")
            await the(runtime, watcher)
            await runtime.register_factory("publisher", lambda: Scripted(publish))

            assert await runtime.send_message("go", AgentId("publisher", "k")) == "done"
            assert (await the(runtime, watcher)).seen == [0, 1, 2]

    async def test_agents_may_call_each_other_and_a_proxy_calls_in_their_name(self) -> None:
        async def forward(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            direct = await agent.send_message(message, AgentId("inner", "s"))
            return [direct, await AgentProxy(AgentId("inner", "s"), agent.runtime).send(message)]

        async with running() as runtime:
            outer, inner = await add(runtime, "outer", forward), await add(runtime, "inner")

            assert await runtime.send_message("x", outer) == ["x", "x"]
            assert [context.sender for context in (await the(runtime, inner)).contexts] == [outer, outer]

    async def test_an_agent_that_is_false_is_an_agent(self) -> None:
        class Empty(Scripted):
            def __len__(self) -> int:
                return 0

        async with running() as runtime:
            await runtime.register_factory("agent", Empty)
            for _ in range(2):
                await runtime.send_message("x", AGENT)

            assert (await the(runtime, AGENT)).seen == ["x", "x"]


class TestTimeouts:
    @pytest.mark.parametrize("given", ["call", "runtime"])
    async def test_a_call_ends_at_its_deadline_and_its_handler_is_told(self, given: str) -> None:
        gate = Gate()
        async with running(default_timeout=0.01 if given == "runtime" else None) as runtime:
            agent_id = await add(runtime, handle=gate)
            with pytest.raises(DeadlineExceededError, match=r"timeout of 0.01 s for a call to agent/s .* had started"):
                await runtime.send_message("x", agent_id, timeout=0.01 if given == "call" else None)
            (context,) = (await the(runtime, agent_id)).contexts
            assert context.cancellation_token.is_cancelled
            gate.opened.set()

    async def test_a_call_that_waits_ends_at_its_deadline_and_is_not_handled(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        agent_id = await add(runtime)
        with pytest.raises(DeadlineExceededError, match="it had not started") as caught:
            await runtime.send_message("x", agent_id, timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, UndeliverableException)
        runtime.start()
        await runtime.stop_when_idle()

        assert (await the(runtime, agent_id)).seen == []

    async def test_a_deadline_does_not_cancel_the_callers_token_but_the_token_reaches_the_handler(self) -> None:
        gate, token = Gate(), CancellationToken()
        async with running() as runtime:
            agent_id = await add(runtime, handle=gate)
            with pytest.raises(DeadlineExceededError):
                await runtime.send_message("x", agent_id, cancellation_token=token, timeout=0.01)
            assert not token.is_cancelled

            called = asyncio.create_task(runtime.send_message("x", agent_id, cancellation_token=token, timeout=60))
            await until(lambda: gate.entered == 2)
            token.cancel()
            with pytest.raises(asyncio.CancelledError):
                await called
            assert (await the(runtime, agent_id)).contexts[1].cancellation_token.is_cancelled
            gate.opened.set()

    async def test_an_answer_in_time_is_an_answer(self) -> None:
        async with running(default_timeout=60) as runtime:
            assert await runtime.send_message("x", await add(runtime)) == "x"


class TestCancellation:
    async def test_the_caller_is_released_at_once_and_the_handler_sees_its_token(self) -> None:
        gate, token = Gate(), CancellationToken()
        async with running() as runtime:
            agent_id = await add(runtime, handle=gate)
            called = asyncio.create_task(runtime.send_message("x", agent_id, cancellation_token=token))
            await until(lambda: gate.entered == 1)
            token.cancel()
            with pytest.raises(asyncio.CancelledError):
                await called
            assert (await the(runtime, agent_id)).contexts[0].cancellation_token.is_cancelled
            gate.opened.set()

    async def test_a_future_that_the_handler_linked_ends_it(self) -> None:
        ended = []

        async def wait(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            forever: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            ctx.cancellation_token.link_future(forever)
            try:
                await forever
            finally:
                ended.append(True)

        token = CancellationToken()
        async with running() as runtime:
            agent_id = await add(runtime, handle=wait)
            called = asyncio.create_task(runtime.send_message("x", agent_id, cancellation_token=token))
            await until(lambda: "1 agents" in repr(runtime))
            token.cancel()
            with pytest.raises(asyncio.CancelledError):
                await called
            await runtime.stop_when_idle()

        assert ended == [True]

    async def test_cancelling_the_calling_task_reaches_the_handler(self) -> None:
        gate = Gate()
        async with running() as runtime:
            agent_id = await add(runtime, handle=gate)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(runtime.send_message("x", agent_id), 0.01)
            assert (await the(runtime, agent_id)).contexts[0].cancellation_token.is_cancelled
            gate.opened.set()

    async def test_a_handler_that_raises_cancelled_error_cancels_the_call(self) -> None:
        async def cancel(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            raise asyncio.CancelledError

        async with running() as runtime:
            agent_id = await add(runtime, handle=cancel)
            with pytest.raises(asyncio.CancelledError):
                await runtime.send_message("x", agent_id)
            await runtime.publish_message("x", TOPIC)
            await runtime.stop_when_idle()

    async def test_a_token_that_is_cancelled_before_the_call_prevents_it(self) -> None:
        token = CancellationToken()
        token.cancel()
        async with running() as runtime:
            agent_id = await add(runtime)
            with pytest.raises(asyncio.CancelledError):
                await runtime.send_message("x", agent_id, cancellation_token=token)
            await runtime.stop_when_idle()
            assert (await the(runtime, agent_id)).seen == []

    async def test_a_cancelled_call_that_waits_for_its_turn_is_not_handled(self) -> None:
        gate, token = Gate(), CancellationToken()
        async with running(concurrency="serial") as runtime:
            agent_id = await add(runtime, handle=gate)
            first = asyncio.create_task(runtime.send_message(1, agent_id))
            second = asyncio.create_task(runtime.send_message(2, agent_id, cancellation_token=token))
            third = asyncio.create_task(runtime.send_message(3, agent_id))
            await until(lambda: runtime.unprocessed_messages_count == 2)
            token.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            gate.opened.set()

            assert await asyncio.gather(first, third) == [1, 3]
            assert (await the(runtime, agent_id)).seen == [1, 3]

    async def test_an_error_after_the_caller_has_gone_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        token = CancellationToken()

        async def cancel_and_fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            token.cancel()
            raise ValueError("boom")

        async with running() as runtime:
            agent_id = await add(runtime, handle=cancel_and_fail)
            with caplog.at_level(logging.ERROR), pytest.raises(asyncio.CancelledError):
                await runtime.send_message("x", agent_id, cancellation_token=token)

        assert "The caller had gone when str for agent/s failed" in caplog.text

    async def test_the_end_of_a_handlers_task_before_its_first_step_ends_the_call(self) -> None:
        async with running() as runtime:
            agent_id = await add(runtime)
            called = asyncio.create_task(runtime.send_message("x", agent_id))
            tasks = runtime._dispatcher._tasks
            await until(lambda: bool(tasks))
            next(iter(tasks)).cancel()
            with pytest.raises(asyncio.CancelledError):
                await called
            await runtime.stop_when_idle()


class TestEvents:
    async def test_every_subscriber_gets_it_but_not_the_one_that_published_it(self) -> None:
        async def publish(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.publish_message("event", TOPIC)

        async with running() as runtime:
            publisher = await add(runtime, "publisher", publish)
            others = [await add(runtime, type) for type in ("a", "b")]
            await runtime.send_message("go", publisher)
            await runtime.stop_when_idle()

            assert (await the(runtime, publisher)).seen == ["go"]
            assert [(await the(runtime, other)).seen for other in others] == [["event"], ["event"]]

    async def test_another_key_of_the_publishing_type_gets_it(self) -> None:
        async with running() as runtime:
            await add(runtime)
            await runtime.publish_message("event", TOPIC, sender=AgentId("agent", "elsewhere"))
            await runtime.stop_when_idle()

            assert (await the(runtime, AGENT)).seen == ["event"]

    async def test_a_handlers_error_is_logged_and_not_raised(self, caplog: pytest.LogCaptureFixture) -> None:
        async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            raise ValueError("boom")

        async with running() as runtime:
            await add(runtime, handle=fail)
            with caplog.at_level(logging.ERROR):
                await runtime.publish_message("secret", TOPIC)
                await runtime.stop_when_idle()

        (record,) = caplog.records
        assert record.getMessage() == "Error processing publish message for agent/s"
        assert record.name.startswith("hivewire")
        assert record.exc_info is not None
        assert isinstance(record.exc_info[1], ValueError)

    async def test_one_that_nobody_subscribes_to_is_counted_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        async with running() as runtime:
            with caplog.at_level(logging.INFO):
                await runtime.publish_message(Number(1), TOPIC)
                await runtime.stop_when_idle()
            assert runtime.unrouted_messages_count == 1

        assert "Unrouted: Number published to t/s has no subscriber" in caplog.text

    async def test_a_cascade_ends(self) -> None:
        class Cascading(Scripted):
            async def on_message_impl(self, message: Any, ctx: MessageContext) -> None:
                self.seen.append(message)
                if message < 5:
                    await self.publish_message(message + 1, TOPIC)

        async with running() as runtime:
            for number in range(5):
                await runtime.register_factory(f"agent{number}", Cascading)
                await runtime.add_subscription(TypeSubscription("t", f"agent{number}"))
            for _ in range(5):
                await runtime.publish_message(1, TOPIC)
            await runtime.stop_when_idle()

            counts = {len((await the(runtime, AgentId(f"agent{number}", "s"))).seen) for number in range(5)}

        assert counts == {5 * sum(4**depth for depth in range(5))}

    async def test_a_subscription_that_fails_fails_no_other_publish(self, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(TypeSubscription):
            def map_to_agent(self, topic_id: TopicId) -> AgentId:
                raise ValueError("boom")

        async with running() as runtime:
            broken = Broken("t", "agent")
            await runtime.add_subscription(broken)
            await runtime.publish_message("x", TOPIC)
            await asyncio.sleep(0)
            await runtime.remove_subscription(broken.id)
            agent_id = await add(runtime)
            await runtime.publish_message("y", TOPIC)
            await runtime.stop_when_idle()

            assert (await the(runtime, agent_id)).seen == ["y"]

    async def test_a_subscription_of_ones_own_class_works(self) -> None:
        class Everything:
            id = "everything"

            def is_match(self, topic_id: TopicId) -> bool:
                return True

            def map_to_agent(self, topic_id: TopicId) -> AgentId:
                return AGENT

        async with running() as runtime:
            await runtime.register_factory("agent", Scripted)
            await runtime.add_subscription(cast(Subscription, Everything()))
            await runtime.publish_message("x", TopicId("any", "where"))
            await runtime.stop_when_idle()

            assert (await the(runtime, AGENT)).seen == ["x"]


class TestSubscriptions:
    async def test_an_equal_one_is_refused(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        with pytest.raises(ValueError, match="Subscription already exists"):
            await runtime.add_subscription(TypeSubscription("t", "agent"))

    async def test_a_removed_one_matches_no_more_and_is_unknown(self) -> None:
        async with running() as runtime:
            subscription = TypeSubscription("t", "agent")
            await runtime.register_factory("agent", Scripted)
            await runtime.add_subscription(subscription)
            await runtime.remove_subscription(subscription.id)
            await runtime.publish_message("x", TOPIC)
            with pytest.raises(SubscriptionNotFoundError) as caught:
                await runtime.remove_subscription(subscription.id)
            await runtime.stop_when_idle()

            assert isinstance(caught.value, LookupError)
            assert isinstance(caught.value, ValueError)
            assert runtime.unrouted_messages_count == 1


class TestAgents:
    async def test_a_type_is_registered_once(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        assert await runtime.register_factory("agent", Scripted) == AgentType("agent")
        with pytest.raises(ValueError, match="already exists"):
            await runtime.register_factory(AgentType("agent"), Scripted)
        with pytest.raises(ValueError, match="Invalid agent type"):
            await runtime.register_factory(AgentType("a b"), Scripted)

    async def test_the_expected_class_is_checked_when_an_agent_is_built(self) -> None:
        async with running() as runtime:
            await runtime.register_factory("agent", lambda: cast(Remembering, Scripted()), expected_class=Remembering)
            with pytest.raises(ValueError, match="expected Remembering, got Scripted"):
                await runtime.send_message("x", AGENT)

    async def test_an_agent_object_can_be_asked_for(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await add(runtime)

        assert await runtime.try_get_underlying_agent_instance(AGENT) is await the(runtime, AGENT)
        with pytest.raises(TypeError, match="Agent agent/s is a Scripted, not a Remembering"):
            await runtime.try_get_underlying_agent_instance(AGENT, Remembering)
        with pytest.raises(LookupError, match="Recipient not found"):
            await runtime.try_get_underlying_agent_instance(AgentId("unknown", "k"))

    async def test_get_returns_ids_and_builds_only_when_told_to(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await add(runtime)

        assert await runtime.get(AgentId("unknown", "k")) == AgentId("unknown", "k")
        assert await runtime.get("agent") == AgentId("agent", "default")
        assert await runtime.get(AgentType("agent"), "k") == AgentId("agent", "k")
        assert "0 agents" in repr(runtime)
        await runtime.get("agent", "k", lazy=False)
        assert "1 agents" in repr(runtime)
        with pytest.raises(AgentNotFoundError):
            await runtime.get("unknown", lazy=False)

    async def test_an_instance_gets_the_messages_of_its_id(self) -> None:
        async with running() as runtime:
            agent = Scripted()
            assert await runtime.register_agent_instance(agent, AGENT) == AGENT
            await runtime.send_message("x", AGENT)
            assert agent.seen == ["x"]
            with pytest.raises(ValueError, match="already exists"):
                await runtime.register_agent_instance(Scripted(), AGENT)
            with pytest.raises(AgentNotFoundError):
                await runtime.send_message("x", AgentId("agent", "other"))

    async def test_metadata_names_the_agent(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await add(runtime)

        assert await runtime.agent_metadata(AGENT) == {"type": "agent", "key": "s", "description": "scripted"}
        with pytest.raises(AgentNotFoundError):
            await runtime.agent_metadata(AgentId("unknown", "k"))


class TestState:
    async def test_states_move_from_one_runtime_to_another(self) -> None:
        async with running() as first:
            await first.register_factory("agent", Remembering)
            await first.register_factory("forgetful", Scripted)
            await first.send_message("x", AGENT)
            await first.send_message("x", AgentId("forgetful", "s"))
            state = await first.save_state()
        assert state == {"agent/s": {"seen": ["x"]}}

        second = SingleThreadedAgentRuntime()
        await second.register_factory("agent", Remembering)
        await second.load_state({**state, "unknown/k": {"seen": []}})

        assert (await the(second, AGENT)).seen == ["x"]
        assert await second.agent_save_state(AGENT) == {"seen": ["x"]}

    async def test_the_state_of_one_agent_can_be_set(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("agent", Remembering)
        await runtime.agent_load_state(AGENT, {"seen": [1]})

        assert await runtime.agent_save_state(AGENT) == {"seen": [1]}
        for unknown in (runtime.agent_save_state, lambda id: runtime.agent_load_state(id, {})):
            with pytest.raises(AgentNotFoundError):
                await unknown(AgentId("unknown", "k"))


class TestOptions:
    async def test_strict_ids_narrow_what_an_id_may_be(self) -> None:
        async with running(strict_ids=True) as runtime:
            with pytest.raises(ValueError, match="strict_ids"):
                await runtime.register_factory("my.agent", Scripted)
            with pytest.raises(ValueError, match="strict_ids"):
                await runtime.register_agent_instance(Scripted(), AgentId("single", "ü"))
            agent_id = await add(runtime)
            with pytest.raises(ValueError, match="strict_ids"):
                await runtime.send_message("x", AgentId("agent", "tab\t"))
            with pytest.raises(ValueError, match="strict_ids"):
                await runtime.publish_message("x", TopicId("t", "ü"))
            assert await runtime.send_message("x", agent_id) == "x"

    async def test_wide_ids_are_fine_otherwise(self) -> None:
        async with running() as runtime:
            await runtime.register_factory("my.agent-ü", Scripted)
            for key in ("", "a/b\n", "🙂" * 300):
                assert await runtime.send_message("x", AgentId("my.agent-ü", key)) == "x"

    async def test_another_concurrency_is_refused(self) -> None:
        with pytest.raises(ValueError, match="runtime option `concurrency` must be"):
            SingleThreadedAgentRuntime(concurrency=cast(Any, "parallel"))

    async def test_a_class_that_is_serial_is_so_under_the_default_option(self) -> None:
        class Serial(Scripted):
            concurrency = "serial"

        gate = Gate()
        async with running() as runtime:
            await runtime.register_factory("agent", lambda: Serial(gate))
            calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(3)]
            await until(lambda: runtime.unprocessed_messages_count == 2)
            assert gate.entered == 1
            gate.opened.set()
            assert await asyncio.gather(*calls) == [0, 1, 2]


class TestSerializedMessages:
    async def test_what_cannot_be_serialized_is_an_error_before_sending(self) -> None:
        async with running(serialize_messages=True) as runtime:
            agent_id = await add(runtime)
            for message in (object(), {1, 2}.__iter__()):
                with pytest.raises(SerializationError):
                    await runtime.send_message(message, agent_id)
                with pytest.raises(SerializationError):
                    await runtime.publish_message(message, TOPIC)
            await runtime.stop_when_idle()

    async def test_an_answer_that_cannot_be_serialized_is_an_error(self) -> None:
        async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> object:
            return object()

        async with running(serialize_messages=True) as runtime:
            with pytest.raises(SerializationError):
                await runtime.send_message("x", await add(runtime, handle=answer))

    async def test_the_sender_may_change_the_message_afterwards(self) -> None:
        async with running(serialize_messages=True) as runtime:
            agent_id = await add(runtime)
            message = Number(1)
            await runtime.publish_message(message, TOPIC)
            message.value = 2
            await runtime.stop_when_idle()

            assert (await the(runtime, agent_id)).seen == [Number(1)]


class TestUnknownTypes:
    async def send(self, *, strict_payloads: bool) -> Any:
        async with running(serialize_messages=True, strict_payloads=strict_payloads) as runtime:
            agent_id = await add(runtime)
            # As if the message came from a process that has classes which this one does not have.
            unknown = Encoded("nobody.knows", "application/json", b"{}")
            runtime._serializers.encode = lambda message: unknown  # type: ignore[method-assign]
            return await runtime.send_message("x", agent_id)

    async def test_they_arrive_as_unknown_payloads_with_a_warning(self) -> None:
        with pytest.warns(RuntimeWarning, match="No serializer can decode"):
            assert await self.send(strict_payloads=False) == UnknownPayload("nobody.knows", "application/json", b"{}")

    async def test_with_strict_payloads_they_are_an_error(self) -> None:
        with pytest.raises(SerializationError, match="No serializer can decode"):
            await self.send(strict_payloads=True)


async def test_it_says_what_it_holds() -> None:
    async with running() as runtime:
        await runtime.send_message("x", await add(runtime))

        assert repr(runtime) == "<SingleThreadedAgentRuntime running, 1 types, 1 agents, 0 messages waiting>"
    with pytest.raises(RuntimeStateError):
        await runtime.stop()


class TestTokens:
    async def test_of_one_event_are_its_handlers_own_and_follow_the_publishers(self) -> None:
        gate, token = Gate(), CancellationToken()
        async with running() as runtime:
            agents = [await add(runtime, type, gate) for type in ("one", "other")]
            await runtime.publish_message("x", TOPIC, cancellation_token=token)
            await until(lambda: gate.entered == 2)
            contexts = [(await the(runtime, agent_id)).contexts[0] for agent_id in agents]
            assert contexts[0].cancellation_token is not contexts[1].cancellation_token
            contexts[0].cancellation_token.cancel()
            assert not contexts[1].cancellation_token.is_cancelled
            await asyncio.to_thread(token.cancel)
            await until(lambda: bool(contexts[1].cancellation_token.is_cancelled))
            gate.opened.set()

    @pytest.mark.parametrize("traced", [False, True])
    async def test_of_an_event_that_are_ignored_leave_the_handler_behind(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, traced: bool
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.05)
        token, free, entered = CancellationToken(), asyncio.Event(), asyncio.Event()

        async def stubborn(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            entered.set()
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    pass
            raise ValueError("boom")

        async with running(tracer_provider=TracerProvider() if traced else None) as runtime:
            await add(runtime, handle=stubborn)
            await runtime.publish_message("x", TOPIC, cancellation_token=token)
            await entered.wait()
            token.cancel()
            await runtime.stop_when_idle()
            assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
            assert all("agent/s" in record.getMessage() for record in caplog.records)
            free.set()
            await until(lambda: not runtime._dispatcher._tasks)

    async def test_that_serve_many_messages_keep_none_of_them(self) -> None:
        token = CancellationToken()
        async with running() as runtime:
            agent_id = await add(runtime)
            for _ in range(500):
                await runtime.send_message("x", agent_id, cancellation_token=token)
                await runtime.publish_message("x", TOPIC, cancellation_token=token)
            await runtime.stop_when_idle()

        assert len(token._links) <= 64

    async def test_of_handlers_that_call_a_lot_keep_none_of_the_calls(self) -> None:
        links = []

        async def call_often(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            for _ in range(100):
                await agent.send_message("x", AgentId("other", "s"))
            links.append(len(ctx.cancellation_token._links))

        async with running() as runtime:
            await add(runtime, "other")
            await runtime.send_message("x", await add(runtime, handle=call_often))

        assert links == [0]
