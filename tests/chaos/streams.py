"""Streams over processes whose every chunk can be checked, and the processes that produce, pass on and read them.

Run as a script this file is such a process: `streams.py source|relay1|relay2|reader URL NAMESPACE NAME`. It prints
``serving`` first and ends with the process that started it. Agents of `source` produce, those of `relay1` pass on what
they read of them, those of `relay2` what they read of `relay1`. A reader takes streams to read from its standard
input, and prints what came of each.
"""

import asyncio
import json
import logging
import os
import random
import sys
import zlib
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from math import log2
from time import monotonic

from chaos.agents import end_with_parent
from chaos.handlers import Running, register_counting
from hivewire import AgentId, HivewireError, MessageContext, NatsAgentRuntime, RoutedAgent, rpc

COMPLETE = "complete"
WRONG = "wrong"
ROUTE = ("source", "relay1", "relay2")
TIMEOUT_S = 600.0


@dataclass
class Flow:
    """Asks for so many chunks of `smallest` to `largest` characters, with a pause after each. `hops`: how many
    processes pass them on."""

    id: str
    chunks: int
    smallest: int
    largest: int
    pause_s: float = 0.0
    hops: int = 0

    def body(self, number: int) -> str:
        """Return what the chunk of this number holds, whoever asks."""
        dice = random.Random(f"{self.id} {number}")
        size = round(2 ** dice.uniform(log2(self.smallest), log2(self.largest)))
        unit = f"{self.id} {number} {dice.random()} "
        return (unit * (size // len(unit) + 1))[:size]


@dataclass
class Chunk:
    """One chunk of a flow. `check` is over all that a chunk could be taken for another by."""

    flow: str
    number: int
    check: int
    body: str

    @classmethod
    def of(cls, flow: Flow, number: int) -> "Chunk":
        body = flow.body(number)
        return cls(flow.id, number, zlib.crc32(f"{flow.id} {number} {body}".encode()), body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What came of one stream: complete, wrong, or the name of the error that ended it."""

    flow: str
    outcome: str
    chunks: int
    ended_s: float
    said: str = ""


class Source(RoutedAgent):
    """Produces a flow."""

    def __init__(self, running: Running) -> None:
        super().__init__("produces")
        self._running = running

    @rpc
    async def on_flow(self, message: Flow, ctx: MessageContext) -> AsyncIterator[Chunk]:
        with self._running.handler(message.id):
            for number in range(1, message.chunks + 1):
                yield Chunk.of(message, number)
                await asyncio.sleep(message.pause_s)


class Relay(RoutedAgent):
    """Passes on a flow that it reads of the type before its own."""

    def __init__(self, running: Running) -> None:
        super().__init__("passes on")
        self._running = running

    @rpc
    async def on_flow(self, message: Flow, ctx: MessageContext) -> AsyncIterator[Chunk]:
        before = ROUTE[ROUTE.index(self.type) - 1]
        with self._running.handler(message.id):
            async with self.stream_message(message, AgentId(before, message.id)) as chunks:
                async for chunk in chunks:
                    yield chunk


async def read(runtime: NatsAgentRuntime, flow: Flow, pause_s: float) -> Reading:
    """Read a flow, checking each chunk."""
    taken, outcome, said = 0, COMPLETE, ""
    try:
        recipient = AgentId(ROUTE[flow.hops], flow.id)
        async with runtime.stream_message(flow, recipient, timeout=TIMEOUT_S) as chunks:
            async for chunk in chunks:
                taken += 1
                if chunk != Chunk.of(flow, taken):
                    outcome, said = WRONG, f"chunk {chunk.number} of {chunk.flow} where {taken} of {flow.id} was due"
                    break
                await asyncio.sleep(pause_s)
        if outcome == COMPLETE and taken != flow.chunks:
            outcome, said = WRONG, f"it ended after {taken} of {flow.chunks} chunks"
    except HivewireError as error:
        outcome, said = type(error).__name__, str(error)
    except Exception as error:
        outcome, said = WRONG, repr(error)
    return Reading(flow=flow.id, outcome=outcome, chunks=taken, ended_s=monotonic(), said=said)


def order(flow: Flow, pause_s: float) -> str:
    """Return the line that makes a reader read a flow, with a pause after each chunk."""
    return json.dumps({"flow": asdict(flow), "pause_s": pause_s})


async def _read(url: str, namespace: str, name: str) -> None:
    runtime = NatsAgentRuntime(url, namespace=namespace, instance_id=name)
    await runtime.connect()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("serving", flush=True)

    async def carry_out(flow: Flow, pause_s: float) -> None:
        print(f"read {flow.id} {json.dumps(asdict(await read(runtime, flow, pause_s)))}", flush=True)

    async with asyncio.TaskGroup() as tasks:
        while line := await orders.readline():
            given = json.loads(line)
            tasks.create_task(carry_out(Flow(**given["flow"]), given["pause_s"]))
    await runtime.stop()


async def _serve(type: str, url: str, namespace: str, name: str) -> None:
    runtime = NatsAgentRuntime(url, namespace=namespace, instance_id=name)
    running = Running()
    if type == "source":
        await Source.register(runtime, type, lambda: Source(running))
    else:
        await Relay.register(runtime, type, lambda: Relay(running))
    await register_counting(runtime, running, name)
    await runtime.start()
    print("serving", flush=True)
    await runtime.wait_until_stopped()


async def _main(role: str, *arguments: str) -> None:
    await (_read(*arguments) if role == "reader" else _serve(role, *arguments))


if __name__ == "__main__":
    end_with_parent(int(os.environ["HIVEWIRE_CHAOS_PARENT"]))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s.%(msecs)03d %(name)s %(message)s")
    asyncio.run(_main(*sys.argv[1:]))
