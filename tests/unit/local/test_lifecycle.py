import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.exceptions import RuntimeStateError
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.interventions import DefaultInterventionHandler
from hivewire.model.subscriptions import TypeSubscription
from hivewire.model.topics import TopicId

TOPIC = TopicId("t", "s")
AGENT = AgentId("agent", "s")

Handle = Callable[["Scripted", Any], Awaitable[Any]]
pytestmark = pytest.mark.timeout(10)


class Scripted(BaseAgent):
    """An agent that does what the test says, and notes what it got."""

    def __init__(self, handle: Handle | None = None) -> None:
        super().__init__("scripted")
        self._handle = handle
        self.seen: list[Any] = []
        self.closed = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.seen.append(message)
        return message if self._handle is None else await self._handle(self, message)

    async def close(self) -> None:
        self.closed += 1


class Gate:
    """A handler that waits to be let go."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.entered = 0

    async def __call__(self, agent: Scripted, message: Any) -> Any:
        self.entered += 1
        await self.opened.wait()
        return message


async def made(handle: Handle | None = None, **options: Any) -> SingleThreadedAgentRuntime:
    runtime = SingleThreadedAgentRuntime(**options)
    await runtime.register_factory("agent", lambda: Scripted(handle))
    await runtime.add_subscription(TypeSubscription("t", "agent"))
    return runtime


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


class TestStarting:
    async def test_start_may_be_awaited_and_need_not_be(self) -> None:
        runtime = await made()
        started = runtime.start()
        assert inspect.isawaitable(started)
        assert await started is None  # type: ignore[func-returns-value]
        await started
        await runtime.stop()
        await runtime.start()
        await runtime.stop()

    async def test_a_second_start_is_an_error(self) -> None:
        runtime = await made()
        runtime.start()
        with pytest.raises(RuntimeStateError, match="already started"):
            runtime.start()
        await runtime.stop()

    async def test_messages_sent_before_the_start_wait_for_it(self) -> None:
        runtime = await made()
        await runtime.publish_message("first", TOPIC)
        called = asyncio.create_task(runtime.send_message("second", AGENT))
        await until(lambda: runtime.unprocessed_messages_count == 2)
        runtime.start()

        assert await called == "second"
        await runtime.stop_when_idle()
        assert (await runtime.try_get_underlying_agent_instance(AGENT, Scripted)).seen == ["first", "second"]

    def test_a_runtime_may_be_used_on_one_loop_after_the_other(self) -> None:
        runtime = SingleThreadedAgentRuntime()

        async def use() -> Any:
            if "agent" not in runtime._catalog.types():
                await runtime.register_factory("agent", Scripted)
            runtime.start()
            answer = await runtime.send_message("x", AGENT)
            await runtime.stop()
            return answer

        assert [asyncio.run(use()), asyncio.run(use())] == ["x", "x"]

    async def test_many_messages_at_once_let_other_callbacks_have_their_turn(self) -> None:
        gate = Gate()
        runtime = await made(gate)
        for number in range(1000):
            await runtime.publish_message(number, TOPIC)
        runtime.start()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        assert 0 < gate.entered < 1000
        gate.opened.set()
        await runtime.stop_when_idle()
        assert gate.entered == 1000


class TestStopping:
    @pytest.mark.parametrize("stop", ["stop", "stop_when_idle", "stop_when"])
    async def test_a_runtime_that_is_not_started_cannot_be_stopped(self, stop: str) -> None:
        runtime = await made()
        with pytest.raises(RuntimeStateError, match="not started"):
            await (runtime.stop_when(lambda: True) if stop == "stop_when" else getattr(runtime, stop)())

    async def test_a_handler_that_runs_may_finish_and_publish_but_not_call(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        gate, results = Gate(), []

        async def work(agent: Scripted, message: Any) -> Any:
            await gate(agent, message)
            await agent.publish_message("too late", TOPIC)
            try:
                await agent.send_message("too late", AgentId("agent", "other"))
            except RuntimeStateError as error:
                results.append(str(error))
            return "done"

        runtime = await made(work)
        runtime.start()
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        stopping = asyncio.create_task(runtime.stop())
        await until(lambda: "stopping" in repr(runtime))
        gate.opened.set()
        with caplog.at_level(logging.WARNING):
            await stopping

        assert await called == "done"
        assert results == ["The runtime is stopping and takes no more messages"]
        assert "Dropped str published to t/s: the runtime is stopping" in caplog.text

    async def test_dropped_events_are_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        runtime = await made()
        runtime.start()
        await runtime.publish_message("x", TOPIC)
        with caplog.at_level(logging.WARNING):
            await runtime.stop()

        assert "Dropped str published to t/s: The runtime stopped before the message was handled" in caplog.text

    async def test_messages_that_wait_for_their_turn_are_refused_too(self, caplog: pytest.LogCaptureFixture) -> None:
        gate = Gate()
        runtime = await made(gate, concurrency="serial")
        runtime.start()
        first = asyncio.create_task(runtime.send_message(1, AGENT))
        await until(lambda: gate.entered == 1)
        second = asyncio.create_task(runtime.send_message(2, AGENT))
        await runtime.publish_message(3, TOPIC)
        await until(lambda: runtime.unprocessed_messages_count == 2)
        with caplog.at_level(logging.WARNING):
            stopping = asyncio.create_task(runtime.stop())
            with pytest.raises(RuntimeStateError, match="stopped before"):
                await second
            gate.opened.set()
            await stopping

        assert await first == 1
        assert gate.entered == 1
        assert "Dropped int published to t/s for agent/s" in caplog.text

    async def test_messages_sent_after_a_stop_wait_for_the_next_start(self) -> None:
        runtime = await made()
        runtime.start()
        await runtime.stop()
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: runtime.unprocessed_messages_count == 1)
        runtime.start()

        assert await called == "x"
        await runtime.stop()

    @pytest.mark.parametrize("intercepted", [False, True])
    async def test_nothing_is_handled_between_a_stop_and_the_next_start(self, intercepted: bool) -> None:
        handlers = [DefaultInterventionHandler()] if intercepted else None
        runtime = await made(intervention_handlers=handlers)
        runtime.start()
        await runtime.publish_message("dropped", TOPIC)
        await runtime.stop()
        await runtime.publish_message("kept", TOPIC)
        for _ in range(5):
            await asyncio.sleep(0)
        assert runtime.unprocessed_messages_count == 1
        runtime.start()
        await runtime.stop_when_idle()

        assert (await runtime.try_get_underlying_agent_instance(AGENT, Scripted)).seen == ["kept"]

    async def test_several_may_stop_it_at_once(self) -> None:
        gate = Gate()
        runtime = await made(gate)
        runtime.start()
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        stops = [asyncio.create_task(stop()) for stop in (runtime.stop_when_idle, runtime.stop, runtime.stop)]
        await until(lambda: "stopping" in repr(runtime))
        gate.opened.set()

        await asyncio.gather(*stops)
        assert await called == "x"

    async def test_a_stop_that_is_cancelled_leaves_a_runtime_that_can_start(self) -> None:
        gate = Gate()
        runtime = await made(gate)
        runtime.start()
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runtime.stop(), 0.01)
        runtime.start()
        gate.opened.set()

        assert await called == "x"
        assert await runtime.send_message("y", AGENT) == "y"
        await runtime.stop()

    @pytest.mark.parametrize("stop", ["stop", "stop_when_idle", "close"])
    async def test_a_handler_may_stop_the_runtime_that_runs_it(self, stop: str) -> None:
        async def stop_it(agent: Scripted, message: Any) -> str:
            await getattr(agent.runtime, stop)()
            return "stopped"

        async def forward(agent: Scripted, message: Any) -> Any:
            return await agent.send_message(message, AGENT)

        runtime = await made(stop_it)
        await runtime.register_factory("outer", lambda: Scripted(forward))
        runtime.start()

        assert await runtime.send_message("x", AgentId("outer", "k")) == "stopped"
        assert "stopped" in repr(runtime)

    async def test_two_handlers_that_stop_it_do_not_wait_for_each_other(self) -> None:
        async def stop_it(agent: Scripted, message: Any) -> str:
            await agent.runtime.stop_when_idle()  # type: ignore[attr-defined]
            return "stopped"

        runtime = await made(stop_it)
        runtime.start()
        calls = [runtime.send_message("x", AgentId("agent", key)) for key in ("a", "b")]

        assert await asyncio.gather(*calls) == ["stopped", "stopped"]

    async def test_a_handler_may_stop_another_runtime_while_it_runs(self) -> None:
        other = await made()
        other.start()

        async def stop_other(agent: Scripted, message: Any) -> str:
            await other.publish_message("x", TOPIC)
            await other.stop_when_idle()
            return "stopped"

        runtime = await made(stop_other)
        runtime.start()

        assert await runtime.send_message("x", AGENT) == "stopped"
        await runtime.stop()
        assert (await other.try_get_underlying_agent_instance(AGENT, Scripted)).seen == ["x"]

    async def test_stop_when_stops_once_its_condition_holds(self) -> None:
        runtime = await made()
        runtime.start()
        asked = []

        def condition() -> bool:
            asked.append(True)
            return len(asked) == 3

        await runtime.stop_when(condition)
        assert len(asked) == 3
        assert "stopped" in repr(runtime)

    async def test_stop_when_ends_when_somebody_else_stops_it(self) -> None:
        runtime = await made()
        runtime.start()
        waiting = asyncio.create_task(runtime.stop_when(lambda: False))
        await asyncio.sleep(0)
        await runtime.stop()
        await waiting

    async def test_stop_when_idle_waits_for_what_handlers_send(self) -> None:
        class Counting(Scripted):
            async def on_message_impl(self, message: Any, ctx: MessageContext) -> None:
                self.seen.append(message)
                if message:
                    await self.publish_message(message - 1, TopicId("t", f"s{message}"))

        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("agent", Counting)
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        runtime.start()
        await runtime.publish_message(50, TOPIC)
        await runtime.stop_when_idle()

        assert sum(len(agent.seen) for agent in runtime._catalog.live_agents() if isinstance(agent, Scripted)) == 51


class TestClosing:
    async def test_every_agent_is_closed_once(self) -> None:
        runtime = await made()
        runtime.start()
        for key in ("a", "b"):
            await runtime.send_message("x", AgentId("agent", key))
        agents = [agent for agent in runtime._catalog.live_agents() if isinstance(agent, Scripted)]
        await runtime.close()
        await runtime.close()

        assert [agent.closed for agent in agents] == [1, 1]

    async def test_one_that_fails_to_close_does_not_keep_the_others_open(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Stubborn(Scripted):
            async def close(self) -> None:
                raise ValueError("boom")

        runtime = SingleThreadedAgentRuntime()
        first, last = Stubborn(), Scripted()
        await runtime.register_agent_instance(first, AgentId("stubborn", "k"))
        await runtime.register_agent_instance(last, AgentId("last", "k"))
        with caplog.at_level(logging.ERROR):
            await runtime.close()

        assert last.closed == 1
        assert "Error closing agent stubborn/k" in caplog.text

    async def test_calls_that_wait_for_a_start_are_refused(self) -> None:
        runtime = await made()
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: runtime.unprocessed_messages_count == 1)
        await runtime.close()

        with pytest.raises(RuntimeStateError):
            await called

    async def test_agents_are_closed_also_when_an_event_handler_failed(self) -> None:
        async def fail(agent: Scripted, message: Any) -> None:
            raise ValueError("boom")

        runtime = await made(fail, ignore_unhandled_exceptions=False)
        runtime.start()
        await runtime.publish_message("x", TOPIC)
        await until(lambda: "1 agents" in repr(runtime))
        (agent,) = runtime._catalog.live_agents()
        with pytest.raises(ValueError, match="boom"):
            await runtime.close()

        assert isinstance(agent, Scripted)
        assert agent.closed == 1


class TestFailing:
    async def test_queued_messages_are_refused_because_of_the_error(self) -> None:
        gate = Gate()

        async def fail_later(agent: Scripted, message: Any) -> None:
            await gate(agent, message)
            raise ValueError("boom")

        runtime = await made(fail_later, ignore_unhandled_exceptions=False, concurrency="serial")
        runtime.start()
        await runtime.publish_message("x", TOPIC)
        await until(lambda: gate.entered == 1)
        called = asyncio.create_task(runtime.send_message("y", AGENT))
        await until(lambda: runtime.unprocessed_messages_count == 1)
        gate.opened.set()

        with pytest.raises(RuntimeStateError) as caught:
            await called
        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(RuntimeStateError):
            await runtime.publish_message("z", TOPIC)
        with pytest.raises(ValueError, match="boom"):
            await runtime.stop()

    async def test_after_the_error_was_raised_the_runtime_can_be_used_again(self) -> None:
        outcomes = [ValueError("boom"), None]

        async def fail_first(agent: Scripted, message: Any) -> None:
            if error := outcomes.pop(0):
                raise error

        runtime = await made(fail_first, ignore_unhandled_exceptions=False)
        runtime.start()
        await runtime.publish_message("x", TOPIC)
        with pytest.raises(ValueError, match="boom"):
            await runtime.stop_when_idle()
        runtime.start()
        await runtime.publish_message("y", TOPIC)
        await runtime.stop_when_idle()

        assert outcomes == []

    async def test_an_error_of_a_call_does_not_fail_the_runtime(self) -> None:
        async def fail(agent: Scripted, message: Any) -> None:
            raise ValueError("boom")

        runtime = await made(fail, ignore_unhandled_exceptions=False)
        runtime.start()
        for _ in range(2):
            with pytest.raises(ValueError, match="boom"):
                await runtime.send_message("x", AGENT)
        await runtime.stop()


class TestProcessNext:
    @pytest.mark.parametrize("name", ["process_next", "_process_next"])
    async def test_it_handles_one_message(self, name: str) -> None:
        runtime = await made()
        for message in (1, 2):
            await runtime.publish_message(message, TOPIC)
        await getattr(runtime, name)()

        assert (await runtime.try_get_underlying_agent_instance(AGENT, Scripted)).seen == [1]
        assert runtime.unprocessed_messages_count == 1

    async def test_it_waits_for_a_message(self) -> None:
        runtime = await made()
        processing = asyncio.create_task(runtime.process_next())
        await asyncio.sleep(0)
        assert not processing.done()
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await processing

        assert await called == "x"

    async def test_it_returns_when_the_runtime_is_stopped_meanwhile(self) -> None:
        runtime = await made()
        runtime.start()
        processing = asyncio.create_task(runtime.process_next())
        await asyncio.sleep(0)
        await runtime.stop()
        await processing

    async def test_nested_calls_are_messages_of_their_own(self) -> None:
        async def forward(agent: Scripted, message: Any) -> Any:
            return await agent.send_message(message, AgentId("inner", "k"))

        runtime = await made(forward)
        await runtime.register_factory("inner", Scripted)
        called = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: runtime.unprocessed_messages_count == 1)
        await runtime.process_next()
        assert runtime.unprocessed_messages_count == 1
        await runtime.process_next()

        assert await called == "x"
