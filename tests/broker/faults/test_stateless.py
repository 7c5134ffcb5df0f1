"""Types whose messages any process may handle, while processes and connections fail."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.proxy import TcpProxy
from broker.scripted import until
from hivewire import (
    AgentId,
    BaseAgent,
    MessageContext,
    NatsAgentRuntime,
    TopicId,
    TypeSubscription,
    stateless_worker,
)
from hivewire.nats.embedded import EmbeddedServer

Note = Callable[[Any], Any]


@stateless_worker
class Anybody(BaseAgent):
    def __init__(self, note: Note) -> None:
        super().__init__("anybody")
        self._note = note

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        return await self._note(message)


async def serve(runtime: NatsAgentRuntime, note: Note) -> None:
    await Anybody.register(runtime, "anybody", lambda: Anybody(note))
    await runtime.add_subscription(TypeSubscription("t", "anybody"))
    await runtime.start()


def noting(into: list[Any]) -> Note:
    async def note(message: Any) -> Any:
        into.append(message)
        await asyncio.sleep(0.001)
        return message

    return note


async def test_calls_and_events_are_shared_and_each_runs_once(new_runtime: NewRuntime) -> None:
    handled: tuple[list[Any], list[Any]] = ([], [])
    for into in handled:
        await serve(new_runtime(), noting(into))
    caller = await new_runtime().connect()
    # One key: nothing keeps it in one place.
    calls = (caller.send_message(number, AgentId("anybody", "k")) for number in range(200))
    assert await asyncio.gather(*calls) == list(range(200))
    assert min(map(len, handled)) > 40
    await asyncio.gather(*(caller.publish_message(number, TopicId("t", "k")) for number in range(200, 400)))
    await until(lambda: sum(map(len, handled)) >= 400)
    assert sorted(handled[0] + handled[1]) == list(range(400))


async def test_events_go_on_when_a_process_leaves(new_runtime: NewRuntime) -> None:
    handled: tuple[list[Any], list[Any]] = ([], [])
    leaving, staying, publisher = new_runtime(), new_runtime(), new_runtime()
    await serve(leaving, noting(handled[0]))
    await serve(staying, noting(handled[1]))
    await publisher.connect()
    for number in range(300):
        await publisher.publish_message(number, TopicId("t", f"k{number}"))
        if number == 100:
            stopping = asyncio.create_task(leaving.stop())
    await stopping
    await until(lambda: sum(map(len, handled)) >= 300)
    assert sorted(handled[0] + handled[1]) == list(range(300))


async def test_events_survive_a_restart_of_the_broker(server: EmbeddedServer, new_runtime: NewRuntime) -> None:
    handled: list[Any] = []
    worker, publisher = new_runtime(server.url), new_runtime(server.url)
    await serve(worker, noting(handled))
    await publisher.connect()
    for number in range(100):
        await publisher.publish_message(number, TopicId("t", "k"))
    await until(lambda: len(handled) == 100)
    await server.restart()
    for number in range(100, 200):
        await publisher.publish_message(number, TopicId("t", "k"))
    await until(lambda: set(handled) == set(range(200)))
    await publisher.stop()
    await worker.stop()


@pytest.mark.slow
async def test_what_a_lost_process_had_taken_goes_to_another_one(new_runtime: NewRuntime, nats_url: str) -> None:
    taken: list[Any] = []
    handled: list[Any] = []

    async def never(message: Any) -> None:
        taken.append(message)
        await asyncio.Event().wait()

    publisher = await new_runtime().connect()
    async with TcpProxy(nats_url) as proxy:
        lost = new_runtime(proxy.url, drain_timeout=0.1)
        await serve(lost, never)
        for number in range(10):
            await publisher.publish_message(number, TopicId("t", "k"))
        await until(lambda: len(taken) == 10)
        await serve(new_runtime(), noting(handled))
        proxy.refuse()
        await until(lambda: sorted(handled) == list(range(10)), 45)
        await proxy.listen()
        await lost.stop()
