"""Resumable streams whose reader or producer is killed, or stops."""

import asyncio
import random
import time
from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.kept_streams import DEADLINE_S, TYPE, Count, Counter, know, numbers, program
from child_processes import Program
from hivewire import AgentId, DeadlineExceededError, NatsAgentRuntime, RuntimeStateError, WorkerLostError
from hivewire.model.streams import MessageStream
from hivewire.nats.subjects import Subjects

COUNTER = AgentId(TYPE, "k")
LOST_WITHIN_S = 10.0


@pytest.fixture
async def reader(new_runtime: NewRuntime) -> NatsAgentRuntime:
    """A process that has no counter of its own."""
    runtime = await new_runtime().connect()
    know(runtime)
    return runtime


@pytest.fixture
async def producer(nats_url: str, namespace: str) -> AsyncIterator[Program]:
    async with program("producer", nats_url, namespace) as producer:
        await producer.printed("serving")
        yield producer


async def rest_of(stream: MessageStream) -> list[int]:
    """Read what is left of a stream whose producer was killed."""
    read: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(WorkerLostError):
            async for chunk in stream:
                read.append(chunk.number)
    return read


async def test_another_process_reads_on_when_the_one_that_opened_the_stream_is_killed(
    nats_url: str, namespace: str, producer: Program, reader: NatsAgentRuntime
) -> None:
    async with program("reader", nats_url, namespace, "k", 150, 0.02) as first:
        await first.printed("#20")
        first.kill()
    stream_id, *read = first.lines
    last = int(read[-1].removeprefix("#"))
    assert last < 100
    assert await numbers(reader.resume_stream(stream_id, after=last)) == list(range(last + 1, 151))
    assert "cancelled" not in producer.lines


async def test_a_stream_goes_on_when_the_process_that_opened_it_stops(
    producer: Program, reader: NatsAgentRuntime, new_runtime: NewRuntime
) -> None:
    caller = await new_runtime().connect()
    know(caller)
    stream = caller.stream_message(Count(100, 0.02), COUNTER, resumable=True)
    await numbers(stream, 10)
    await caller.stop()
    assert stream.id is not None
    assert await numbers(reader.resume_stream(stream.id, after=10)) == list(range(11, 101))
    assert "cancelled" not in producer.lines


async def test_a_producer_that_stops_tells_it_to_the_readers(new_runtime: NewRuntime, reader: NatsAgentRuntime) -> None:
    producer = new_runtime(drain_timeout=0.2)
    await Counter.register(producer, TYPE, Counter)
    await producer.start()
    stream = reader.stream_message(Count(100_000, 0.01), COUNTER, resumable=True)
    await numbers(stream, 5)
    await producer.stop()
    begun = time.monotonic()
    with pytest.raises(WorkerLostError, match="stopped before the handler had finished"):
        await numbers(reader.resume_stream(stream.id or "", after=5))
    assert time.monotonic() - begun < 2


@pytest.mark.slow
async def test_a_handler_that_blocks_its_process_is_not_taken_for_dead(
    producer: Program, reader: NatsAgentRuntime
) -> None:
    stream = reader.stream_message(Count(3, blocking_s=20.0), COUNTER, timeout=60, resumable=True)
    await stream.start()
    other = reader.resume_stream(stream.id or "")
    assert await asyncio.gather(numbers(stream), numbers(other)) == [[1, 2, 3], [1, 2, 3]]


async def test_a_reader_whose_own_runtime_stops_is_told(producer: Program, new_runtime: NewRuntime) -> None:
    caller = await new_runtime(drain_timeout=0.2).connect()
    know(caller)
    stream = caller.stream_message(Count(2, idle_s=60), COUNTER, resumable=True)
    assert await numbers(stream, 2) == [1, 2]
    other = caller.resume_stream(stream.id or "", after=2)
    await other.start()
    reading = [asyncio.ensure_future(numbers(each)) for each in (stream, other)]
    await caller.stop()
    async with asyncio.timeout(3):
        outcomes = await asyncio.gather(*reading, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RuntimeStateError] * 2


async def test_other_readers_are_told_that_nobody_took_the_message(
    nats_url: str, namespace: str, reader: NatsAgentRuntime, new_runtime: NewRuntime
) -> None:
    async with program("producer", nats_url, namespace) as producer:
        await producer.printed("serving")
        assert await numbers(reader.stream_message(Count(1), COUNTER)) == [1]
    stream = reader.stream_message(Count(1), COUNTER, timeout=0.5, resumable=True)
    other = reader.resume_stream(stream.id or "")
    await stream.start()
    for each in (stream, other):
        with pytest.raises(DeadlineExceededError):
            await numbers(each)


async def test_the_deadline_holds_when_the_process_that_opened_the_stream_is_killed(
    nats_url: str, namespace: str, producer: Program, reader: NatsAgentRuntime
) -> None:
    async with program("reader", nats_url, namespace, "k", 1_000_000, 0.02, 3) as first:
        await first.printed("#5")
        first.kill()
        begun = time.monotonic()
    read = []
    with pytest.raises(DeadlineExceededError):
        async for chunk in reader.resume_stream(first.lines[0]):
            read.append(chunk.number)
    assert read == list(range(1, len(read) + 1)) and len(read) > 5
    assert time.monotonic() - begun < 6
    await producer.printed("cancelled")


