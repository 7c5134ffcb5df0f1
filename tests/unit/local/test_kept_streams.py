"""What resumable streams of one process hold on to, and what they let go."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from hivewire.agents.handlers import message_handler
from hivewire.agents.routed import RoutedAgent
from hivewire.exceptions import StreamNotFoundError
from hivewire.local import kept_streams
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.streams import MessageStream

AGENT = AgentId("agent", "k")
pytestmark = pytest.mark.timeout(20)


@dataclass
class Count:
    to: int


@dataclass
class Counted:
    number: int
    notes: list[str] = field(default_factory=list)


class Counter(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("counter")

    @message_handler
    async def on_count(self, message: Count, ctx: MessageContext) -> AsyncIterator[Counted]:
        for number in range(1, message.to + 1):
            yield Counted(number)


async def started(runtime: SingleThreadedAgentRuntime) -> SingleThreadedAgentRuntime:
    await Counter.register(runtime, "agent", Counter)
    runtime.start()
    return runtime


async def read(stream: MessageStream) -> list[int]:
    return [chunk.number async for chunk in stream]


async def ended(runtime: SingleThreadedAgentRuntime, to: int) -> str:
    """Return the id of a stream that was read to its end."""
    stream = runtime.stream_message(Count(to), AGENT, resumable=True)
    assert await read(stream) == list(range(1, to + 1))
    # The runtime takes note of the end just after its reader.
    await asyncio.sleep(0)
    assert stream.id is not None
    return stream.id


async def is_kept(runtime: SingleThreadedAgentRuntime, stream_id: str) -> bool:
    try:
        await read(runtime.resume_stream(stream_id))
    except StreamNotFoundError:
        return False
    return True


async def test_a_stream_is_forgotten_some_time_after_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_streams, "KEPT_S", 0.05)
    runtime = await started(SingleThreadedAgentRuntime())
    stream_id = await ended(runtime, 3)
    assert await is_kept(runtime, stream_id)
    while await is_kept(runtime, stream_id):
        await asyncio.sleep(0.01)
    await runtime.close()


async def test_of_many_streams_that_have_ended_the_first_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_streams, "KEPT_ENDED_STREAMS", 3)
    runtime = await started(SingleThreadedAgentRuntime())
    ids = [await ended(runtime, to) for to in range(5)]
    assert [await is_kept(runtime, stream_id) for stream_id in ids] == [False, False, True, True, True]
    await runtime.close()


async def test_a_reader_that_has_begun_reads_on_when_its_stream_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_streams, "KEPT_ENDED_STREAMS", 1)
    runtime = await started(SingleThreadedAgentRuntime())
    reader = runtime.resume_stream(await ended(runtime, 9), after=2)
    await reader.start()
    await ended(runtime, 1)
    assert await read(reader) == list(range(3, 10))
    await runtime.close()


async def test_a_runtime_that_is_closed_keeps_nothing() -> None:
    runtime = await started(SingleThreadedAgentRuntime())
    stream_id = await ended(runtime, 3)
    await runtime.stop()
    assert await is_kept(runtime, stream_id)
    await runtime.close()
    assert not await is_kept(runtime, stream_id)


async def test_a_reader_that_nobody_holds_goes_while_the_handler_runs_on() -> None:
    runtime = await started(SingleThreadedAgentRuntime())
    stream = runtime.stream_message(Count(2), AGENT, resumable=True)
    await stream.start()
    stream_id, gone = stream.id or "", weakref.ref(stream)
    del stream
    gc.collect()
    assert gone() is None
    assert await read(runtime.resume_stream(stream_id)) == [1, 2]
    await runtime.close()


async def test_readers_share_no_chunk_when_messages_are_serialized() -> None:
    runtime = await started(SingleThreadedAgentRuntime(serialize_messages=True))
    stream = runtime.stream_message(Count(1), AGENT, resumable=True)
    first = await anext(stream)
    first.notes.append("mine")
    assert [chunk async for chunk in runtime.resume_stream(stream.id or "")] == [Counted(1)]
    await runtime.close()
