"""Resumable streams whose broker restarts, has lost chunks, or takes no more."""

import asyncio

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.kept_streams import DEADLINE_S, TYPE, Count, Counted, Counter, know, numbers, program
from broker.stored import api
from hivewire import AgentId, NatsAgentRuntime, StreamNotFoundError, UndeliverableException
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.subjects import Subjects

COUNTER = AgentId(TYPE, "k")


@pytest.fixture
async def reader(new_runtime: NewRuntime) -> NatsAgentRuntime:
    """A process that has no counter of its own."""
    runtime = await new_runtime().connect()
    know(runtime)
    return runtime


@pytest.fixture
async def producer(new_runtime: NewRuntime) -> NatsAgentRuntime:
    """A process that serves the counter."""
    runtime = new_runtime()
    await Counter.register(runtime, TYPE, Counter)
    await runtime.start()
    return runtime


async def test_a_restart_of_the_broker_leaves_no_gap(
    server: EmbeddedServer, namespace: str, new_runtime: NewRuntime
) -> None:
    async with program("producer", server.url, namespace) as producer:
        await producer.printed("serving")
        reader, other = await new_runtime(server.url).connect(), await new_runtime(server.url).connect()
        know(reader)
        know(other)
        stream = reader.stream_message(Count(3_000, 0.001), COUNTER, resumable=True)
        assert await numbers(stream, 100) == list(range(1, 101))
        assert stream.id is not None
        reading = asyncio.gather(
            numbers(stream), numbers(other.resume_stream(stream.id, after=90)), _in_pieces(other, stream.id)
        )
        for crash in (False, True):
            position = stream.position
            if crash:
                server.kill()
            await server.restart()
            async with asyncio.timeout(DEADLINE_S):
                while stream.position < position + 300:
                    await asyncio.sleep(0.01)
        assert await reading == [list(range(101, 3_001)), list(range(91, 3_001)), list(range(1, 3_001))]
        assert await numbers(reader.resume_stream(stream.id)) == list(range(1, 3_001))


@pytest.mark.slow
async def test_a_stream_outlasts_its_call_when_the_broker_is_away_for_long(
    server: EmbeddedServer, namespace: str, new_runtime: NewRuntime
) -> None:
    async with program("producer", server.url, namespace) as producer:
        await producer.printed("serving")
        reader = await new_runtime(server.url).connect()
        know(reader)
        stream = reader.stream_message(Count(400, 0.05), COUNTER, timeout=60, resumable=True)
        assert await numbers(stream, 20) == list(range(1, 21))
        other = reader.resume_stream(stream.id or "")
        assert await numbers(other, 10) == list(range(1, 11))
        reading = asyncio.gather(numbers(stream), numbers(other))
        server.kill()
        # So long that the call behind the stream, of which nothing is heard, counts as lost.
        await asyncio.sleep(10)
        await server.restart()
        assert await reading == [list(range(21, 401)), list(range(11, 401))]
        assert "cancelled" not in producer.lines


async def _in_pieces(reader: NatsAgentRuntime, stream_id: str) -> list[int]:
    """Come back to a stream again and again."""
    read: list[int] = []
    while piece := await numbers(reader.resume_stream(stream_id, after=len(read)), 170):
        read += piece
    return read


async def test_chunks_that_are_no_longer_kept_are_never_passed_over(
    client: Client, namespace: str, producer: NatsAgentRuntime, reader: NatsAgentRuntime
) -> None:
    stream = reader.stream_message(Count(200), COUNTER, resumable=True)
    await numbers(stream)
    assert stream.id is not None
    subjects = Subjects(namespace)
    # The begin has one more message before the first chunk.
    await api(client, f"STREAM.PURGE.{subjects.chunks_stream}", {"filter": subjects.chunk(stream.id), "keep": 101})
    for after in (0, 60, 99):
        with pytest.raises(StreamNotFoundError, match=rf"Chunk {after + 1} of the stream \S+ is no longer kept"):
            await numbers(reader.resume_stream(stream.id, after=after))
    assert await numbers(reader.resume_stream(stream.id, after=100)) == list(range(101, 201))
    await api(client, f"STREAM.PURGE.{subjects.chunks_stream}", {"filter": subjects.chunk(stream.id)})
    with pytest.raises(StreamNotFoundError, match="Stream not found"):
        await numbers(reader.resume_stream(stream.id, after=100))


async def test_chunks_that_are_dropped_under_a_slow_reader_are_told(
    client: Client, namespace: str, producer: NatsAgentRuntime, reader: NatsAgentRuntime
) -> None:
    stream = reader.stream_message(Count(1_000, padding=1_000), COUNTER, resumable=True)
    assert await numbers(stream, 10) == list(range(1, 11))
    # The end tells that all is stored.
    await numbers(reader.resume_stream(stream.id or ""))
    subjects = Subjects(namespace)
    await api(client, f"STREAM.PURGE.{subjects.chunks_stream}", {"filter": subjects.chunk(stream.id or ""), "keep": 11})
    read = []
    with pytest.raises(StreamNotFoundError, match="is no longer kept"):
        async for chunk in stream:
            read.append(chunk.number)
    assert read == list(range(11, read[-1] + 1)) and read[-1] < 990


async def test_a_broker_that_takes_no_more_chunks_ends_the_stream_with_an_error(
    client: Client, namespace: str, new_runtime: NewRuntime, reader: NatsAgentRuntime
) -> None:
    producer = new_runtime(publish_timeout=1.5)
    await Counter.register(producer, TYPE, Counter)
    await producer.start()
    name = Subjects(namespace).chunks_stream
    config = (await api(client, f"STREAM.INFO.{name}"))["config"]
    await api(client, f"STREAM.UPDATE.{name}", {**config, "discard": "new", "max_msgs": 51})
    stream = reader.stream_message(Count(1_000_000, 0.001), COUNTER, resumable=True)
    assert await numbers(stream, 50) == list(range(1, 51))
    with pytest.raises(UndeliverableException, match=r"was not stored within 1\.5 s: maximum messages exceeded"):
        await numbers(stream)
    await api(client, f"STREAM.UPDATE.{name}", config)
    again = reader.stream_message(Count(3), COUNTER, resumable=True)
    assert await numbers(again) == [1, 2, 3]


async def test_a_chunk_that_is_too_large_is_an_error_of_the_handler(
    producer: NatsAgentRuntime, reader: NatsAgentRuntime
) -> None:
    stream = reader.stream_message(Count(3, padding=2_000_000), COUNTER, resumable=True)
    with pytest.raises(ValueError, match="max_payload"):
        await numbers(stream)
    assert await numbers(reader.stream_message(Count(3, padding=900_000), COUNTER, resumable=True)) == [1, 2, 3]


async def test_chunks_keep_their_type(producer: NatsAgentRuntime, reader: NatsAgentRuntime) -> None:
    stream = reader.stream_message(Count(1), COUNTER, resumable=True)
    assert [chunk async for chunk in stream] == [Counted(1)]
