"""Types and namespaces that are removed for good."""

from collections.abc import Mapping
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import until
from hivewire import (
    AgentId,
    MessageContext,
    RoutedAgent,
    RuntimeStateError,
    TopicId,
    TypeSubscription,
    event,
    rpc,
    stateless_worker,
)
from hivewire.provisioning import Subjects, TopicFilter, TypeShape, Upkeep

ONE = AgentId("counter", "one")


class Counter(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("counts")
        self.count = 0

    @rpc
    async def add(self, message: str, ctx: MessageContext) -> int:
        self.count += 1
        return self.count

    async def save_state(self) -> Mapping[str, Any]:
        return {"count": self.count}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.count = state["count"]


@stateless_worker
class Anybody(RoutedAgent):
    @event
    async def on_event(self, message: str, ctx: MessageContext) -> None:
        return


async def test_a_type_that_is_removed_begins_anew_and_others_keep_what_they_have(
    nats_url: str, namespace: str, new_runtime: NewRuntime
) -> None:
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        for _ in range(2):
            worker = await new_runtime(provision=False).connect()
            for name in ("counter", "other"):
                await Counter.register(worker, name, Counter)
            await worker.start()
            assert await worker.send_message("x", ONE) == 1
            other = await worker.send_message("x", AgentId("other", "one"))
            with pytest.raises(RuntimeStateError, match=r"counter is not removed, as .* serves it"):
                await upkeep.remove_type("counter")
            await worker.stop()
            await until(lambda: not upkeep._serving("counter"))
            await upkeep.remove_type("counter")
            await upkeep.remove_type("counter")
            seen = await upkeep.observe()
            assert [each.name for each in seen.types if each.name == "counter"] == []
        assert other == 2


async def test_a_removed_type_may_come_back_with_another_shape(nats_url: str, namespace: str, client: Client) -> None:
    subjects = Subjects(namespace)
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        await upkeep.register_type("worker", TypeShape(kind="stateless", shards=1))
        await upkeep.add_subscription("worker", TopicFilter(kind="exact", value="job"))
        consumer = f"$JS.API.CONSUMER.INFO.{subjects.events_stream}.{subjects.consumer_of('worker')}"
        assert b'"error"' not in (await client.request(consumer, b"")).data

        await upkeep.remove_type("worker")

        assert b'"err_code":10014' in (await client.request(consumer, b"")).data
        await upkeep.register_type("worker", TypeShape(shards=4))
        await until(lambda: upkeep._registry.get("worker"))
        assert upkeep._registry.get("worker").subscriptions.filters == ()


async def test_a_namespace_that_is_removed_leaves_nothing(
    nats_url: str, namespace: str, new_runtime: NewRuntime, client: Client
) -> None:
    async with Upkeep(nats_url, namespace=namespace) as upkeep:
        worker = await new_runtime(provision=False).connect()
        await Anybody.register(worker, "anybody", lambda: Anybody("any"))
        await worker.add_subscription(TypeSubscription("job", "anybody"))
        await worker.start()
        await worker.publish_message("x", TopicId("job", "one"))
        with pytest.raises(RuntimeStateError, match=r"the namespace is not removed, as .* is there"):
            await upkeep.remove_namespace()
        await worker.stop()
        await until(lambda: not upkeep._serving(None))
        await upkeep.remove_namespace()

    for subject in (f"{namespace}.>", f"$KV.{namespace}_*.>"):
        names = await client.request("$JS.API.STREAM.NAMES", b'{"subject":"%s"}' % subject.encode())
        assert b'"streams":null' in names.data
