"""What stays in the event stream and what goes, on a real server: nothing that somebody has yet to read ever goes."""

import asyncio
import json
import logging
import time
from datetime import timedelta
from typing import Any

import pytest
from nats.aio.client import Client
from prometheus_client import REGISTRY

from broker.conftest import NewRuntime
from broker.scripted import TOPIC_TYPE, Gate, Scripted, agent_at, serve, until
from hivewire import (
    AgentId,
    NatsAgentRuntime,
    TopicId,
    TypeSubscription,
    UndeliverableException,
    stateless_worker,
)
from hivewire.nats.event_stream import StreamState
from hivewire.nats.subjects import Subjects

KEEP = 10_000.0
"""A retention that ends after the test."""


@pytest.fixture
def subjects(namespace: str) -> Subjects:
    return Subjects(namespace)


async def ask(client: Client, operation: str, body: Any = None) -> dict[str, Any]:
    payload = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{operation}", payload)).data)
    assert "error" not in answer, answer
    return answer


async def state(runtime: NatsAgentRuntime) -> StreamState:
    return await runtime._registry._stream.look()


async def sweep(runtime: NatsAgentRuntime) -> int:
    """Let the janitor do its step once all that moved is written; return the first sequence that is left."""
    await runtime._serving._readers.follow_end()
    shards = runtime._serving._shards._owned.values()
    await until(lambda: all(shard.tracker.floor == shard.position.floor for shard in shards))
    await runtime._serving._janitor.step()
    return (await state(runtime)).first


async def limit(client: Client, subjects: Subjects, **limits: int) -> None:
    config = (await ask(client, f"STREAM.INFO.{subjects.events_stream}"))["config"]
    await ask(client, f"STREAM.UPDATE.{subjects.events_stream}", {**config, **limits})


async def publish(runtime: NatsAgentRuntime, *values: int, key: str = "k") -> None:
    for value in values:
        await runtime.publish_message(value, TopicId(TOPIC_TYPE, key))


async def seen(runtime: NatsAgentRuntime, type: str, count: int, key: str = "k") -> list[int]:
    agent = await agent_at(runtime, type, key)
    await until(lambda: len(agent.seen) >= count)
    return agent.seen


async def test_what_all_types_have_finished_goes_after_the_retention_and_not_before(new_runtime: NewRuntime) -> None:
    keeping, sweeping = new_runtime(event_retention=KEEP), new_runtime(event_retention=0.0)
    await serve(sweeping, "agent")
    await sweeping.start()
    await keeping.start()
    await publish(sweeping, *range(20))
    await seen(sweeping, "agent", 20)
    first = (await state(sweeping)).first
    await sweep(keeping)
    assert (await state(keeping)).first == first
    assert await sweep(sweeping) == (await state(sweeping)).last + 1
    await publish(sweeping, 20)
    assert await seen(sweeping, "agent", 21) == list(range(21))


async def test_a_type_that_is_quiet_does_not_keep_the_events_of_the_others(new_runtime: NewRuntime) -> None:
    runtime = new_runtime(event_retention=0.0)
    await serve(runtime, "busy")
    await runtime.register_factory("quiet", Scripted)
    await runtime.add_subscription(TypeSubscription("other", "quiet"))
    await runtime.start()
    await publish(runtime, *range(10))
    await seen(runtime, "busy", 10)
    await until(lambda: not runtime._serving.turns.running)
    assert await sweep(runtime) == (await state(runtime)).last + 1


async def test_an_event_that_is_not_finished_stays_with_all_after_it(new_runtime: NewRuntime) -> None:
    gate = Gate()
    runtime = new_runtime(event_retention=0.0)
    await serve(runtime, "quick")
    await serve(runtime, "slow", gate)
    await runtime.start()
    await publish(runtime, *range(5))
    waits = (await state(runtime)).last - 4
    await seen(runtime, "quick", 5)
    await until(lambda: gate.entered)
    assert await sweep(runtime) == waits
    gate.opened.set()
    await seen(runtime, "slow", 5)
    await until(lambda: not runtime._serving.turns.running)
    assert await sweep(runtime) == (await state(runtime)).last + 1


