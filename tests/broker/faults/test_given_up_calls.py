"""Calls that were given up, and what becomes of their handlers."""

import asyncio

import pytest

from broker.conftest import NewRuntime
from broker.observing import Observe
from broker.scripted import Gate, Scripted, agent_at, serve, until
from hivewire import (
    AgentId,
    CancellationToken,
    MessageContext,
    TopicId,
    TypeSubscription,
    WorkerLostError,
    stateless_worker,
)
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


@pytest.mark.parametrize("waits_for", ["time", "another agent"])
async def test_a_caller_is_told_that_the_process_stopped_before_the_handler_had_finished(
    new_runtime: NewRuntime, waits_for: str
) -> None:
    worker, elsewhere, caller = new_runtime(drain_timeout=0.2), new_runtime(), new_runtime()
    far, near = Gate(), Gate()

    async def ask(agent: Scripted, message: int, ctx: MessageContext) -> object:
        return await agent.send_message(message, AgentId("far", "k"))

    await serve(elsewhere, "far", far)
    await serve(worker, "near", near if waits_for == "time" else ask)
    for runtime in (elsewhere, worker):
        await runtime.start()
    await caller.connect()
    call = asyncio.ensure_future(caller.send_message(1, AgentId("near", "k"), timeout=60))
    await until(lambda: far.entered or near.entered)
    await worker.stop()
    with pytest.raises(WorkerLostError, match="near/k stopped before the handler had finished"):
        await call
    far.opened.set()


async def test_a_caller_is_told_that_the_process_stopped_when_a_part_of_its_runtime_fails(
    new_runtime: NewRuntime,
) -> None:
    async def fails() -> None:
        raise ValueError("a fault")

    worker, caller = new_runtime(), new_runtime()
    gate = Gate()
    await serve(worker, "slow", gate)
    await worker.start()
    await caller.connect()
    call = asyncio.ensure_future(caller.send_message(1, AgentId("slow", "k"), timeout=60))
    await until(lambda: gate.entered)
    worker._tasks.start(fails())
    with pytest.raises(WorkerLostError, match="slow/k stopped before the handler had finished"):
        await call


@pytest.mark.parametrize("is_stateless", [False, True])
async def test_an_event_whose_handler_waits_for_another_agent_when_its_process_stops_is_handled_elsewhere(
    new_runtime: NewRuntime, observe: Observe, is_stateless: bool
) -> None:
    far = Gate()
    handled: list[object] = []

    class Asking(Scripted):
        async def on_message_impl(self, message: object, ctx: MessageContext) -> None:
            handled.append(await self.send_message(message, AgentId("far", "k")))

    agent_class = stateless_worker(Asking) if is_stateless else Asking
    elsewhere, leaving, next_one = new_runtime(), new_runtime(drain_timeout=0.2), new_runtime()
    await elsewhere.register_factory("far", lambda: Scripted(far), expected_class=Scripted)
    for runtime in (leaving, next_one):
        await agent_class.register(runtime, "near", agent_class)
        await runtime.add_subscription(TypeSubscription("t", "near"))
    await elsewhere.start()
    await leaving.start()
    for number in range(5):
        await elsewhere.publish_message(number, TopicId("t", str(number)))
    await until(lambda: far.entered == 5)
    await leaving.stop()
    far.opened.set()
    await next_one.start()
    await until(lambda: len(handled) == 5)

    assert sorted(map(str, handled)) == [str(number) for number in range(5)]
    assert not (await observe()).dead_letters
