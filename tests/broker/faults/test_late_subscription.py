"""Subscriptions that change while the shards of their type are far behind."""

import asyncio

import pytest

from broker.conftest import NewRuntime
from broker.scripted import Gate, agent_at, serve, until
from hivewire import NatsAgentRuntime, TopicId, TypePrefixSubscription, TypeSubscription

LAG = 10_000
KEYS = 64
AT_ONCE = 100


async def publish_all(runtime: NatsAgentRuntime, topic_type: str, numbers: range) -> None:
    each = iter(numbers)

    async def publish_on() -> None:
        for number in each:
            await runtime.publish_message([topic_type, number], TopicId(topic_type, f"k{number % KEYS}"))

    await asyncio.gather(*(publish_on() for _ in range(AT_ONCE)))


@pytest.mark.parametrize("kind", [TypeSubscription, TypePrefixSubscription])
async def test_a_subscription_gets_all_events_after_it_was_added_and_none_from_before_however_far_the_type_lags(
    new_runtime: NewRuntime, kind: type[TypeSubscription | TypePrefixSubscription]
) -> None:
    gate = Gate()
    worker, other = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await other.connect()
    half = LAG // 2
    await publish_all(other, "t", range(half))
    await publish_all(other, "late", range(500))
    await publish_all(other, "t", range(half, LAG))
    # From another process: the one that serves the type is told by the stream alone.
    added = kind("late", "agent")
    await other.add_subscription(added)
    await publish_all(other, "late", range(500, 1_000))
    await publish_all(other, "t", range(LAG, LAG + 100))
    await other.remove_subscription(added.id)
    await publish_all(other, "late", range(1_000, 1_500))
    await publish_all(other, "t", range(LAG + 100, LAG + 200))
    gate.opened.set()
    agents = [await agent_at(worker, "agent", f"k{key}") for key in range(KEYS)]
    await until(lambda: sum(len(agent.seen) for agent in agents) >= LAG + 200 + 500, 60)
    seen = [(topic_type, number) for agent in agents for topic_type, number in agent.seen]
    assert sorted(number for topic_type, number in seen if topic_type == "late") == list(range(500, 1_000))
    assert sorted(number for topic_type, number in seen if topic_type == "t") == list(range(LAG + 200))
