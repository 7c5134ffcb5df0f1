"""The registry tells which messages a type handles."""

import asyncio
from dataclasses import dataclass

import nats
import pytest

from broker.conftest import NewRuntime
from hivewire import ClosureAgent, ClosureContext, MessageContext, RoutedAgent, TypeSubscription, message_handler
from hivewire.nats import message_records
from hivewire.relay import RelayRuntime


@dataclass
class Order:
    item: str


class Shop(RoutedAgent):
    @message_handler
    async def on_order(self, message: Order, ctx: MessageContext) -> str:
        return message.item


async def double(ctx: ClosureContext, message: int) -> int:
    return 2 * message


async def test_a_type_that_is_registered_is_told_with_its_messages(
    new_runtime: NewRuntime, nats_url: str, namespace: str
) -> None:
    relay = RelayRuntime(nats_url, namespace=namespace)
    await relay.connect()
    assert relay.agent_types() == []
    before = relay.registry_changes

    runtime = new_runtime()
    await Shop.register(runtime, "shop", Shop)
    await runtime.add_subscription(TypeSubscription("orders", "shop"))
    await runtime.start()
    await ClosureAgent.register_closure(runtime, "double", double)
    async with asyncio.timeout(10):
        while any(each.messages is None for each in relay.agent_types()) or len(relay.agent_types()) < 2:
            await asyncio.sleep(0.01)

    closure, shop = relay.agent_types()
    assert (shop.name, shop.kind, shop.shards) == ("shop", "sharded", 16)
    assert [each.content_id for each in shop.subscriptions] == ["exact:orders", "prefix:shop:"]
    assert shop.messages is not None
    assert [message.form.name for message in shop.messages.messages] == ["Order"]
    assert closure.messages is not None
    assert closure.messages.handles_directly("int")
    assert relay.registry_changes > before
    await relay.stop()


async def test_a_restart_writes_nothing(new_runtime: NewRuntime, nats_url: str, namespace: str) -> None:
    client = await nats.connect(nats_url)
    revisions = []
    for _ in range(2):
        runtime = new_runtime()
        await Shop.register(runtime, "shop", Shop)
        await runtime.start()
        await runtime.stop()
        entry = await client.jetstream().get_last_msg(
            f"KV_{namespace}_registry", f"$KV.{namespace}_registry.shop.messages"
        )
        revisions.append(entry.seq)
    assert revisions[0] == revisions[1]
    await client.close()


async def test_a_record_that_can_not_be_written_stops_nobody(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise message_records.JetStreamError(1, "no")

    runtime = new_runtime()
    await runtime.connect()
    records = message_records.MessageRecords(runtime._broker, runtime._subjects)
    monkeypatch.setattr(message_records.Bucket, "put", refuse)
    await records.write(message_records.TypeMessages(type="shop"))
    assert "can't be told to others" in caplog.text
