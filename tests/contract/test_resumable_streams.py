"""Streams that one comes back to, on both runtimes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from contract.support import DEADLINE_S, MakeRuntime, Number, Runtime, Text
from hivewire import (
    AgentId,
    AgentNotFoundError,
    CancellationToken,
    ClosureAgent,
    ClosureContext,
    DeadlineExceededError,
    MessageContext,
    RoutedAgent,
    StreamNotFoundError,
    message_handler,
)
from hivewire.model.streams import MessageStream

COUNTER = AgentId("counter", "k")


class Counter(RoutedAgent):
    """Counts to a number, as far as it is let."""

    def __init__(self, gate: Gate) -> None:
        super().__init__("counter")
        self.gate = gate

    @message_handler
    async def on_number(self, message: Number, ctx: MessageContext) -> AsyncIterator[Number]:
        self.gate.running += 1
        try:
            for number in range(1, message.value + 1):
                await self.gate.passes(number, ctx)
                yield Number(number)
            if self.gate.error is not None:
                raise self.gate.error
        except asyncio.CancelledError:
            self.gate.cancelled.set()
            raise

    @message_handler
    async def on_text(self, message: Text, ctx: MessageContext) -> Text:
        return Text(message.value.upper())


class Gate:
    """How far the counter may count."""

    def __init__(self) -> None:
        self.limit = 1_000_000
        self.running = 0
        self.error: Exception | None = None
        self.cancelled = asyncio.Event()
        self._moved = asyncio.Event()

    def open_to(self, limit: int) -> None:
        self.limit = limit
        self._moved.set()

    async def passes(self, number: int, ctx: MessageContext) -> None:
        while number > self.limit:
            self._moved.clear()
            await ctx.cancellation_token.link_future(asyncio.ensure_future(self._moved.wait()))


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def runtime(make_runtime: MakeRuntime, gate: Gate) -> Runtime:
    runtime = make_runtime()
    await Counter.register(runtime, "counter", lambda: Counter(gate))
    await runtime.start()
    return runtime


async def numbers(stream: MessageStream, count: int = 1_000_000) -> list[int]:
    """Read so many chunks, or all."""
    read: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(read) < count:
            try:
                read.append((await anext(stream)).value)
            except StopAsyncIteration:
                break
    return read


async def test_a_resumable_stream_is_read_like_any_other(runtime: Runtime) -> None:
    stream = runtime.stream_message(Number(500), COUNTER, resumable=True)
    assert stream.id
    assert await numbers(stream) == list(range(1, 501))
    assert stream.position == 500


async def test_a_reader_goes_on_after_the_chunk_that_it_has(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(10)
    stream = runtime.stream_message(Number(20), COUNTER, resumable=True)
    assert await numbers(stream, 7) == [1, 2, 3, 4, 5, 6, 7]
    await stream.aclose()
    again = runtime.resume_stream(stream.id or "", after=stream.position)
    gate.open_to(20)
    assert await numbers(again) == list(range(8, 21))
    assert again.position == 20 and again.id == stream.id
    assert not gate.cancelled.is_set() and gate.running == 1


async def test_several_readers_follow_one_stream_each_from_where_it_likes(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(50)
    stream = runtime.stream_message(Number(100), COUNTER, resumable=True)
    await stream.start()
    assert stream.id is not None
    early = [stream, runtime.resume_stream(stream.id), runtime.resume_stream(stream.id)]
    reading = [asyncio.ensure_future(numbers(each)) for each in early]
    assert await numbers(runtime.resume_stream(stream.id), 50) == list(range(1, 51))
    late = [runtime.resume_stream(stream.id, after=after) for after in (17, 50)]
    reading += [asyncio.ensure_future(numbers(each)) for each in late]
    gate.open_to(100)
    read = await asyncio.gather(*reading)
    assert read[:3] == [list(range(1, 101))] * 3
    assert read[3:] == [list(range(18, 101)), list(range(51, 101))]
    assert gate.running == 1


async def test_a_stream_that_has_ended_is_read_again(runtime: Runtime) -> None:
    stream = runtime.stream_message(Number(300), COUNTER, resumable=True)
    await numbers(stream)
    assert stream.id is not None
    for after in (0, 1, 31, 32, 33, 150, 299):
        assert await numbers(runtime.resume_stream(stream.id, after=after)) == list(range(after + 1, 301))
    assert await numbers(runtime.resume_stream(stream.id, after=300)) == []


async def test_an_error_of_the_handler_comes_to_every_reader_after_the_chunks(runtime: Runtime, gate: Gate) -> None:
    gate.error = KeyError("boom")
    stream = runtime.stream_message(Number(3), COUNTER, resumable=True)
    await stream.start()
    for reader in (stream, runtime.resume_stream(stream.id or ""), runtime.resume_stream(stream.id or "", after=2)):
        await numbers(reader, 3 - reader.position)
        with pytest.raises(KeyError, match="boom"):
            await anext(reader)
        assert await numbers(reader) == []


async def test_a_handler_that_returns_makes_a_stream_of_one_chunk(runtime: Runtime) -> None:
    stream = runtime.stream_message(Text("abc"), COUNTER, resumable=True)
    assert [chunk async for chunk in stream] == [Text("ABC")]
    assert [chunk async for chunk in runtime.resume_stream(stream.id or "")] == [Text("ABC")]


async def test_an_unknown_stream_is_told_at_once(runtime: Runtime) -> None:
    async with asyncio.timeout(3):
        with pytest.raises(StreamNotFoundError, match="Stream not found: nobody"):
            await anext(runtime.resume_stream("nobody"))
        with pytest.raises(LookupError):
            await anext(runtime.resume_stream("any / text. at * all"))


async def test_a_stream_is_not_resumed_where_it_has_no_chunk(runtime: Runtime, gate: Gate) -> None:
    with pytest.raises(ValueError, match="not -1"):
        runtime.resume_stream("any", after=-1)
    gate.open_to(5)
    stream = runtime.stream_message(Number(6), COUNTER, resumable=True)
    await numbers(stream, 5)
    assert stream.id is not None
    for after in (6, 7, 1000):
        with pytest.raises(ValueError, match=f"after chunk {after}: it has no chunk of that number"):
            await anext(runtime.resume_stream(stream.id, after=after))
    gate.open_to(6)
    assert await numbers(stream) == [6]
    for after in (7, 1000):
        with pytest.raises(ValueError, match="no chunk of that number"):
            await anext(runtime.resume_stream(stream.id, after=after))


async def test_whoever_reads_a_stream_may_cancel_its_handler(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(4)
    stream = runtime.stream_message(Number(10), COUNTER, resumable=True)
    assert await numbers(stream, 2) == [1, 2]
    other = runtime.resume_stream(stream.id or "", after=1)
    await other.start()
    await other.cancel()
    async with asyncio.timeout(DEADLINE_S):
        await gate.cancelled.wait()
    assert await numbers(other, 3) == [2, 3, 4]
    with pytest.raises(asyncio.CancelledError):
        await anext(other)
    assert await numbers(stream, 2) == [3, 4]
    with pytest.raises(asyncio.CancelledError):
        await anext(stream)


async def test_a_stream_that_was_cancelled_before_its_start_never_starts(runtime: Runtime, gate: Gate) -> None:
    stream = runtime.stream_message(Number(10), COUNTER, resumable=True)
    await stream.cancel()
    assert await numbers(stream) == []
    assert not gate.running
    with pytest.raises(StreamNotFoundError):
        await anext(runtime.resume_stream(stream.id or ""))


async def test_the_callers_token_cancels_the_handler_after_the_reader_has_left(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(1)
    token = CancellationToken()
    stream = runtime.stream_message(Number(10), COUNTER, cancellation_token=token, resumable=True)
    assert await numbers(stream, 1) == [1]
    await stream.aclose()
    token.cancel()
    async with asyncio.timeout(DEADLINE_S):
        await gate.cancelled.wait()


async def test_the_deadline_of_the_message_ends_the_stream_for_every_reader(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(1)
    stream = runtime.stream_message(Number(10), COUNTER, timeout=0.5, resumable=True)
    await stream.start()
    other = runtime.resume_stream(stream.id or "")
    for reader in (stream, other):
        assert await numbers(reader, 1) == [1]
    with pytest.raises(DeadlineExceededError):
        await numbers(stream)
    with pytest.raises(DeadlineExceededError):
        await numbers(other)
    async with asyncio.timeout(DEADLINE_S):
        await gate.cancelled.wait()


async def test_the_timeout_of_a_resumed_stream_is_that_of_its_reader(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(1)
    stream = runtime.stream_message(Number(2), COUNTER, resumable=True)
    await stream.start()
    other = runtime.resume_stream(stream.id or "", timeout=0.2)
    with pytest.raises(DeadlineExceededError, match=r"timeout of 0\.2 s"):
        await numbers(other)
    gate.open_to(2)
    assert await numbers(stream) == [1, 2]


async def test_whoever_reads_within_a_turn_stops_with_it(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(1)
    stream = runtime.stream_message(Number(2), COUNTER, resumable=True)
    await stream.start()
    ended = asyncio.Event()

    async def follow(ctx: ClosureContext, message: Text) -> None:
        try:
            async for _ in runtime.resume_stream(message.value):
                pass
        finally:
            ended.set()

    await ClosureAgent.register_closure(runtime, "follower", follow)
    with pytest.raises(DeadlineExceededError):
        await runtime.send_message(Text(stream.id or ""), AgentId("follower", "k"), timeout=0.2)
    async with asyncio.timeout(3):
        await ended.wait()
    gate.open_to(2)
    assert await numbers(stream) == [1, 2]


async def test_a_stream_that_another_task_closes_has_ended_for_its_reader(runtime: Runtime, gate: Gate) -> None:
    gate.open_to(1)
    stream = runtime.stream_message(Number(2), COUNTER, resumable=True)
    assert await numbers(stream, 1) == [1]
    reading = asyncio.ensure_future(numbers(stream))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="one task at a time"):
        await anext(stream)
    await stream.aclose()
    assert await reading == []
    gate.open_to(2)
    assert await numbers(runtime.resume_stream(stream.id or "", after=1)) == [2]


async def test_a_message_to_an_unknown_agent_is_told_to_every_reader(runtime: Runtime) -> None:
    stream = runtime.stream_message(Number(1), AgentId("nobody", "k"), resumable=True)
    await stream.start()
    for reader in (stream, runtime.resume_stream(stream.id or "")):
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(AgentNotFoundError):
                await anext(reader)


async def test_a_stream_that_is_not_resumable_has_no_id(runtime: Runtime) -> None:
    stream = runtime.stream_message(Number(3), COUNTER)
    assert stream.id is None
    assert await numbers(stream, 1) == [1]
    await stream.cancel()
    assert await numbers(stream) == []
