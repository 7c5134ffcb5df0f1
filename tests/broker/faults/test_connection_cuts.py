"""Connections that break again and again under load."""

import asyncio

from broker.conftest import NewRuntime
from broker.proxy import TcpProxy
from broker.scripted import Scripted, agent_at, serve, until
from hivewire import AgentId, MessageContext, TopicId

CUTS = 20
KEYS = 24


async def test_twenty_cuts_under_load_lose_and_double_no_event(new_runtime: NewRuntime, nats_url: str) -> None:
    async with TcpProxy(nats_url) as proxy:
        worker, publisher = new_runtime(proxy.url), new_runtime(proxy.url)
        await serve(worker, "agent")
        await worker.start()
        await publisher.connect()
        numbers = iter(range(1_000_000))
        published: list[int] = []
        cutting = True

        async def publish_on() -> None:
            while cutting:
                number = next(numbers)
                await publisher.publish_message(number, TopicId("t", f"k{number % KEYS}"))
                published.append(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(publish_on())
            for _ in range(CUTS):
                count = len(published)
                await until(lambda count=count: len(published) > count + 50)
                proxy.cut()
            cutting = False
        agents = [await agent_at(worker, "agent", f"k{key}") for key in range(KEYS)]
        await until(lambda: sum(len(agent.seen) for agent in agents) >= len(published))
        for key, agent in enumerate(agents):
            assert sorted(agent.seen) == sorted(number for number in published if number % KEYS == key)
        assert publisher._broker.reconnects >= CUTS / 2
        await publisher.stop()
        await worker.stop()


async def test_events_of_one_sender_stay_in_order_over_cuts(new_runtime: NewRuntime, nats_url: str) -> None:
    async def wait(agent: Scripted, message: int, ctx: MessageContext) -> None:
        await asyncio.sleep(0)

    async with TcpProxy(nats_url) as proxy:
        worker, publisher = new_runtime(proxy.url, concurrency="serial"), new_runtime(proxy.url)
        await serve(worker, "agent", wait)
        await worker.start()
        await publisher.connect()
        for number in range(400):
            if number % 100 == 50:
                proxy.cut()
            await publisher.publish_message(number, TopicId("t", "k"))
        agent = await agent_at(worker, "agent", "k")
        await until(lambda: len(agent.seen) >= 400)
        assert agent.seen == list(range(400))
        await publisher.stop()
        await worker.stop()


async def test_calls_go_on_after_each_cut(new_runtime: NewRuntime, nats_url: str) -> None:
    async with TcpProxy(nats_url) as proxy:
        worker, caller = new_runtime(proxy.url), new_runtime(proxy.url)
        await serve(worker, "agent")
        await worker.start()
        await caller.connect()
        for number in range(5):
            proxy.cut()
            await until(lambda: not caller._broker.connected.is_set())
            assert await caller.send_message(number, AgentId("agent", "k")) == number
        await caller.stop()
        await worker.stop()
