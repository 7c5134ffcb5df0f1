"""A bounded number of turns in a process: who gets one, who waits, and that nobody waits for himself."""

import asyncio
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import Ledger, serve
from broker.scripted import Gate, Scripted, agent_at, until
from broker.scripted import serve as serve_scripted
from hivewire import AgentId, MessageContext, NatsAgentRuntime, OverloadedError, TopicId
from hivewire.exceptions import DeadlineExceededError


def forwarding(target: str) -> Any:
    async def forward(agent: Any, message: Any, ctx: MessageContext) -> Any:
        return await agent.send_message(message, AgentId(target, agent.id.key))

    return forward


async def echo(agent: Any, message: Any, ctx: MessageContext) -> Any:
    await asyncio.sleep(0.01)
    return message


@pytest.mark.parametrize("max_turns", [1, 2, 5])
async def test_turns_that_all_await_calls_to_their_own_process_do_not_block_it(
    new_runtime: NewRuntime, max_turns: int
) -> None:
    runtime, caller = new_runtime(max_turns=max_turns), await new_runtime().connect()
    await serve_scripted(runtime, "inner", echo)
    await serve_scripted(runtime, "middle", forwarding("inner"))
    await serve_scripted(runtime, "outer", forwarding("middle"))
    await runtime.start()
    calls = (caller.send_message(number, AgentId("outer", f"k{number % 7}")) for number in range(60))
    assert await asyncio.gather(*calls) == list(range(60))
    for number in range(60):
        await caller.publish_message(number, TopicId("t", f"k{number % 7}"))
    inner = [await agent_at(runtime, "inner", f"k{key}") for key in range(7)]
    # Of each event: its own, that of the middle one, and that of the outer one.
    await until(lambda: sum(len(agent.seen) for agent in inner) == 60 * 4, 30)