async def test_a_stream_that_is_full_refuses_events_until_the_janitor_has_made_room(
    new_runtime: NewRuntime, client: Client, subjects: Subjects
) -> None:
    gate = Gate()
    runtime = new_runtime(event_retention=KEEP)
    await serve(runtime, "quick")
    await serve(runtime, "slow", gate)
    await runtime.start()
    await limit(client, subjects, max_bytes=64_000)
    stored = 0
    begin = (await state(runtime)).last + 1
    with pytest.raises(UndeliverableException, match=r"is full.*hivewire ps.*max_bytes.*publish again"):
        while stored < 10_000:
            await publish(runtime, stored)
            stored += 1
    assert 100 < stored < 10_000
    await seen(runtime, "quick", stored)
    assert await sweep(runtime) == begin
    gate.opened.set()
    assert await seen(runtime, "slow", stored) == list(range(stored))
    await until(lambda: not runtime._serving.turns.running)
    await sweep(runtime)
    await publish(runtime, *range(stored, stored + 50))
    for name in ("quick", "slow"):
        assert await seen(runtime, name, stored + 50) == list(range(stored + 50))


async def test_a_full_stream_names_the_type_that_keeps_it_full(
    new_runtime: NewRuntime, client: Client, subjects: Subjects, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    runtime = new_runtime()
    await serve(runtime, "sluggish", gate)
    await runtime.start()
    await limit(client, subjects, max_msgs=10)
    with pytest.raises(UndeliverableException, match="is full"):
        await publish(runtime, *range(20))
    with caplog.at_level(logging.WARNING, "hivewire.janitor"):
        await sweep(runtime)
    assert "100 % full: shard" in caplog.text
    assert "of type sluggish needs" in caplog.text
    gate.opened.set()


async def test_a_type_that_is_scaled_to_zero_keeps_what_waits_for_it_and_nothing_else(new_runtime: NewRuntime) -> None:
    gone, runtime = new_runtime(), new_runtime(event_retention=0.0)
    await serve(gone, "absent")
    await gone.start()
    await runtime.start()
    await gone.stop()
    # Nobody is there to move its positions, and nothing of this is for it.
    for number in range(10):
        await runtime.publish_message(number, TopicId("other", "k"))
    assert await sweep(runtime) == (await state(runtime)).last + 1
    await publish(runtime, 1, 2, 3)
    waits = (await state(runtime)).last - 2
    assert await sweep(runtime) == waits
    back = new_runtime()
    await serve(back, "absent")
    await back.start()
    assert await seen(back, "absent", 3) == [1, 2, 3]
    assert back._serving._readers.aged_out == 0


async def test_a_stateless_type_keeps_what_it_has_not_acknowledged(new_runtime: NewRuntime) -> None:
    gate = Gate()

    @stateless_worker
    class Crunch(Scripted):
        pass

    runtime = new_runtime(event_retention=0.0)
    await Crunch.register(runtime, "crunch", lambda: Crunch(gate))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "crunch"))
    await runtime.start()
    for number in range(5):
        await runtime.publish_message(number, TopicId("other", "k"))
    assert await sweep(runtime) == (await state(runtime)).last + 1
    await publish(runtime, 1, 2)
    await until(lambda: gate.entered == 2)
    assert await sweep(runtime) == (await state(runtime)).last - 1
    gate.opened.set()
    await until(lambda: not runtime._serving.turns.running)
    async with asyncio.timeout(15):
        while await sweep(runtime) <= (await state(runtime)).last:
            await asyncio.sleep(0.05)


async def test_what_waits_for_an_instance_whose_process_is_gone_is_kept_for_a_time(new_runtime: NewRuntime) -> None:
    async def start_instance() -> NatsAgentRuntime:
        runtime = new_runtime()
        await Scripted().register_instance(runtime, AgentId("single", "k"))
        await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "single"))
        await runtime.start()
        return runtime

    runtime = new_runtime(event_retention=0.0)
    await runtime.start()
    await (await start_instance()).stop()
    await publish(runtime, 1, 2)
    waits = (await state(runtime)).last - 1
    assert await sweep(runtime) == waits
    runtime._serving._janitor._absence = timedelta(0)
    assert await sweep(runtime) == waits + 2
    await publish(runtime, 3)
    back = await start_instance()
    assert await seen(back, "single", 1) == [3]
    assert back._serving._readers.aged_out == 2


