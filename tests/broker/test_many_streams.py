"""Many streams at once, and long ones: all of their chunks, in order, and how soon the first one comes."""

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from broker.conftest import NewRuntime
from chaos.handlers import Running
from chaos.report import Figures, spread
from chaos.streams import COMPLETE, Flow, Source, read
from hivewire import AgentId, MessageContext, RoutedAgent, rpc

STREAMS = 500
FIRST_CHUNK_WITHIN_S = 0.1
"""On a machine that does much else; undisturbed it takes a few milliseconds, as the figures of a run tell."""


class Punctual(RoutedAgent):
    """Yields the time, now and then."""

    @rpc
    async def on_count(self, message: int, ctx: MessageContext) -> AsyncIterator[float]:
        for _ in range(message):
            yield monotonic()
            await asyncio.sleep(0.01)


async def test_a_process_reads_and_produces_five_hundred_streams_at_once(new_runtime: NewRuntime) -> None:
    runtime, running = new_runtime(), Running()
    await Source.register(runtime, "source", lambda: Source(running))
    await runtime.start()
    begun = monotonic()
    reading = asyncio.gather(*(read(runtime, Flow(f"f{n}", 20, 1, 2_000, 0.1), 0.0) for n in range(STREAMS)))
    most = 0
    while not reading.done():
        most = max(most, sum(running.count.values()))
        await asyncio.sleep(0.02)
    readings = await reading
    took_s = monotonic() - begun
    Figures(name="500_streams_at_once", figures={"at once": most, "chunks": STREAMS * 20}, took_s=took_s).publish()
    assert most == STREAMS
    assert [each for each in readings if each.outcome != COMPLETE] == []


async def test_ten_thousand_chunks_come_in_order_and_none_is_missing(new_runtime: NewRuntime) -> None:
    producer, reader = new_runtime(), new_runtime()
    await Source.register(producer, "source", lambda: Source(Running()))
    await producer.start()
    await reader.connect()
    begun = monotonic()
    reading = await read(reader, Flow("long", 10_000, 100, 100), 0.0)
    took_s = monotonic() - begun
    Figures(name="10000_chunks", figures={"chunks/s": round(10_000 / took_s)}, took_s=took_s).publish()
    assert (reading.outcome, reading.chunks) == (COMPLETE, 10_000), reading


async def test_a_chunk_is_there_soon_after_it_was_produced(new_runtime: NewRuntime) -> None:
    producer, reader = new_runtime(), new_runtime()
    await Punctual.register(producer, "punctual", lambda: Punctual("punctual"))
    await producer.start()
    await reader.connect()
    begun = monotonic()
    firsts, others = [], []
    for n in range(20):
        ages = [monotonic() - produced async for produced in reader.stream_message(5, AgentId("punctual", str(n)))]
        firsts.append(ages[0])
        others += ages[1:]
    figures = spread("s to the first chunk", firsts) | spread("s to a later chunk", others)
    Figures(name="chunk_latency", figures=figures, took_s=monotonic() - begun).publish()
    assert sorted(firsts)[len(firsts) // 2] < FIRST_CHUNK_WITHIN_S