@pytest.mark.slow
async def test_readers_of_a_producer_that_is_killed_get_all_that_it_stored_and_then_an_error(
    client: Client, namespace: str, producer: Program, reader: NatsAgentRuntime
) -> None:
    stream = reader.stream_message(Count(1_000_000, 0.001), COUNTER, resumable=True)
    await numbers(stream, 100)
    assert stream.id is not None
    other = reader.resume_stream(stream.id, after=50)
    await numbers(other, 100)
    producer.kill()
    killed_at = time.monotonic()
    of_first, of_other = await asyncio.gather(rest_of(stream), rest_of(other))
    assert time.monotonic() - killed_at < LOST_WITHIN_S
    last = await last_stored(client, namespace, stream.id)
    assert of_first == list(range(101, last + 1))
    assert of_other == list(range(151, last + 1))
    # Also for who comes when it is long dead.
    assert await rest_of(reader.resume_stream(stream.id, after=120)) == list(range(121, last + 1))
    with pytest.raises(WorkerLostError, match=f"its last chunk was number {last}"):
        await anext(reader.resume_stream(stream.id, after=last))


@pytest.mark.slow
@pytest.mark.parametrize("count", [Count(5, pause_s=60), Count(5, idle_s=60)], ids=["before", "after"])
async def test_readers_of_a_producer_that_is_killed_around_its_chunks_get_an_error(
    producer: Program, reader: NatsAgentRuntime, count: Count
) -> None:
    stream = reader.stream_message(count, COUNTER, timeout=120, resumable=True)
    await stream.start()
    await producer.printed("counting")
    chunks = 0 if count.pause_s else 5
    other = reader.resume_stream(stream.id or "")
    for each in (stream, other):
        assert await numbers(each, chunks) == list(range(1, chunks + 1))
    producer.kill()
    killed_at = time.monotonic()
    assert await asyncio.gather(rest_of(stream), rest_of(other)) == [[], []]
    assert time.monotonic() - killed_at < LOST_WITHIN_S


@pytest.mark.slow
async def test_streams_whose_producer_is_killed_at_a_random_moment_have_no_gap(
    client: Client, nats_url: str, namespace: str, reader: NatsAgentRuntime, new_runtime: NewRuntime
) -> None:
    other = await new_runtime().connect()
    know(other)
    moments = random.Random(5)
    for _ in range(5):
        async with program("producer", nats_url, namespace) as producer:
            await producer.printed("serving")
            counts = [Count(moments.randrange(1, 400), moments.uniform(0, 0.02)) for _ in range(20)]
            streams = [
                reader.stream_message(count, AgentId(TYPE, str(number)), timeout=60, resumable=True)
                for number, count in enumerate(counts)
            ]
            await asyncio.gather(*(stream.start() for stream in streams))
            ids = [stream.id or "" for stream in streams]
            reading = [asyncio.ensure_future(whole(each)) for each in (*streams, *map(other.resume_stream, ids))]
            await asyncio.sleep(moments.uniform(0, 1.5))
            producer.kill()
            killed_at = time.monotonic()
            async with asyncio.timeout(DEADLINE_S):
                outcomes = await asyncio.gather(*reading)
            assert time.monotonic() - killed_at < LOST_WITHIN_S
        for number, (stream_id, count) in enumerate(zip(ids, counts, strict=True)):
            for read, ended_well in (outcomes[number], outcomes[number + len(ids)]):
                last = await last_stored(client, namespace, stream_id)
                assert read == list(range(1, last + 1))
                assert not ended_well or last == count.last


@pytest.mark.slow
async def test_readers_that_are_killed_at_random_moments_are_followed_by_others_without_a_gap(
    nats_url: str, namespace: str, producer: Program, reader: NatsAgentRuntime
) -> None:
    moments = random.Random(6)
    for _ in range(4):
        async with (
            program("reader", nats_url, namespace, "a", 400, 0.01) as first,
            program("reader", nats_url, namespace, "b", 400, 0.005) as second,
        ):
            await first.printed("#1")
            await second.printed("#1")
            await asyncio.sleep(moments.uniform(0, 1.5))
            first.kill()
            second.kill()
        for one in (first, second):
            stream_id, *read = one.lines
            last = len(read)
            assert read == [f"#{number}" for number in range(1, last + 1)]
            assert await numbers(reader.resume_stream(stream_id, after=last)) == list(range(last + 1, 401))
    assert "cancelled" not in producer.lines


async def whole(stream: MessageStream) -> tuple[list[int], bool]:
    """Read a stream, and tell whether it ended well or with its producer."""
    read: list[int] = []
    try:
        async for chunk in stream:
            read.append(chunk.number)
    except WorkerLostError:
        return read, False
    return read, True


async def last_stored(client: Client, namespace: str, stream_id: str) -> int:
    """Return the number of the last chunk of a stream that is stored. Its begin has the number 0."""
    subjects = Subjects(namespace)
    last = await client.jetstream().get_last_msg(subjects.chunks_stream, subjects.chunk(stream_id))
    headers = last.headers or {}
    number = int(headers["Hw-Chunk"])
    return number - 1 if headers.get("Hw-Status") in ("end", "error") else number
