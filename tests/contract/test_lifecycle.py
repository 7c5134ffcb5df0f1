import asyncio
import logging
from typing import Any

import pytest

from contract.support import (
    DEADLINE_S,
    Gate,
    Inbox,
    MakeRuntime,
    Runtime,
    Scripted,
    Settle,
    echo,
    ignore,
    only_local,
    only_network,
    serve,
    until,
)
from hivewire import (
    AgentId,
    AgentNotFoundError,
    AgentRuntime,
    DefaultInterventionHandler,
    DropMessage,
    MessageContext,
    RuntimeStateError,
    SingleThreadedAgentRuntime,
    TopicId,
    UndeliverableException,
)

AGENT = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


class Closing(Scripted):
    """Notes when it is closed."""

    def __init__(self, handle: Any = echo) -> None:
        super().__init__(handle, Inbox())
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1
        if self.id.key == "bad":
            raise ValueError("boom")


def test_both_runtimes_are_agent_runtimes(make_runtime: MakeRuntime) -> None:
    assert isinstance(make_runtime(), AgentRuntime)


async def test_a_second_start_is_an_error_and_changes_nothing(runtime: Runtime) -> None:
    await serve(runtime, "agent")
    with pytest.raises(RuntimeStateError) as caught:
        await runtime.start()

    assert isinstance(caught.value, RuntimeError)
    assert await runtime.send_message("x", AGENT) == "x"


async def test_what_waits_for_idleness_needs_a_start(make_runtime: MakeRuntime) -> None:
    with pytest.raises(RuntimeStateError):
        await make_runtime().stop_when_idle()


async def test_another_concurrency_is_refused(make_runtime: MakeRuntime) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        make_runtime(concurrency="parallel")


