"""What is seen of a whole system on a real server: what waits, for how long, and who lives."""

import asyncio
import logging
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from broker.conftest import NewRuntime
from broker.observing import Observe, observer_of, only_type, seen
from broker.scripted import TOPIC_TYPE, Gate, Scripted, serve, until
from hivewire import AgentId, MessageContext, NatsAgentRuntime, TopicId, TypeSubscription, stateless_worker
from hivewire.nats import dead_letter_counts, observer, owned_shard, shard_readers, system_watch
from hivewire.nats.broker import Broker
from hivewire.nats.dead_letter_store import DeadLetterFilter, DeadLetterStore
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.observation import TypeObservation
from hivewire.nats.subjects import Subjects
from hivewire.nats.system_watch import SystemWatch
from hivewire.nats.tokens import slot
from hivewire.telemetry.system_metrics import SystemMetrics


async def publish(runtime: NatsAgentRuntime, *values: int, key: str = "k") -> None:
    for value in values:
        await runtime.publish_message(value, TopicId(TOPIC_TYPE, key))


async def test_what_waits_without_a_process_is_counted_until_one_has_handled_it(
    new_runtime: NewRuntime, observe: Observe
) -> None:
    first, publisher = new_runtime(deployment="d"), new_runtime()
    await publisher.connect()
    await serve(first, "agent")
    await first.start()
    seen_first = await observe()
    assert [(each.deployment, each.state) for each in seen_first.sessions] == [("d", "serving")]
    assert seen_first.shards_owned == {seen_first.sessions[0].session: 16}
    assert seen_first.types[0] == TypeObservation(
        name="agent", kind="sharded", shards=16, shards_owned=16, lag_messages=0, oldest_event_s=None, dead_letters=0
    )
    await first.stop()
    assert replace(seen_first.types[0], shards_owned=0) == await only_type(observe)
    await publish(publisher, 1, 2, key="a")
    await publish(publisher, 3, key="b")
    await publisher.publish_message(4, TopicId("other", "a"))
    waiting = await only_type(observe)
    assert (waiting.lag_messages, waiting.shards_without_owner) == (3, 16)
    assert waiting.oldest_event_s is not None
    older = await only_type(observe)
    assert older.oldest_event_s is not None
    assert 0 < waiting.oldest_event_s < older.oldest_event_s < 30
    again = new_runtime()
    await serve(again, "agent")
    await again.start()
    await seen(observe, lambda found: (found.lag_messages, found.oldest_event_s) == (0, None))
    assert (await only_type(observe)).shards_without_owner == 0


async def test_what_waits_behind_a_turn_that_does_not_end_is_told_by_its_owner(
    new_runtime: NewRuntime, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_shard, "TELL_LAG_EVERY_S", 0.2)
    gate = Gate()
    runtime = new_runtime()
    await serve(runtime, "agent", gate)
    await runtime.start()
    # More than are read of one key, so it is parked; and others beside it in the stream.
    for number in range(40):
        await publish(runtime, number)
        await runtime.publish_message(number, TopicId("other", "k"))
    await seen(observe, lambda found: found.lag_messages == 40)
    assert (await only_type(observe)).oldest_event_s is not None
    gate.opened.set()
    await seen(observe, lambda found: found.lag_messages == 0 and found.oldest_event_s is None)


async def test_what_comes_while_a_shard_has_no_room_is_told_too(
    new_runtime: NewRuntime, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owned_shard, "TELL_LAG_EVERY_S", 0.2)
    monkeypatch.setattr(shard_readers, "COUNT_EVERY_S", 0.2)
    gate = Gate()
    runtime = new_runtime()
    await serve(runtime, "agent", gate)
    await runtime.start()
    keys = [key for key in map(str, range(9_999)) if slot(key) % 16 == 0][:300]
    await asyncio.gather(*(publish(runtime, 1, key=key) for key in keys[:280]))
    await until(lambda: gate.entered == owned_shard.WINDOW)
    await asyncio.gather(*(publish(runtime, 1, key=key) for key in keys[280:]))
    await seen(observe, lambda found: found.lag_messages == 300)
    gate.opened.set()
    await seen(observe, lambda found: found.lag_messages == 0)


