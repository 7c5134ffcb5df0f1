"""The clock that a test moves."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hivewire import (
    AgentId,
    ClosureAgent,
    ClosureContext,
    MessageContext,
    RuntimeStateError,
    SingleThreadedAgentRuntime,
)
from hivewire.testing import FakeClock

START = datetime(2030, 1, 1, tzinfo=UTC)
AGENT = AgentId("agent", "k")


async def test_what_is_due_happens_in_order_and_each_at_its_time() -> None:
    clock, seen = FakeClock(), []
    for seconds in (3, 1, 2, 9):
        clock.call_at(clock.now() + timedelta(seconds=seconds), lambda: seen.append(clock.now() - START))

    await clock.advance(5)

    assert seen == [timedelta(seconds=seconds) for seconds in (1, 2, 3)]
    assert clock.now() == START + timedelta(seconds=5)
    await clock.advance(timedelta(seconds=4))
    assert len(seen) == 4


async def test_what_is_cancelled_does_not_happen() -> None:
    clock, seen = FakeClock(), []
    cancel = clock.call_at(START, lambda: seen.append(1))
    cancel()

    await clock.advance(1)

    assert seen == []


async def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="negative"):
        await FakeClock().advance(-1)
    with pytest.raises(ValueError, match="no time zone"):
        FakeClock(datetime(2030, 1, 1))


async def test_a_year_passes_in_a_moment_and_each_message_is_handled_before_the_next() -> None:
    clock = FakeClock(START)
    runtime = SingleThreadedAgentRuntime(clock=clock)
    handled: list[datetime] = []

    async def handle(ctx: ClosureContext, message: str, context: MessageContext) -> None:
        await asyncio.sleep(0)
        handled.append(clock.now())

    await ClosureAgent.register_closure(runtime, "agent", handle)
    runtime.start()
    await runtime.schedule_message("x", AGENT, cron="@monthly", time_zone="Europe/Berlin")
    await clock.advance(timedelta(days=365))

    assert [each.month for each in handled] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    # Midnight in Berlin, in summer time and out of it.
    assert {each.hour for each in handled} == {22, 23}
    await runtime.close()


async def test_a_handler_that_waits_for_a_later_firing_does_not_hold_up_the_clock() -> None:
    clock = FakeClock(START)
    runtime = SingleThreadedAgentRuntime(clock=clock)
    second = asyncio.Event()

    async def handle(ctx: ClosureContext, message: str, context: MessageContext) -> None:
        await second.wait() if message == "first" else second.set()

    await ClosureAgent.register_closure(runtime, "agent", handle)
    runtime.start()
    for seconds, message in enumerate(("first", "second"), start=1):
        await runtime.schedule_message(message, AGENT, after=seconds)
    await clock.advance(2)
    async with asyncio.timeout(5):
        await runtime.stop_when_idle()
    await runtime.close()


async def test_what_falls_due_while_the_runtime_is_not_started_waits_once_for_each_schedule() -> None:
    clock = FakeClock(START)
    runtime = SingleThreadedAgentRuntime(clock=clock)
    handled: list[Any] = []

    async def handle(ctx: ClosureContext, message: str, context: MessageContext) -> None:
        handled.append((message, context.message_id.partition("@")[2]))

    await ClosureAgent.register_closure(runtime, "agent", handle)
    await runtime.schedule_message("every", AGENT, every=10, id="e")
    await runtime.schedule_message("once", AGENT, after=15, id="o")
    await clock.advance(35)
    assert handled == []
    runtime.start()
    await runtime.stop_when_idle()
    runtime.start()
    await clock.advance(6)

    assert handled == [
        ("every", "2030-01-01T00:00:10Z"),
        ("once", "2030-01-01T00:00:15Z"),
        ("every", "2030-01-01T00:00:40Z"),
    ]
    await runtime.close()
    await clock.advance(100)
    assert len(handled) == 3
    assert await runtime.list_schedules() == []


async def test_a_firing_that_fails_is_logged_and_the_next_one_comes(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock(START)
    runtime = SingleThreadedAgentRuntime(clock=clock)
    runtime.start()
    await runtime.schedule_message("x", AgentId("nobody", "k"), every=10, id="e")
    await clock.advance(25)

    assert caplog.text.count("no agent type 'nobody'") == 2
    await runtime.close()


async def test_a_runtime_that_refuses_messages_gets_what_was_due_when_it_starts_again() -> None:
    clock = FakeClock(START)
    runtime = SingleThreadedAgentRuntime(clock=clock, ignore_unhandled_exceptions=False)
    handled: list[str] = []

    async def handle(ctx: ClosureContext, message: str, context: MessageContext) -> None:
        handled.append(message)

    await ClosureAgent.register_closure(runtime, "agent", handle)
    runtime.start()
    await runtime.schedule_message("x", AGENT, after=1)
    runtime._dispatcher.fail(ValueError("boom"))
    await clock.advance(5)
    assert handled == []
    with pytest.raises((ValueError, RuntimeStateError)):
        await runtime.stop()
    runtime.start()
    await clock.advance(0)

    assert handled == ["x"]
    await runtime.close()
