"""Subscriptions that begin with what was stored before them."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import until
from hivewire import (
    AgentNotFoundError,
    BrokerUnavailableError,
    HivewireError,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TopicId,
    TypeSubscription,
    event,
    stateless_worker,
)
from hivewire.nats import history
from hivewire.provisioning import DeliveryPolicy, HistoryProgress, TopicFilter, TypeShape, Upkeep

Seen = dict[str, list[str]]


class Reader(RoutedAgent):
    shards = 4

    def __init__(self, seen: Seen) -> None:
        super().__init__("reads")
        self._seen = seen

    @event
    async def on_event(self, message: str, ctx: MessageContext) -> None:
        assert ctx.topic_id is not None
        self._seen[self.id.key].append(f"{ctx.topic_id.type} {message}")


@stateless_worker
class AnyReader(Reader):
    pass


def exact(topic_type: str) -> TopicFilter:
    return TopicFilter(kind="exact", value=topic_type)


@pytest.fixture
def seen() -> Seen:
    return defaultdict(list)


@pytest.fixture
async def upkeep(nats_url: str, namespace: str) -> AsyncIterator[Upkeep]:
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        await upkeep.register_type("reader", TypeShape(shards=4))
        yield upkeep


@pytest.fixture
async def publisher(upkeep: Upkeep, new_runtime: NewRuntime) -> NatsAgentRuntime:
    return await new_runtime(provision=False, deployment="elsewhere").connect()


async def publish(publisher: NatsAgentRuntime, topic_type: str, numbers: Iterable[int], *, keys: int = 3) -> None:
    for number in numbers:
        await publisher.publish_message(str(number), TopicId(topic_type, f"key {number % keys}"))


async def complete(upkeep: Upkeep, topics: TopicFilter, delivery: DeliveryPolicy | None = None) -> HistoryProgress:
    for _ in range(200):
        progress = await upkeep.send_history("reader", topics, delivery)
        if progress.done:
            return progress
    raise AssertionError(progress)


async def serve(new_runtime: NewRuntime, seen: Seen, agent_class: type[Reader] = Reader) -> NatsAgentRuntime:
    worker = await new_runtime(provision=False, deployment="readers").connect()
    await agent_class.register(worker, "reader", lambda: agent_class(seen))
    await worker.start()
    return worker


def of(seen: Seen) -> int:
    return sum(map(len, seen.values()))


async def test_what_is_stored_comes_first_and_each_event_once_in_the_order_of_its_key(
    upkeep: Upkeep, publisher: NatsAgentRuntime, new_runtime: NewRuntime, seen: Seen
) -> None:
    await serve(new_runtime, seen)
    await publish(publisher, "task", range(700))
    await publish(publisher, "other", range(5))
    going_on = asyncio.create_task(publish(publisher, "task", range(700, 1_000)))

    progress = await complete(upkeep, exact("task"))
    await going_on
    await until(lambda: of(seen) == 1_000)

    assert progress.sent >= 700
    assert seen == {f"key {key}": [f"task {n}" for n in range(key, 1_000, 3)] for key in range(3)}


async def test_a_topic_that_never_rests_is_joined_all_the_same(
    upkeep: Upkeep, publisher: NatsAgentRuntime, new_runtime: NewRuntime, seen: Seen
) -> None:
    await serve(new_runtime, seen)
    await publish(publisher, "task", range(50))
    numbers = iter(range(50, 1_000_000))
    resting = asyncio.Event()
    published = 50

    async def go_on() -> None:
        nonlocal published
        while not resting.is_set():
            await publish(publisher, "task", [next(numbers)])
            published += 1

    publishers = [asyncio.create_task(go_on()) for _ in range(4)]
    await complete(upkeep, exact("task"))
    resting.set()
    await asyncio.gather(*publishers)
    await until(lambda: of(seen) >= published)

    assert sorted(int(each.split()[1]) for key in seen.values() for each in key) == list(range(published))


async def test_what_another_subscription_brought_does_not_come_again(
    upkeep: Upkeep, publisher: NatsAgentRuntime, new_runtime: NewRuntime, seen: Seen
) -> None:
    await serve(new_runtime, seen)
    await publish(publisher, "task", range(10))
    await upkeep.add_subscription("reader", exact("task"))
    await publish(publisher, "task", range(10, 20))
    await upkeep.remove_subscription("reader", exact("task"))
    await publish(publisher, "task", range(20, 30))
    await complete(upkeep, TopicFilter(kind="prefix", value="ta"))
    await publish(publisher, "task", range(30, 40))
    # All of it came by the prefix or before.
    progress = await complete(upkeep, exact("task"))
    await publish(publisher, "task", range(40, 50))
    await until(lambda: of(seen) == 50)

    assert progress.sent == 0
    assert sorted(int(each.split()[1]) for key in seen.values() for each in key) == list(range(50))


async def test_one_that_was_removed_goes_on_where_it_was(
    upkeep: Upkeep, publisher: NatsAgentRuntime, new_runtime: NewRuntime, seen: Seen
) -> None:
    await serve(new_runtime, seen)
    await publish(publisher, "task", range(10))
    await complete(upkeep, exact("task"))
    await publish(publisher, "task", range(10, 20))
    await upkeep.remove_subscription("reader", exact("task"))
    await publish(publisher, "task", range(20, 30))
    progress = await complete(upkeep, exact("task"))
    await until(lambda: of(seen) == 30)

    assert progress.sent == 20
    assert seen == {f"key {key}": [f"task {n}" for n in range(key, 30, 3)] for key in range(3)}


async def test_whoever_takes_over_goes_on_and_sends_nothing_twice(
    upkeep: Upkeep,
    publisher: NatsAgentRuntime,
    new_runtime: NewRuntime,
    seen: Seen,
    nats_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "_AT_ONCE", 20)
    await publish(publisher, "task", range(100))
    first = await upkeep.send_history("reader", exact("task"))
    async with Upkeep(nats_url, namespace=namespace) as successor:
        both = await asyncio.gather(
            upkeep.send_history("reader", exact("task")),
            successor.send_history("reader", exact("task")),
            return_exceptions=True,
        )
        progress = await complete(successor, exact("task"))
    await serve(new_runtime, seen)
    await until(lambda: of(seen) == 100)

    assert first == HistoryProgress(sent=19, waiting=81, done=False)  # and the marker of the type
    assert all(isinstance(each, HistoryProgress | BrokerUnavailableError) for each in both)
    assert progress == HistoryProgress(sent=100, waiting=0, done=True)
    assert seen == {f"key {key}": [f"task {n}" for n in range(key, 100, 3)] for key in range(3)}


async def test_what_its_code_subscribes_to_can_be_given_from_the_beginning_too(
    upkeep: Upkeep, publisher: NatsAgentRuntime, new_runtime: NewRuntime, seen: Seen
) -> None:
    await publish(publisher, "task", range(10))
    worker = await new_runtime(provision=False, deployment="readers").connect()
    await Reader.register(worker, "reader", lambda: Reader(seen))
    await worker.add_subscription(TypeSubscription("task", "reader"))
    await worker.start()
    await publish(publisher, "task", range(10, 20))
    progress = await complete(upkeep, exact("task"))
    await until(lambda: of(seen) == 20)

    assert progress.sent == 10


async def test_a_stateless_type_gets_its_history(
    nats_url: str, namespace: str, new_runtime: NewRuntime, seen: Seen
) -> None:
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        await upkeep.register_type("reader", TypeShape(kind="stateless", shards=1))
        publisher = await new_runtime(provision=False, deployment="elsewhere").connect()
        await serve(new_runtime, seen, AnyReader)
        await publish(publisher, "task", range(300))
        await complete(upkeep, exact("task"))
        await publish(publisher, "task", range(300, 400))
        await until(lambda: of(seen) == 400)

        assert sorted(int(each.split()[1]) for key in seen.values() for each in key) == list(range(400))


async def test_its_delivery_policy_holds_for_the_history(
    upkeep: Upkeep, publisher: NatsAgentRuntime, new_runtime: NewRuntime, seen: Seen
) -> None:
    attempts: list[str] = []

    class Failing(Reader):
        @event
        async def on_event(self, message: str, ctx: MessageContext) -> None:
            attempts.append(message)
            raise RuntimeError(message)

    await publish(publisher, "task", [1])
    await complete(upkeep, exact("task"), DeliveryPolicy(attempts=2, first_delay_s=0.01))
    await serve(new_runtime, seen, Failing)
    await until(lambda: len(attempts) == 2)
    await until_dead(upkeep)

    assert attempts == ["1", "1"]


async def until_dead(upkeep: Upkeep) -> None:
    async with asyncio.timeout(10):
        while not (await upkeep.observe()).dead_letters:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("record", [b"nonsense", b'{"format": 1}', b'{"format": 99}'])
async def test_a_record_that_can_not_be_read_is_told_and_left_alone(
    upkeep: Upkeep, client: Client, namespace: str, record: bytes
) -> None:
    await upkeep.send_history("reader", exact("task"))
    bucket = f"KV_{namespace}_registry"
    info = await client.request(f"$JS.API.STREAM.INFO.{bucket}", b'{"subjects_filter": ">"}')
    (subject,) = [each for each in json.loads(info.data)["state"]["subjects"] if ".history-" in each]
    await client.jetstream().publish(subject, record)
    with pytest.raises(HivewireError, match=r"history of a subscription is.*(can't be read|upgrade this process)"):
        await upkeep.send_history("reader", exact("task"))
    stored = await client.jetstream().get_last_msg(bucket, subject)
    assert stored.data == record


async def test_a_type_that_nobody_has_registered_is_refused(nats_url: str, namespace: str) -> None:
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        with pytest.raises(AgentNotFoundError, match="No process and no AgentDeployment has registered the agent type"):
            await upkeep.send_history("nobody", exact("task"))
        await upkeep.add_subscription("nobody", exact("other"))
        with pytest.raises(AgentNotFoundError):
            await upkeep.send_history("nobody", exact("task"))
