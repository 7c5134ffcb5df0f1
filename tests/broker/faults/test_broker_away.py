"""The broker is away for longer than anything lives that is renewed there."""

import asyncio
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.scripted import Gate, Scripted, agent_at, serve, until
from hivewire import AgentId, BrokerUnavailableError, MessageContext, TopicId
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


async def test_a_handler_learns_of_its_deadline_while_the_broker_is_away_and_positions_wait_to_be_saved(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    gate = Gate()

    async def wait_if_asked(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        if ctx.is_rpc:
            await gate(agent, message, ctx)

    worker, caller = new_runtime(server.url), new_runtime(server.url)
    await serve(worker, "agent", wait_if_asked)
    await worker.start()
    await caller.connect()
    call = asyncio.create_task(caller.send_message("late", AgentId("agent", "called"), timeout=2))
    await until(lambda: gate.entered)
    for number in range(20):
        await caller.publish_message(number, TOPIC)
    agent = await agent_at(worker, "agent")
    await until(lambda: len(agent.seen) == 20)
    server.kill()
    with pytest.raises(TimeoutError):
        await call
    (context,) = (await agent_at(worker, "agent", "called")).contexts
    await until(lambda: context.cancellation_token.is_cancelled, 1)
    gate.opened.set()
    await server.restart()
