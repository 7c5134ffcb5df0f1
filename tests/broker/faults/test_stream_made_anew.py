"""The event stream is deleted and made again: sequences of the old one mean nothing, and everything goes on."""

import asyncio
import json
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import TOPIC_TYPE, Scripted, agent_at, serve, until
from hivewire import AgentId, MessageContext, NatsAgentRuntime, TopicId, TypeSubscription, stateless_worker
from hivewire.nats.subjects import Subjects

KEYS = [f"k{number}" for number in range(20)]


@pytest.fixture
def stream(namespace: str) -> str:
    return Subjects(namespace).events_stream


async def ask(client: Client, operation: str, body: Any = None) -> dict[str, Any]:
    payload = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{operation}", payload)).data)
    assert "error" not in answer, answer
    return answer


class Ledger:
    """A handler that notes what it got."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    async def __call__(self, agent: Scripted, message: int, ctx: MessageContext) -> int:
        self.numbers.append(message)
        return message


async def publish(runtime: NatsAgentRuntime, numbers: range) -> None:
    for number in numbers:
        await runtime.publish_message(number, TopicId(TOPIC_TYPE, KEYS[number % len(KEYS)]))


async def begun_anew(*runtimes: NatsAgentRuntime, since: str) -> None:
    """Return when all runtimes own their shards by positions of another stream."""

    def owned(runtime: NatsAgentRuntime) -> bool:
        shards = runtime._serving._shards._owned.values()
        return bool(shards) and all(shard.serving and shard.stream != since for shard in shards)

    await until(lambda: all(owned(runtime) for runtime in runtimes), 30)


async def test_a_deleted_stream_is_made_again_and_its_types_go_on_in_it(
    new_runtime: NewRuntime, client: Client, stream: str
) -> None:
    ledger, crunched = Ledger(), Ledger()

    @stateless_worker
    class Crunch(Scripted):
        pass

    runtimes = [new_runtime(), new_runtime()]
    for runtime in runtimes:
        await serve(runtime, "agent", ledger)
        await Crunch.register(runtime, "crunch", lambda: Crunch(crunched))
        await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "crunch"))
        await runtime.start()
    created = runtimes[0]._registry._stream.created
    await publish(runtimes[0], range(200))
    await until(lambda: len(ledger.numbers) == len(crunched.numbers) == 200)
    await ask(client, f"STREAM.DELETE.{stream}")
    # Publishers wait until there is a stream again, and then the first sequences are those of the old one once more.
    await publish(runtimes[1], range(200, 300))
    await until(lambda: len(ledger.numbers) >= 300)
    await begun_anew(*runtimes, since=created)
    await publish(runtimes[0], range(300, 400))
    await until(lambda: len(ledger.numbers) >= 400)
    assert sorted(ledger.numbers) == list(range(400))
    # The consumer of a stateless type takes what comes once it is there again.
    await until(lambda: set(crunched.numbers) >= set(range(300, 400)))
    assert len(crunched.numbers) == len(set(crunched.numbers))


async def test_a_stream_that_somebody_else_made_anew_is_not_taken_for_the_old_one(
    new_runtime: NewRuntime, client: Client, stream: str
) -> None:
    ledger = Ledger()
    runtime = new_runtime()
    await serve(runtime, "agent", ledger)
    await runtime.start()
    created = runtime._registry._stream.created
    await publish(runtime, range(200))
    await until(lambda: len(ledger.numbers) == 200)
    config = (await ask(client, f"STREAM.INFO.{stream}"))["config"]
    await ask(client, f"STREAM.DELETE.{stream}")
    await ask(client, f"STREAM.CREATE.{stream}", config)
    await publish(runtime, range(200, 250))
    await until(lambda: len(ledger.numbers) >= 250)
    await begun_anew(runtime, since=created)
    assert sorted(ledger.numbers) == list(range(250))


async def test_a_type_that_nobody_serves_meanwhile_gets_all_of_the_new_stream(
    new_runtime: NewRuntime, client: Client, stream: str
) -> None:
    served, publisher, back = new_runtime(), new_runtime(), new_runtime()
    await serve(served, "agent")
    await served.start()
    await served.stop()
    await publisher.connect()
    created = publisher._registry._stream.created
    await ask(client, f"STREAM.DELETE.{stream}")
    await publish(publisher, range(3))
    await until(lambda: publisher._registry._stream.created != created)
    ledger = Ledger()
    await serve(back, "agent", ledger)
    await back.start()
    await until(lambda: len(ledger.numbers) >= 3)
    assert sorted(ledger.numbers) == [0, 1, 2]


async def test_calls_are_answered_all_the_while(new_runtime: NewRuntime, client: Client, stream: str) -> None:
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await caller.connect()
    created = worker._registry._stream.created
    going_on = True
    answered = 0

    async def call_on() -> None:
        nonlocal answered
        while going_on:
            assert await caller.send_message(answered, AgentId("agent", "k")) is not None
            answered += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(call_on())
        await until(lambda: answered > 100)
        await ask(client, f"STREAM.DELETE.{stream}")
        await begun_anew(worker, since=created)
        before = answered
        await until(lambda: answered > before + 100)
        going_on = False
    assert (await agent_at(worker, "agent")).seen
