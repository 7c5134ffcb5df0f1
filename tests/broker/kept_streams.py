"""Processes that stream and read: `python kept_streams.py producer URL NAMESPACE` serves the type `counter`, and
`python kept_streams.py reader URL NAMESPACE KEY LAST PAUSE [TIMEOUT]` opens a resumable stream and prints its id
and each number after a `#`."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from child_processes import Program
from hivewire import (
    AgentId,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    message_handler,
    try_get_known_serializers_for_type,
)
from hivewire.model.streams import MessageStream

TYPE = "counter"
DEADLINE_S = 30


@dataclass
class Count:
    """Count to `last`, with a pause before each number. After the first number the event loop is blocked for
    `blocking_s`, and `idle_s` pass after the last one."""

    last: int
    pause_s: float = 0.0
    blocking_s: float = 0.0
    idle_s: float = 0.0
    padding: int = 0


@dataclass
class Counted:
    number: int
    padding: str = ""


class Counter(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("counter")

    @message_handler
    async def on_count(self, message: Count, ctx: MessageContext) -> AsyncIterator[Counted]:
        print("counting", flush=True)
        try:
            for number in range(1, message.last + 1):
                if message.pause_s:
                    await asyncio.sleep(message.pause_s)
                yield Counted(number, "x" * message.padding)
                if message.blocking_s and number == 1:
                    time.sleep(message.blocking_s)  # that it blocks is the point
            await asyncio.sleep(message.idle_s)
        except (asyncio.CancelledError, GeneratorExit):
            print("cancelled", flush=True)
            raise


def know(runtime: NatsAgentRuntime) -> None:
    """Let a process that has no counter read its numbers."""
    runtime.add_message_serializer(try_get_known_serializers_for_type(Counted))


async def numbers(stream: MessageStream, count: int = 1_000_000) -> list[int]:
    """Read so many numbers, or all."""
    read: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(read) < count:
            try:
                read.append((await anext(stream)).number)
            except StopAsyncIteration:
                break
    return read


def program(role: str, url: str, namespace: str, *arguments: object) -> Program:
    """This file as a process."""
    return Program(Path(__file__), role, url, namespace, *map(str, arguments))


async def produce(url: str, namespace: str) -> None:
    runtime = NatsAgentRuntime(url, namespace=namespace)
    await Counter.register(runtime, TYPE, Counter)
    await runtime.start()
    print("serving", flush=True)
    await runtime.wait_until_stopped()


async def read(url: str, namespace: str, key: str, last: str, pause_s: str, timeout_s: str = "60") -> None:
    runtime = await NatsAgentRuntime(url, namespace=namespace).connect()
    know(runtime)
    count = Count(int(last), float(pause_s))
    stream = runtime.stream_message(count, AgentId(TYPE, key), timeout=float(timeout_s), resumable=True)
    await stream.start()
    print(stream.id, flush=True)
    async for chunk in stream:
        print(f"#{chunk.number}", flush=True)
    await runtime.stop()


if __name__ == "__main__":
    role, *arguments = sys.argv[1:]
    asyncio.run(produce(*arguments) if role == "producer" else read(*arguments))