async def test_agents_that_take_one_turn_at_a_time_and_are_full_still_reach_others_of_their_process(
    new_runtime: NewRuntime,
) -> None:
    """What waits for them fills the process, and only the calls that they make get it on."""
    answered: list[Any] = []

    async def forward(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        await started(message)
        answered.append(await agent.send_message(message, AgentId("inner", agent.id.key)))

    running = 0
    all_running = asyncio.Event()

    async def started(message: Any) -> None:
        nonlocal running
        running += 1
        if running == 4:
            all_running.set()
        await all_running.wait()

    runtime, caller = new_runtime(max_turns=4), await new_runtime().connect()
    await serve_scripted(runtime, "inner", echo)
    await serve(runtime, forward, type="outer")
    calls = [
        asyncio.create_task(caller.send_message(f"{key} {number}", AgentId("outer", f"k{key}"), timeout=15.0))
        for key in range(4)
        for number in range(3)
    ]
    await asyncio.gather(*calls)
    assert len(answered) == 12


async def test_calls_that_outlive_their_turn_take_no_slot_away(new_runtime: NewRuntime) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def and_go(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        tasks.append(asyncio.create_task(agent.send_message(message, AgentId("inner", "k"))))
        # Until it is under way.
        await asyncio.sleep(0)
        return message

    runtime, caller = new_runtime(max_turns=3), await new_runtime().connect()
    await serve_scripted(runtime, "inner", echo)
    await serve_scripted(runtime, "outer", and_go)
    await runtime.start()
    for number in range(10):
        assert await caller.send_message(number, AgentId("outer", "k"), timeout=10.0) == number
    assert await asyncio.gather(*tasks) == list(range(10))
    assert runtime._serving.turns.slots.running == 0
    assert await caller.send_message("last", AgentId("outer", "k"), timeout=10.0) == "last"


async def test_a_turn_that_makes_calls_at_once_and_one_after_another_does_not_block_itself(
    new_runtime: NewRuntime,
) -> None:
    async def both(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        async def some(count: int) -> None:
            for number in range(count):
                await agent.send_message(number, AgentId("inner", "k"))

        await asyncio.gather(*(some(count) for count in (1, 2, 3, 5)))
        return message

    runtime, caller = new_runtime(max_turns=1), await new_runtime().connect()
    await serve_scripted(runtime, "inner")
    await serve_scripted(runtime, "outer", both)
    await runtime.start()
    calls = (caller.send_message(number, AgentId("outer", f"k{number}")) for number in range(20))
    assert await asyncio.gather(*calls) == list(range(20))
    assert runtime._serving.turns.slots.running == 0


async def test_one_busy_type_does_not_starve_another_of_the_same_process(new_runtime: NewRuntime) -> None:
    gate = Gate()
    runtime, caller = new_runtime(max_turns=8), await new_runtime().connect()
    await serve_scripted(runtime, "busy", gate)
    await runtime.register_factory("other", Scripted)
    await runtime.start()
    for number in range(200):
        await caller.publish_message(number, TopicId("t", f"k{number}"))
    await until(lambda: gate.entered >= 7)
    for number in range(50):
        assert await caller.send_message(number, AgentId("other", f"k{number}"), timeout=10.0) == number
    assert gate.entered == 7
    gate.opened.set()
    await until(lambda: gate.entered == 200)


async def test_direct_messages_to_one_busy_type_leave_room_for_those_to_another(new_runtime: NewRuntime) -> None:
    gate = Gate()
    runtime, caller = new_runtime(max_turns=8), await new_runtime().connect()
    await serve_scripted(runtime, "busy", gate)
    await runtime.register_factory("other", Scripted)
    await runtime.start()
    waiting = [
        asyncio.create_task(caller.send_message(number, AgentId("busy", f"k{number}"), timeout=30.0))
        for number in range(100)
    ]
    await until(lambda: gate.entered >= 7)
    for number in range(20):
        assert await caller.send_message(number, AgentId("other", f"k{number}"), timeout=10.0) == number
    gate.opened.set()
    assert await asyncio.gather(*waiting) == list(range(100))


async def test_one_busy_key_does_not_starve_the_others(new_runtime: NewRuntime) -> None:
    gate = Gate()

    async def stay(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        if agent.id.key == "busy":
            await gate(agent, message, ctx)  # type: ignore[arg-type]

    await serve(new_runtime(max_turns=8), stay)
    caller = await new_runtime().connect()
    waiting = [
        asyncio.create_task(caller.send_message(number, AgentId("ledger", "busy"), timeout=30.0))
        for number in range(50)
    ]
    await until(lambda: gate.entered)
    for number in range(100, 150):
        assert await caller.send_message(number, AgentId("ledger", f"k{number}"), timeout=10.0) == [number]
    gate.opened.set()
    await asyncio.gather(*waiting)
    assert sorted(await caller.send_message("look", AgentId("ledger", "busy"))) == list(range(50))


async def calls_at_once(caller: NatsAgentRuntime, count: int, keys: int, timeout: float) -> list[Any]:
    return await asyncio.gather(
        *(
            caller.send_message(number, AgentId("agent", f"k{number % keys}"), timeout=timeout)
            for number in range(count)
        ),
        return_exceptions=True,
    )


async def test_calls_above_the_room_are_tried_again_until_there_is_some_and_run_once(new_runtime: NewRuntime) -> None:
    handled: list[Any] = []
    at_once = most = 0

    async def slow(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        nonlocal at_once, most
        handled.append(message)
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return message

    runtime, caller = new_runtime(max_turns=4), await new_runtime().connect()
    await serve_scripted(runtime, "agent", slow)
    await runtime.start()
    assert await calls_at_once(caller, 300, 30, 30.0) == list(range(300))
    assert sorted(handled) == list(range(300))
    assert most <= 4


async def test_calls_that_find_no_room_until_their_deadline_end_as_overloaded_and_are_not_run(
    new_runtime: NewRuntime,
) -> None:
    gate = Gate()
    runtime, caller = new_runtime(max_turns=4), await new_runtime().connect()
    await serve_scripted(runtime, "agent", gate)
    await runtime.start()
    outcomes = await calls_at_once(caller, 200, 200, 6.0)
    refused = [outcome for outcome in outcomes if isinstance(outcome, OverloadedError)]
    expired = [outcome for outcome in outcomes if isinstance(outcome, DeadlineExceededError)]
    assert len(refused) + len(expired) == 200
    # Four run, and as many wait. On a busy machine the last try of others may be without an answer at the deadline.
    assert len(refused) > 50
    assert len(expired) >= 4
    await until(lambda: not len(runtime._serving.turns._room))
    gate.opened.set()
    await until(lambda: not runtime._serving.turns.running)
    assert gate.entered == 4
    assert await caller.send_message("after", AgentId("agent", "k")) == "after"