async def test_an_instance_that_is_new_misses_nothing_that_went_before_it_came(new_runtime: NewRuntime) -> None:
    runtime = new_runtime(event_retention=0.0)
    await Scripted().register_instance(runtime, AgentId("single", "first"))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "single"))
    await runtime.start()
    await publish(runtime, 1, 2, key="first")
    await seen(runtime, "single", 2, "first")
    await until(lambda: not runtime._serving.turns.running)
    await sweep(runtime)
    await Scripted().register_instance(runtime, AgentId("single", "second"))
    await publish(runtime, 3, key="second")
    assert await seen(runtime, "single", 1, "second") == [3]
    assert runtime._serving._readers.aged_out == 0


async def test_events_that_were_removed_unread_are_counted_and_told(
    new_runtime: NewRuntime, client: Client, subjects: Subjects, caplog: pytest.LogCaptureFixture
) -> None:
    first, publisher = new_runtime(), new_runtime()
    await serve(first, "agent")
    await first.start()
    await first.stop()
    await publisher.connect()
    await publish(publisher, *range(10))
    last = (await state(publisher)).last
    await ask(client, f"STREAM.PURGE.{subjects.events_stream}", {"seq": last - 2})
    again = new_runtime()
    await serve(again, "agent")
    with caplog.at_level(logging.ERROR, "hivewire.readers"):
        await again.start()
        assert await seen(again, "agent", 3) == [7, 8, 9]
    assert again._serving._readers.aged_out >= 7
    expired = REGISTRY.get_sample_value(
        "hivewire_events_expired_total", {"system": subjects.namespace, "agent_type": "agent"}
    )
    assert expired and 7 <= expired <= again._serving._readers.aged_out
    assert f"to {last - 3} were removed from stream {subjects.events_stream} before shard" in caplog.text
    assert "of type agent had read so far" in caplog.text


async def test_a_position_that_can_not_be_read_keeps_everything(
    new_runtime: NewRuntime, client: Client, subjects: Subjects
) -> None:
    runtime = new_runtime(event_retention=0.0)
    await serve(runtime, "agent")
    await runtime.start()
    await publish(runtime, *range(5))
    await seen(runtime, "agent", 5)
    first = (await state(runtime)).first
    await client.publish(subjects.bucket_subject(subjects.positions_bucket, "other.0"), b'{"format":99}')
    await client.flush()
    with pytest.raises(Exception, match=r"position other\.0"):
        await sweep(runtime)
    assert (await state(runtime)).first == first


async def test_a_process_that_joins_does_not_become_the_janitor(new_runtime: NewRuntime) -> None:
    """One that comes and goes would never get to it."""
    first = new_runtime()
    await serve(first, "agent")
    await first.start()
    await until(lambda: first._serving._shards.leads)
    begun = int(time.time())
    await until(lambda: int(time.time()) > begun)
    for _ in range(5):
        joining = new_runtime()
        await serve(joining, "agent")
        await joining.start()
        await until(lambda: len(joining._serving._shards._live_sessions()) > 1)
        assert not joining._serving._shards.leads
        assert first._serving._shards.leads
        await joining.stop()


async def test_one_process_of_all_is_the_janitor(new_runtime: NewRuntime) -> None:
    runtimes = [new_runtime() for _ in range(3)]
    for runtime in runtimes:
        await serve(runtime, "agent")
        await runtime.start()

    def leaders() -> list[NatsAgentRuntime]:
        return [runtime for runtime in runtimes if runtime._serving._shards.leads]

    await until(lambda: len(leaders()) == 1)
    (leader,) = leaders()
    await leader.stop()
    runtimes.remove(leader)
    await until(lambda: len(leaders()) == 1)
