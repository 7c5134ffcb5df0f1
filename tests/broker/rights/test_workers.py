"""Workers that may do what their permissions say and nothing else: all that agents do works."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from broker.rights.conftest import SHARDED, STATELESS, Components
from broker.scripted import Counter, Gate, Scripted, agent_at, serve, until
from hivewire import AgentId, KvStore, MessageContext, NatsAgentRuntime, TopicId, TypeSubscription, stateless_worker
from hivewire.provisioning import TypeShape, Upkeep, worker_permissions

pytestmark = pytest.mark.usefixtures("nothing_is_refused")


@pytest.fixture
async def shop(components: Components, upkeep: Upkeep) -> NatsAgentRuntime:
    return await new_shop(components)


async def new_shop(components: Components) -> NatsAgentRuntime:
    """Start a pod of the deployment `shop`."""
    runtime = components.worker("shop", {"agent": SHARDED, "counter": SHARDED})
    await serve(runtime, "agent")
    await Counter.register(runtime, "counter", Counter)
    await runtime.add_subscription(TypeSubscription("t", "counter"))
    await runtime.start()
    return runtime


async def test_calls_events_and_states(shop: NatsAgentRuntime) -> None:
    assert await shop.send_message("hello", AgentId("agent", "k")) == "hello"
    await shop.publish_message("event", TopicId("t", "k"))
    agent, counter = (
        await agent_at(shop, "agent"),
        await shop.try_get_underlying_agent_instance(AgentId("counter", "k"), Counter),
    )
    await until(lambda: agent.seen == ["hello", "event"] and counter.count == 1)
    assert await shop.send_message("call", AgentId("counter", "k")) == 2
    assert await shop.agent_save_state(AgentId("counter", "k")) == {"count": 2}


async def test_two_deployments_call_each_other(shop: NatsAgentRuntime, components: Components) -> None:
    async def ask(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        return await agent.send_message(message, AgentId("agent", "k"))

    bank = components.worker("bank", {"asker": SHARDED})
    await serve(bank, "asker", ask)
    await bank.start()
    assert await shop.send_message("hello", AgentId("asker", "k")) == "hello"


async def test_shards_move_between_two_pods_and_a_running_turn_is_waited_for(
    shop: NatsAgentRuntime, components: Components
) -> None:
    second = components.worker("shop", {"agent": SHARDED, "counter": SHARDED}, instance="2")
    await serve(second, "agent")
    await Counter.register(second, "counter", Counter)
    await second.add_subscription(TypeSubscription("t", "counter"))
    await second.start()
    keys = [f"k{number}" for number in range(40)]
    for key in keys:
        await shop.publish_message("event", TopicId("t", key))
    await until(lambda: any(shop._serving.owns("counter", slot) for slot in range(256)))
    await shop.stop()
    counts = await asyncio.gather(*(second.send_message("call", AgentId("counter", key)) for key in keys))
    await second.stop_when_idle()
    assert set(counts) <= {1, 2}


async def test_streams_resumable_too(shop: NatsAgentRuntime, components: Components) -> None:
    async def count(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        async def numbers() -> AsyncIterator[int]:
            for number in range(message):
                yield number

        return numbers() if isinstance(message, int) else None

    bank = components.worker("bank", {"source": SHARDED})
    await serve(bank, "source", count)
    await bank.start()
    assert [chunk async for chunk in shop.stream_message(200, AgentId("source", "k"))] == list(range(200))
    kept = shop.stream_message(50, AgentId("source", "k"), resumable=True)
    assert [chunk async for chunk in kept] == list(range(50))
    assert kept.id is not None
    assert [chunk async for chunk in bank.resume_stream(kept.id, after=40)] == list(range(40, 50))


async def test_schedules_are_made_fired_listed_and_cancelled(shop: NatsAgentRuntime, components: Components) -> None:
    bank = components.worker("bank", {"other": SHARDED})
    await serve(bank, "other")
    await bank.start()
    await shop.schedule_message("soon", AgentId("other", "k"), after=0.1)
    await shop.schedule_message("now", TopicId("t", "k"), after=0.1)
    await shop.schedule_message("later", AgentId("other", "k"), after=3600, id="later")
    other = await agent_at(bank, "other")
    await until(lambda: sorted(other.seen) == ["now", "soon"])
    assert "later" in [schedule.id for schedule in await shop.list_schedules()]
    assert await (await shop.get_schedule("later")).cancel()


async def test_an_event_that_fails_goes_to_the_dead_letters(
    shop: NatsAgentRuntime, components: Components, root: Any
) -> None:
    async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        raise ValueError("no")

    bank = components.worker("bank", {"bad": SHARDED})
    await serve(bank, "bad", fail)
    await bank.start()
    await shop.publish_message("event", TopicId("t", "k"))
    stream = bank._subjects.dead_stream

    async def dead() -> int:
        return int((await root.jetstream().stream_info(stream)).state.messages)

    async with asyncio.timeout(15):
        while await dead() != 1:
            await asyncio.sleep(0.02)


async def test_a_stateless_type_of_two_pods(shop: NatsAgentRuntime, components: Components) -> None:
    seen: list[int] = []

    async def note(agent: Scripted, message: int, ctx: MessageContext) -> int:
        seen.append(message)
        return message

    @stateless_worker
    class Anybody(Scripted):
        pass

    for instance in ("1", "2"):
        runtime = components.worker("crowd", {"any.body": STATELESS}, instance=instance)
        await Anybody.register(runtime, "any.body", lambda: Anybody(note))
        await runtime.add_subscription(TypeSubscription("t", "any.body"))
        await runtime.start()
    for number in range(20):
        await shop.publish_message(number, TopicId("t", "k"))
    await until(lambda: sorted(seen) == list(range(20)))
    assert await shop.send_message(7, AgentId("any.body", "k")) == 7
    await runtime.stop()
    await shop.publish_message(20, TopicId("t", "k"))
    await until(lambda: 20 in seen)


async def test_a_call_is_cancelled_on_the_other_side(shop: NatsAgentRuntime, components: Components) -> None:
    entered, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        waiting = asyncio.get_running_loop().create_future()
        ctx.cancellation_token.link_future(waiting)
        entered.set()
        try:
            await waiting
        finally:
            cancelled.set()

    bank = components.worker("bank", {"waiting": SHARDED})
    await bank.register_factory("waiting", lambda: Scripted(wait), expected_class=Scripted)
    await bank.start()
    calling = asyncio.create_task(shop.send_message("hello", AgentId("waiting", "k")))
    await entered.wait()
    calling.cancel()
    await cancelled.wait()


async def test_what_a_pod_left_that_died_is_taken_over(shop: NatsAgentRuntime, components: Components) -> None:
    first, second = (components.worker("bank", {"kept": SHARDED}, instance=f"kept{number}") for number in (1, 2))
    await Counter.register(first, "kept", Counter)
    await first.start()
    assert await shop.send_message(1, AgentId("kept", "k")) == 1
    await first._stop(draining=False)
    await Counter.register(second, "kept", Counter)
    await second.start()
    assert await shop.send_message(1, AgentId("kept", "k")) == 2


@pytest.mark.slow
async def test_a_resumable_stream_that_pauses_is_asked_for(shop: NatsAgentRuntime, components: Components) -> None:
    """It takes longer than until the worker gives signs of life, and the reader asks for them."""

    async def pause(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        async def numbers() -> AsyncIterator[int]:
            yield 1
            await asyncio.sleep(3.5)
            yield 2

        return numbers() if message == "pause" else None

    bank = components.worker("bank", {"pausing": SHARDED})
    await serve(bank, "pausing", pause)
    await bank.start()
    stream = shop.stream_message("pause", AgentId("pausing", "k"), resumable=True)
    assert [chunk async for chunk in stream] == [1, 2]


async def test_a_registered_instance(shop: NatsAgentRuntime, components: Components) -> None:
    bank = components.worker("bank", {"one": TypeShape(kind="instances", shards=1)})
    agent = Scripted()
    await agent.register_instance(bank, AgentId("one", "only"))
    await bank.add_subscription(TypeSubscription("t", "one"))
    await bank.start()
    assert await shop.send_message("hello", AgentId("one", "only")) == "hello"
    await shop.publish_message("event", TopicId("t", "only"))
    await until(lambda: agent.seen == ["hello", "event"])


async def test_a_key_with_many_events_is_read_apart(shop: NatsAgentRuntime, components: Components) -> None:
    opened = asyncio.Event()
    seen: list[int] = []

    async def wait(agent: Scripted, message: int, ctx: MessageContext) -> None:
        await opened.wait()
        seen.append(message)

    bank = components.worker("bank", {"slow": SHARDED})
    await bank.register_factory("slow", lambda: Counter(wait), expected_class=Counter)
    await bank.add_subscription(TypeSubscription("hot", "slow"))
    await bank.start()
    for number in range(100):
        await shop.publish_message(number, TopicId("hot", "k"))
    opened.set()
    await until(lambda: len(seen) == 100)
    assert seen == sorted(seen)


async def test_a_store_of_values_takes_rights_of_its_own(components: Components, upkeep: Upkeep) -> None:
    namespace = components.subjects.namespace
    api = [f"$JS.API.STREAM.{what}.KV_{namespace}_KV_NAME" for what in ("INFO", "CREATE", "MSG.GET")]
    rights = worker_permissions(components.subjects, deployment="shop", types={})
    rights = replace(rights, publish=(*rights.publish, *api, f"$KV.{namespace}_KV_NAME.>"))
    runtime = components.worker("shop", {}, credentials=components.credentials(rights, "store"))
    await runtime.connect()
    store = KvStore(runtime, "NAME")
    await store.set("k", {"a": 1})
    assert await store.get("k") == {"a": 1}


@pytest.mark.slow
async def test_readers_without_room_learn_how_much_waits(components: Components, upkeep: Upkeep) -> None:
    gate = Gate()
    runtime = components.worker("shop", {"agent": SHARDED})
    await serve(runtime, "agent", gate)
    await runtime.start()
    published = 4_000
    await asyncio.gather(
        *(runtime.publish_message(number, TopicId("t", f"k{number % 100}")) for number in range(published))
    )

    async def waiting() -> int:
        return sum(each.lag_messages for each in (await upkeep.observe()).types if each.name == "agent")

    async with asyncio.timeout(30):
        while await waiting() != published:
            await asyncio.sleep(0.2)
    gate.opened.set()
    async with asyncio.timeout(60):
        while await waiting():
            await asyncio.sleep(0.2)
