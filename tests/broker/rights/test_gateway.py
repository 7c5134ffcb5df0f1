"""A gateway that may do what its permissions say and nothing else."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from broker.rights.conftest import SHARDED, STATELESS, Components
from broker.scripted import Counter, Scripted, serve, until
from gateway.sse_client import collected, events_of
from hivewire import (
    AgentId,
    HttpAgentRuntime,
    MessageContext,
    NatsAgentRuntime,
    TopicId,
    TypeSubscription,
    stateless_worker,
)
from hivewire.provisioning import Upkeep
from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings

pytestmark = pytest.mark.usefixtures("nothing_is_refused")

SERVED = {"counter": SHARDED, "pool": STATELESS}


@pytest.fixture
async def gateway(components: Components, upkeep: Upkeep) -> AsyncIterator[GatewayServer]:
    relay = await components.gateway(SERVED).connect()
    async with served(relay) as server:
        yield server


def served(relay: RelayRuntime) -> GatewayServer:
    return GatewayServer(relay, Settings(port=0, metrics_port=0, drain_timeout_s=2.0))


@pytest.fixture
async def shop(components: Components, upkeep: Upkeep) -> NatsAgentRuntime:
    return await new_shop(components)


async def new_shop(components: Components) -> NatsAgentRuntime:
    """Start a pod on NATS beside the gateway."""

    async def answer(agent: Scripted, message: int, ctx: MessageContext) -> object:
        async def numbers() -> AsyncIterator[int]:
            for number in range(message):
                yield number

        return numbers() if isinstance(message, int) else message

    runtime = components.worker("shop", {"agent": SHARDED})
    await serve(runtime, "agent", answer)
    await runtime.start()
    return runtime


async def test_calls_streams_and_events_over_http(gateway: GatewayServer, shop: NatsAgentRuntime) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=15) as http:
        assert (await http.post("/v1/agents/agent/k", json="hello")).json() == "hello"
        streamed = await collected(http, "POST", "/v1/agents/agent/k", json=5, headers={"accept": "text/event-stream"})
        assert [event.data for event in streamed if event.event == "message"] == ["0", "1", "2", "3", "4"]
        assert (await http.get("/openapi.json")).status_code == 200
        for number in range(3):
            assert (await http.post("/v1/topics/t/k", json=number)).status_code == 202
        async with http.stream("GET", "/v1/topics/t/events") as response:
            events = events_of(response)
            assert (await anext(events)).event == "begin"
            await http.post("/v1/topics/t/k", json="new")
            new = await anext(events)
            assert '"new"' in new.data
        await http.post("/v1/topics/t/k", json="newer")
        async with http.stream("GET", "/v1/topics/t/events", headers={"Last-Event-ID": new.id}) as response:
            seen = events_of(response)
            while '"newer"' not in (await anext(seen)).data:
                pass


async def test_workers_over_http_serve_their_types(gateway: GatewayServer, shop: NatsAgentRuntime) -> None:
    @stateless_worker
    class Anybody(Scripted):
        pass

    seen: list[int] = []

    async def note(agent: Scripted, message: int, ctx: MessageContext) -> int:
        seen.append(message)
        return message

    workers = [HttpAgentRuntime(gateway.url, deployment="web", instance_id=f"w{number}") for number in range(2)]
    for worker in workers:
        await Counter.register(worker, "counter", Counter)
        await Anybody.register(worker, "pool", lambda: Anybody(note))
        for name in ("counter", "pool"):
            await worker.add_subscription(TypeSubscription("t", name))
        await worker.start()
    for number in range(6):
        await shop.publish_message(number, TopicId("t", f"k{number}"))
    assert await shop.send_message(7, AgentId("pool", "k")) == 7
    await until(lambda: sorted(seen) == [0, 1, 2, 3, 4, 5, 7])
    await workers[0].stop()
    counts = await asyncio.gather(*(shop.send_message(1, AgentId("counter", f"k{number}")) for number in range(6)))
    assert counts == [2] * 6
    assert await workers[1].send_message("hello", AgentId("agent", "k")) == "hello"
    await workers[1].schedule_message("later", AgentId("agent", "k"), after=3600, id="later")
    assert await (await workers[1].get_schedule("later")).cancel()
    await workers[1].stop()