class TestStop:
    async def test_running_handlers_finish_and_answer(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        stopping = asyncio.create_task(runtime.stop())
        await asyncio.wait([stopping, call], timeout=0.05)
        assert not stopping.done()
        assert not call.done()
        gate.opened.set()
        await stopping

        assert await call == "x"

    async def test_running_handlers_of_events_finish(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate, "t")
        await runtime.publish_message("x", TOPIC)
        await until(lambda: gate.entered == 1)
        stopping = asyncio.create_task(runtime.stop())
        await asyncio.wait([stopping], timeout=0.05)
        assert not stopping.done()
        gate.opened.set()
        await stopping

        assert gate.left == 1

    async def test_nobody_is_left_waiting(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        gate = Gate()
        await serve(runtime, "agent", gate)
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(5)]
        await until(lambda: gate.entered == 1)
        stopping = asyncio.create_task(runtime.stop())
        await asyncio.sleep(0)
        gate.opened.set()
        async with asyncio.timeout(DEADLINE_S):
            await stopping
            outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert outcomes[0] == 0
        for number, outcome in enumerate(outcomes):
            assert outcome == number or isinstance(outcome, RuntimeStateError)

    @only_network
    async def test_a_handler_that_does_not_end_is_waited_for_no_longer_than_said(
        self, make_runtime: MakeRuntime
    ) -> None:
        runtime = make_runtime(drain_timeout=0.2)
        await runtime.start()
        gate = Gate()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        await runtime.stop()

        with pytest.raises(RuntimeStateError):
            await call

    async def test_a_handler_may_stop_the_runtime(self, runtime: Runtime) -> None:
        async def stop(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            await agent.runtime.stop()  # type: ignore[attr-defined]
            return "stopped"

        await serve(runtime, "agent", stop)
        async with asyncio.timeout(DEADLINE_S):
            assert await runtime.send_message("x", AGENT) == "stopped"

    async def test_a_handler_that_sends_while_the_runtime_stops_is_left_waiting_by_nobody(
        self, runtime: Runtime
    ) -> None:
        gate = Gate()

        async def wait_and_ask(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            await gate(agent, message, ctx)
            return await agent.send_message(message, AgentId("other", "o"))

        await serve(runtime, "agent", wait_and_ask)
        await serve(runtime, "other")
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        stopping = asyncio.create_task(runtime.stop())
        await asyncio.wait([stopping], timeout=0.05)
        gate.opened.set()
        async with asyncio.timeout(DEADLINE_S):
            await stopping
            with pytest.raises((RuntimeStateError, UndeliverableException)):
                await call

    @only_network
    async def test_messages_after_it_are_refused(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", ignore, "t")
        await runtime.stop()

        with pytest.raises(RuntimeStateError):
            await runtime.send_message("x", AGENT)
        with pytest.raises(RuntimeStateError):
            await runtime.publish_message("x", TOPIC)

    @only_network
    async def test_it_may_be_called_again_and_waited_for(self, runtime: Runtime) -> None:
        assert not isinstance(runtime, SingleThreadedAgentRuntime)
        waiting = asyncio.create_task(runtime.wait_until_stopped())
        await runtime.stop()
        await runtime.stop()

        async with asyncio.timeout(DEADLINE_S):
            await waiting

    @only_local
    async def test_a_local_runtime_may_be_started_again(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        await runtime.stop()
        with pytest.raises(RuntimeStateError):
            await runtime.stop()
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await asyncio.sleep(0)
        assert inbox.received == []
        await runtime.start()

        assert await call == "x"


class TestStopWhenIdle:
    async def test_it_returns_when_there_is_nothing_to_do(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", echo, "t")
        async with asyncio.timeout(DEADLINE_S):
            await runtime.stop_when_idle()

    async def test_it_waits_for_all_that_was_published_and_what_comes_of_it(self, runtime: Runtime) -> None:
        async def pass_on(agent: Scripted, message: int, ctx: MessageContext) -> None:
            await asyncio.sleep(0)
            if message:
                await agent.publish_message(message - 1, TopicId("t", str(message)))

        inbox = await serve(runtime, "agent", pass_on, "t")
        await runtime.publish_message(20, TOPIC)
        async with asyncio.timeout(DEADLINE_S):
            await runtime.stop_when_idle()

        assert inbox.messages == list(range(20, -1, -1))

    async def test_it_waits_for_the_slow_after_the_quick_failed(self, runtime: Runtime) -> None:
        finished: list[str] = []
        failed = asyncio.Event()

        async def fail_fast(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            failed.set()
            raise ValueError("boom")

        async def slow(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await failed.wait()
            for _ in range(20):
                await asyncio.sleep(0.002)
            finished.append("slow")

        await serve(runtime, "quick", fail_fast, "t")
        await serve(runtime, "slow", slow, "t")
        await runtime.publish_message("x", TOPIC)
        async with asyncio.timeout(DEADLINE_S):
            await runtime.stop_when_idle()

        assert finished == ["slow"]

    @pytest.mark.parametrize("hook", ["on_send", "on_publish", "on_response"])
    @pytest.mark.parametrize("outcome", [DropMessage, ValueError], ids=["drop", "raise"])
    async def test_it_returns_after_interventions_dropped_or_raised(
        self, make_runtime: MakeRuntime, hook: str, outcome: type[Exception]
    ) -> None:
        async def interfere(self: Any, message: Any, **context: Any) -> Any:
            raise outcome("no")

        handler = type("Interfering", (DefaultInterventionHandler,), {hook: interfere})()
        runtime = make_runtime(intervention_handlers=[handler])
        await runtime.start()
        await serve(runtime, "agent", ignore, "t")
        await asyncio.gather(
            runtime.send_message("x", AGENT), runtime.publish_message("x", TOPIC), return_exceptions=True
        )

        async with asyncio.timeout(DEADLINE_S):
            await runtime.stop_when_idle()

    async def test_a_handler_may_ask_for_it(self, runtime: Runtime) -> None:
        async def stop(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            await agent.runtime.stop_when_idle()  # type: ignore[attr-defined]
            return "stopped"

        await serve(runtime, "agent", stop)
        async with asyncio.timeout(DEADLINE_S):
            assert await runtime.send_message("x", AGENT) == "stopped"

    async def test_a_call_that_runs_is_answered(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        stopping = asyncio.create_task(runtime.stop_when_idle())
        await asyncio.wait([stopping], timeout=0.05)
        assert not stopping.done()
        gate.opened.set()
        await stopping

        assert await call == "x"


class TestClose:
    async def test_every_living_agent_is_closed_once(self, runtime: Runtime) -> None:
        agents: list[Closing] = []

        def factory() -> Closing:
            agents.append(Closing())
            return agents[-1]

        instance = Closing()
        await runtime.register_factory("agent", factory)
        await runtime.register_agent_instance(instance, AgentId("single", "s"))
        for key in ("a", "b", "a"):
            await runtime.send_message("x", AgentId("agent", key))
        assert [agent.closed for agent in (*agents, instance)] == [0, 0, 0]
        await runtime.close()
        await runtime.close()

        assert [agent.closed for agent in (*agents, instance)] == [1, 1, 1]

    async def test_one_that_fails_to_close_is_logged_and_keeps_no_other_from_it(
        self, runtime: Runtime, caplog: pytest.LogCaptureFixture
    ) -> None:
        agents: list[Closing] = []

        def factory() -> Closing:
            agents.append(Closing())
            return agents[-1]

        await runtime.register_factory("agent", factory)
        for key in ("a", "bad", "c"):
            await runtime.send_message("x", AgentId("agent", key))
        with caplog.at_level(logging.ERROR, logger="hivewire"):
            await runtime.close()

        assert [agent.closed for agent in agents] == [1, 1, 1]
        assert any("agent/bad" in record.getMessage() for record in caplog.records)

    async def test_an_agent_is_closed_after_its_running_handler_answered(self, runtime: Runtime) -> None:
        gate = Gate()
        agent = Closing(gate)
        await runtime.register_agent_instance(agent, AGENT)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        closing = asyncio.create_task(runtime.close())
        await asyncio.wait([closing], timeout=0.05)
        assert agent.closed == 0
        gate.opened.set()
        await closing

        assert await call == "x"
        assert agent.closed == 1

    async def test_a_runtime_that_never_started_may_be_closed(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await serve(runtime, "agent")
        async with asyncio.timeout(DEADLINE_S):
            await runtime.close()

    async def test_an_agent_that_was_built_before_the_start_is_closed_too(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await runtime.register_factory("agent", Closing)
        agent = await runtime.try_get_underlying_agent_instance(AGENT, Closing)
        await runtime.close()

        assert agent.closed == 1


async def test_two_runtimes_do_not_meet(make_runtime: MakeRuntime, settle: Settle) -> None:
    one, other = make_runtime(), make_runtime()
    for runtime in (one, other):
        await runtime.start()
    inbox = await serve(one, "agent", ignore, "t")

    with pytest.raises(AgentNotFoundError):
        await other.send_message("x", AGENT, timeout=0.3)
    await other.publish_message("x", TOPIC)
    for runtime in (one, other):
        await settle(runtime)
    assert inbox.received == []
    assert other.unrouted_messages_count == 1


async def test_an_agent_of_one_runtime_may_call_one_of_another(make_runtime: MakeRuntime) -> None:
    one, other = (make_runtime(concurrency="serial") for _ in range(2))

    async def ask_the_other(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        return await other.send_message(message, AGENT, sender=agent.id)

    async def ask_back(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        return await one.send_message(message, AgentId("last", "l"))

    await serve(one, "agent", ask_the_other)
    await serve(other, "agent", ask_back)
    await serve(one, "last")
    for runtime in (one, other):
        await runtime.start()

    async with asyncio.timeout(DEADLINE_S):
        assert await one.send_message("x", AGENT) == "x"


@only_local
async def test_a_local_runtime_need_not_be_awaited_to_start(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    await serve(runtime, "agent")
    runtime.start()

    assert await runtime.send_message("x", AGENT) == "x"


@only_network
async def test_a_runtime_over_a_network_may_be_a_context(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime()
    assert not isinstance(runtime, SingleThreadedAgentRuntime)
    async with runtime as entered:
        await serve(entered, "agent")
        assert await entered.send_message("x", AGENT) == "x"

    with pytest.raises(RuntimeStateError):
        await runtime.send_message("x", AGENT)
