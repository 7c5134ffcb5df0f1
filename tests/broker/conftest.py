"""Runtimes over a real server that end with their test."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from broker.observing import Observe, observer_of
from broker.processes import AgentProcesses
from hivewire import NatsAgentRuntime
from hivewire.nats.broker import Broker
from hivewire.nats.embedded import EmbeddedServer

NewRuntime = Callable[..., NatsAgentRuntime]


@pytest.fixture
async def new_runtime(nats_url: str, namespace: str) -> AsyncIterator[NewRuntime]:
    """Makes runtimes, each like one of another process, and stops them at the end."""
    made: list[NatsAgentRuntime] = []

    def make(url: str = nats_url, **options: Any) -> NatsAgentRuntime:
        defaults = {"namespace": namespace, "default_timeout": 20.0, "drain_timeout": 2.0}
        made.append(NatsAgentRuntime(url, **{**defaults, **options}))
        return made[-1]

    yield make
    await asyncio.gather(*(runtime.stop() for runtime in made))


@pytest.fixture
async def client(nats_url: str) -> AsyncIterator[Client]:
    """A raw client of the server."""
    client = await nats.connect(nats_url)
    yield client
    await client.close()


@pytest.fixture
async def observe(nats_url: str, namespace: str) -> AsyncIterator[Observe]:
    """Looks at the system of the namespace."""
    broker = Broker(nats_url, name="test")
    await broker.open()
    observer = await observer_of(broker, namespace)
    yield lambda: observer.observe(timeout=10)
    await broker.close()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    """A server that a test may break. A test asks for it before it asks for `new_runtime`."""
    async with EmbeddedServer() as server:
        yield server


@pytest.fixture
def processes(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[AgentProcesses]:
    """Starts processes with agents, and kills at the end those that still run."""
    processes = AgentProcesses(nats_url, namespace, tmp_path / "journal")
    yield processes
    processes.kill_all()
