"""Calls that were given up, and what becomes of their handlers."""

import asyncio

import pytest

from broker.conftest import NewRuntime
from broker.scripted import Gate, agent_at, serve, until
from hivewire import AgentId, CancellationToken
from hivewire.nats.embedded import EmbeddedServer


async def test_a_handler_whose_caller_gave_up_while_the_broker_was_away_is_cancelled_when_it_is_back(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    gate, token = Gate(), CancellationToken()
    worker, caller = new_runtime(server.url), new_runtime(server.url)
    await serve(worker, "slow", gate)
    await worker.start()
    await caller.connect()
    call = asyncio.ensure_future(caller.send_message(1, AgentId("slow", "k"), cancellation_token=token, timeout=120))
    await until(lambda: gate.entered)
    server.kill()
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await server.restart()
    (context,) = (await agent_at(worker, "slow")).contexts
    await until(lambda: context.cancellation_token.is_cancelled)
    gate.opened.set()
