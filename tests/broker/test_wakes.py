"""Direct messages to types that nobody serves at the moment."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from broker.conftest import NewRuntime
from broker.scripted import Scripted
from hivewire import AgentId, DeadlineExceededError, MessageContext, TopicId, TypeSubscription
from hivewire.provisioning import TypeShape, Upkeep

SLEEPER = AgentId("sleeper", "one")


async def answer(agent: Scripted, message: str, ctx: MessageContext) -> str:
    return f"awake: {message}"


@pytest.mark.parametrize("count", [1, 20])
async def test_calls_to_a_type_without_processes_call_one_and_wait_for_it_beyond_the_delivery_timeout(
    nats_url: str, namespace: str, new_runtime: NewRuntime, count: int
) -> None:
    called: list[str] = []

    def on_wake(agent_type: str) -> bool:
        called.append(agent_type)
        return True

    async with AsyncExitStack() as stack:
        upkeep = await stack.enter_async_context(Upkeep(nats_url, namespace=namespace, on_wake=on_wake))
        await upkeep.register_type("sleeper", TypeShape())
        caller = await new_runtime(provision=False, delivery_timeout=0.5).connect()
        calls = [asyncio.ensure_future(caller.send_message("hello", SLEEPER, timeout=20)) for _ in range(count)]
        async with asyncio.timeout(10):
            while len(called) < 3:
                await asyncio.sleep(0.01)
        assert not any(call.done() for call in calls)

        worker = await new_runtime(provision=False).connect()
        await Scripted.register(worker, "sleeper", lambda: Scripted(answer))
        await worker.start()

        assert await asyncio.gather(*calls) == ["awake: hello"] * count
        assert set(called) == {"sleeper"}
        assert len(called) < 12  # one a second, however many wait


@pytest.mark.parametrize("promised", [None, False])
async def test_where_nobody_brings_a_process_the_delivery_timeout_counts(
    nats_url: str, namespace: str, new_runtime: NewRuntime, promised: bool | None
) -> None:
    on_wake = None if promised is None else lambda agent_type: False
    async with Upkeep(nats_url, namespace=namespace, on_wake=on_wake) as upkeep:
        await upkeep.register_type("sleeper", TypeShape())
        caller = await new_runtime(provision=False, delivery_timeout=0.3).connect()

        with pytest.raises(DeadlineExceededError, match="delivery_timeout"):
            await caller.send_message("hello", SLEEPER, timeout=20)


async def test_a_promise_holds_no_longer_than_the_call(nats_url: str, namespace: str, new_runtime: NewRuntime) -> None:
    async with Upkeep(nats_url, namespace=namespace, on_wake=lambda agent_type: True) as upkeep:
        await upkeep.register_type("sleeper", TypeShape())
        caller = await new_runtime(provision=False, delivery_timeout=0.3).connect()

        with pytest.raises(DeadlineExceededError, match=r"\(timeout\)"):
            await caller.send_message("hello", SLEEPER, timeout=1.5)


async def test_the_direct_messages_that_wait_and_run_in_a_process_are_seen_from_outside(
    nats_url: str, namespace: str, new_runtime: NewRuntime
) -> None:
    release = asyncio.Event()

    async def wait(agent: Scripted, message: str, ctx: MessageContext) -> str:
        await release.wait()
        return message

    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        worker = await new_runtime(deployment="pods", provision=False).connect()
        await Scripted.register(worker, "slow", lambda: Scripted(wait))
        await worker.start()
        caller = await new_runtime(deployment="callers", provision=False).connect()
        calls = [asyncio.ensure_future(caller.send_message("x", AgentId("slow", str(n)))) for n in range(7)]

        async def calls_in(deployment: str) -> int:
            seen = await upkeep.observe()
            return sum(each.calls for each in seen.sessions if each.deployment == deployment)

        async with asyncio.timeout(15):
            while await calls_in("pods") != 7:
                await asyncio.sleep(0.05)
        release.set()
        await asyncio.gather(*calls)
        async with asyncio.timeout(15):
            while await calls_in("pods"):
                await asyncio.sleep(0.05)


async def test_what_waits_for_a_type_that_no_process_has_ever_served_is_seen(
    nats_url: str, namespace: str, new_runtime: NewRuntime
) -> None:
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        await upkeep.register_type("sleeper", TypeShape())
        publisher = await new_runtime(deployment="elsewhere", provision=False).connect()
        for number in range(3):
            await publisher.publish_message("x", TopicId("too-early", str(number)))
        await publisher.add_subscription(TypeSubscription("wanted", "sleeper"))
        for number in range(3):
            await publisher.publish_message("x", TopicId("wanted", str(number)))
        await publisher.publish_message("x", TopicId("wanted", "last"))
        await publisher.publish_message("x", TopicId("other", "last"))

        async with asyncio.timeout(15):
            while [each.lag_messages for each in (await upkeep.observe()).types] != [4]:
                await asyncio.sleep(0.05)
