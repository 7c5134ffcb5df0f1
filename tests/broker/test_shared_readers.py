"""Shards of several types on one reader: nothing is lost or doubled when they come together and part."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from hivewire import (
    AgentId,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TopicId,
    TypeSubscription,
    event,
)

Seen = dict[str, list[tuple[str, int]]]


def make_agent(agent_type: str, seen: Seen, gate: asyncio.Event | None = None) -> type[RoutedAgent]:
    class Listener(RoutedAgent):
        @event
        async def on_number(self, message: int, ctx: MessageContext) -> None:
            if gate is not None:
                await gate.wait()
            seen[agent_type].append((self.id.key, message))

    return Listener


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


def readers_of(runtime: NatsAgentRuntime) -> int:
    return len(set(runtime._serving._readers._readers.values()))


async def test_types_that_keep_up_share_readers_and_each_gets_every_event_once(nats_url: str, namespace: str) -> None:
    seen: Seen = defaultdict(list)
    async with NatsAgentRuntime(nats_url, namespace=namespace) as runtime:
        for name in ("a", "b", "c"):
            listener = make_agent(name, seen)
            await listener.register(runtime, name, lambda listener=listener: listener("listens"))
            await runtime.add_subscription(TypeSubscription("numbers", name))
        await until(lambda: readers_of(runtime) == 16)
        for number in range(300):
            await runtime.publish_message(number, TopicId("numbers", f"key-{number % 20}"))
        await until(lambda: all(len(seen[name]) >= 300 for name in ("a", "b", "c")))
    for name in ("a", "b", "c"):
        assert sorted(number for _, number in seen[name]) == list(range(300))
        for key in {key for key, _ in seen[name]}:
            of_key = [number for each, number in seen[name] if each == key]
            assert of_key == sorted(of_key)


async def test_a_type_that_stands_still_does_not_hold_up_the_others(nats_url: str, namespace: str) -> None:
    seen: Seen = defaultdict(list)
    gate = asyncio.Event()
    async with NatsAgentRuntime(nats_url, namespace=namespace) as runtime:
        slow, quick = make_agent("slow", seen, gate), make_agent("quick", seen)
        await slow.register(runtime, "slow", lambda: slow("waits"))
        await quick.register(runtime, "quick", lambda: quick("runs"))
        for name in ("slow", "quick"):
            await runtime.add_subscription(TypeSubscription("numbers", name))
        await until(lambda: readers_of(runtime) == 16)
        # One key, so one shard of each type: far more than a window of unfinished events.
        for number in range(1_000):
            await runtime.publish_message(number, TopicId("numbers", "one"))
        await until(lambda: len(seen["quick"]) >= 1_000)
        assert not seen["slow"]
        gate.set()
        await until(lambda: len(seen["slow"]) >= 1_000)
        await until(lambda: readers_of(runtime) == 16)
        await runtime.publish_message(1_000, TopicId("numbers", "one"))
        await until(lambda: len(seen["slow"]) + len(seen["quick"]) >= 2_002)
    for name in ("slow", "quick"):
        assert [number for _, number in seen[name]] == list(range(1_001))


async def test_a_subscription_that_changes_in_a_shared_reader_holds_from_its_marker_on(
    nats_url: str, namespace: str
) -> None:
    seen: Seen = defaultdict(list)
    async with NatsAgentRuntime(nats_url, namespace=namespace) as runtime:
        for name in ("a", "b"):
            listener = make_agent(name, seen)
            await listener.register(runtime, name, lambda listener=listener: listener("listens"))
        await runtime.add_subscription(TypeSubscription("numbers", "a"))
        await until(lambda: readers_of(runtime) == 16)
        subscription = TypeSubscription("numbers", "b")
        for number in range(100):
            await runtime.publish_message(number, TopicId("numbers", str(number % 7)))
        await runtime.add_subscription(subscription)
        for number in range(100, 200):
            await runtime.publish_message(number, TopicId("numbers", str(number % 7)))
        await runtime.remove_subscription(subscription.id)
        for number in range(200, 300):
            await runtime.publish_message(number, TopicId("numbers", str(number % 7)))
        await until(lambda: len(seen["a"]) >= 300 and len(seen["b"]) >= 100)
        await runtime.agent_metadata(AgentId("b", "0"))
        await runtime.stop_when_idle()
    assert sorted(number for _, number in seen["a"]) == list(range(300))
    assert sorted(number for _, number in seen["b"]) == list(range(100, 200))
