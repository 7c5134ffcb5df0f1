"""A thousand idle readers of events on one gateway process."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import nats
import pytest

from broker.cli.commands import CommandLine
from gateway.conftest import NewRuntime
from gateway.processes import GatewayProcess
from hivewire import TopicId
from hivewire.nats.subjects import Subjects

READERS = 1_000
AT_ONCE = 50
MAX_BYTES_PER_READER = 64 * 1024
ALL_HAVE_IT_S = 20


@pytest.fixture
def gateway_process(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway in a process of its own, so that its memory can be told."""
    cli = CommandLine(nats_url, namespace, tmp_path)
    yield GatewayProcess(cli)
    cli.kill_all()


async def test_a_thousand_idle_readers_cost_little_and_get_what_comes(
    gateway_process: GatewayProcess, new_runtime: NewRuntime, nats_url: str, namespace: str
) -> None:
    runtime = new_runtime()
    await runtime.connect()
    client = await nats.connect(nats_url)
    stream = Subjects(namespace).events_stream
    before = (await client.jetstream().stream_info(stream)).state.consumer_count
    memory = await asyncio.to_thread(resident_bytes, gateway_process)

    async with AsyncExitStack() as stack:
        readers: list[asyncio.StreamReader] = []
        gate = asyncio.Semaphore(AT_ONCE)

        async def open_one(topic: str) -> None:
            async with gate:
                readers.append(await stack.enter_async_context(reading(gateway_process.url, topic)))

        # Several topics, as readers have; each of them is read by many.
        await asyncio.gather(*(open_one(("news", "n*", "*")[number % 3]) for number in range(READERS)))
        grown = await asyncio.to_thread(resident_bytes, gateway_process) - memory
        consumers = (await client.jetstream().stream_info(stream)).state.consumer_count - before
        begun = time.monotonic()
        await runtime.publish_message("hello", TopicId("news", "here"))
        async with asyncio.timeout(ALL_HAVE_IT_S):
            await asyncio.gather(*(until_line(reader, b'"data":"hello"') for reader in readers))
        took = time.monotonic() - begun
    await client.close()
    print(f"{grown / READERS / 1024:.1f} KiB a reader, all had an event after {took * 1000:.0f} ms")
    assert consumers == 1
    assert grown < READERS * MAX_BYTES_PER_READER


@asynccontextmanager
async def reading(url: str, topic: str) -> AsyncIterator[asyncio.StreamReader]:
    """Open a stream of events with nothing but a socket, and wait for its begin."""
    host = url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    try:
        writer.write(f"GET /v1/topics/{topic}/events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await until_line(reader, b"event: begin")
        yield reader
    finally:
        writer.close()


async def until_line(reader: asyncio.StreamReader, wanted: bytes) -> None:
    while wanted not in (line := await reader.readline()):
        assert line, "the stream has ended"


def resident_bytes(gateway: GatewayProcess) -> float:
    found = re.search(r"^process_resident_memory_bytes (\S+)", gateway.metrics(), re.MULTILINE)
    assert found is not None
    return float(found[1])
