"""The broker is away for longer than anything lives that is renewed there."""

import asyncio

import pytest

from broker.conftest import NewRuntime
from broker.scripted import agent_at, serve, until
from hivewire import AgentId, BrokerUnavailableError, TopicId
from hivewire.nats.embedded import EmbeddedServer

ANYONE = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


# The session lives for six seconds.
@pytest.mark.parametrize("away_s", [15, pytest.param(60, marks=pytest.mark.slow)])
async def test_a_broker_that_was_away_finds_everybody_back_at_work(
    server: EmbeddedServer, new_runtime: NewRuntime, away_s: float
) -> None:
    worker, caller = new_runtime(server.url), new_runtime(server.url, publish_timeout=away_s + 30)
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    for number in range(10):
        await caller.publish_message(number, TOPIC)
    server.kill()
    publishing = [asyncio.create_task(caller.publish_message(number, TOPIC)) for number in range(10, 20)]
    await until(lambda: not worker.ready)
    with pytest.raises(BrokerUnavailableError):
        await caller.send_message("lost", ANYONE, timeout=1)
    waited, _ = await asyncio.wait(publishing, timeout=away_s)
    assert not waited
    assert "there is no connection to NATS" in worker.ready.reason
    await server.restart()
    await asyncio.gather(*publishing)
    await until(lambda: worker.ready)
    assert await caller.send_message("hello", ANYONE) == "hello"
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.seen) >= 21)
    assert sorted(each for each in agent.seen if isinstance(each, int)) == list(range(20))
    assert "lost" not in agent.seen
    await caller.stop()
    await worker.stop()