async def test_a_record_that_tells_nothing_new_is_not_believed(
    new_runtime: NewRuntime, observe: Observe, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    runtime = new_runtime()
    await serve(runtime, "agent", gate)
    await runtime.start()
    await publish(runtime, 1)
    assert (await only_type(observe)).lag_messages == 0
    monkeypatch.setattr(observer, "STALE_AFTER_S", 0.0)
    await seen(observe, lambda found: found.lag_messages == 1)
    gate.opened.set()


async def test_a_stateless_type_waits_for_what_is_not_acknowledged(new_runtime: NewRuntime, observe: Observe) -> None:
    gate = Gate()

    @stateless_worker
    class Crunch(Scripted):
        pass

    runtime = new_runtime()
    await Crunch.register(runtime, "crunch", lambda: Crunch(gate))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "crunch"))
    await runtime.start()
    await publish(runtime, 1, 2)
    await until(lambda: gate.entered == 2)
    found = await only_type(observe)
    assert (found.kind, found.shards_without_owner, found.lag_messages) == ("stateless", None, 2)
    assert found.oldest_event_s is not None
    gate.opened.set()
    await seen(observe, lambda found: (found.lag_messages, found.oldest_event_s) == (0, None))


async def test_an_instance_that_ended_has_no_shard_without_an_owner_and_no_lag(
    new_runtime: NewRuntime, observe: Observe
) -> None:
    runtime, publisher = new_runtime(), new_runtime()
    await publisher.connect()
    await Scripted().register_instance(runtime, AgentId("single", "k"))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "single"))
    await runtime.start()
    assert (await only_type(observe)).shards_owned == 1
    await runtime.stop()
    await publish(publisher, 1)
    ended = await only_type(observe)
    assert (ended.kind, ended.shards_without_owner, ended.shards_owned, ended.lag_messages) == ("instances", None, 0, 0)


@pytest.mark.parametrize("listed_at_most", [10_000, 0])
async def test_dead_letters_are_counted_by_type(
    new_runtime: NewRuntime,
    observe: Observe,
    nats_url: str,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    listed_at_most: int,
) -> None:
    monkeypatch.setattr(dead_letter_counts, "LISTED_AT_MOST", listed_at_most)

    async def fail(agent: Scripted, message: int, ctx: MessageContext) -> None:
        raise ValueError("no")

    runtime = new_runtime()
    await serve(runtime, "agent", fail)
    await runtime.start()
    await publish(runtime, 1, 2, 3)
    await seen(observe, lambda found: found.dead_letters == 3)
    broker = Broker(nats_url, name="test")
    await broker.open()
    store = DeadLetterStore(broker, Subjects(namespace))
    found = [letter async for letter in store.find(DeadLetterFilter())]
    await store.remove(found[0])
    await broker.close()
    assert (await only_type(observe)).dead_letters == 2
    assert (await observe()).dead_letters == {"agent": 2}


@pytest.mark.slow  # it waits for what counts as away
async def test_while_the_broker_is_away_values_stay_and_failures_are_counted(
    server: EmbeddedServer,
    new_runtime: NewRuntime,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def value(name: str) -> float | None:
        labels = {"system": namespace} if name.endswith("_total") else {"system": namespace, "agent_type": "agent"}
        return REGISTRY.get_sample_value(name, labels)

    runtime = new_runtime(server.url)
    await serve(runtime, "agent")
    await runtime.connect()
    await runtime.start()
    await runtime.stop()
    broker = Broker(server.url, name="test")
    await broker.open()
    watch = SystemWatch(await observer_of(broker, namespace), metrics := SystemMetrics(namespace))
    await watch.look()
    assert value("hivewire_shards_without_owner") == 16
    assert (value("hivewire_shard_lag_messages"), value("hivewire_shard_oldest_event_seconds")) == (0, 0)
    assert value("hivewire_lag_read_errors_total") == 0
    await server.stop()
    monkeypatch.setattr(system_watch, "TIMEOUT_S", 0.2)
    with caplog.at_level(logging.WARNING, "hivewire.observer"):
        await watch.look()
        await watch.look()
    assert value("hivewire_lag_read_errors_total") == 2
    assert value("hivewire_shards_without_owner") == 16
    assert len([record for record in caplog.records if record.name == "hivewire.observer"]) == 1
    metrics.withdraw()
    assert value("hivewire_shards_without_owner") is None
    await broker.close()
