"""Gateways over a real broker, reached through real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from hivewire import NatsAgentRuntime
from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings

DEADLINE_S = 15

NewRuntime = Callable[..., NatsAgentRuntime]
NewGateway = Callable[..., Awaitable[GatewayServer]]


async def until(condition: Callable[[], object], timeout: float = DEADLINE_S) -> None:
    """Wait for something that nothing signals."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
async def new_runtime(nats_url: str, namespace: str) -> AsyncIterator[NewRuntime]:
    """Makes runtimes that host agents, and stops them at the end."""
    made: list[NatsAgentRuntime] = []

    def make(url: str = nats_url, **options: Any) -> NatsAgentRuntime:
        made.append(NatsAgentRuntime(url, **{"namespace": namespace, "drain_timeout": 2.0, **options}))
        return made[-1]

    yield make
    await asyncio.gather(*(runtime.stop() for runtime in made))


@pytest.fixture
async def new_gateway(nats_url: str, namespace: str) -> AsyncIterator[Callable[..., Any]]:
    """Starts gateways on free ports with the settings that a test names, and stops them at the end."""
    async with AsyncExitStack() as stack:

        async def make(url: str = nats_url, **settings: Any) -> GatewayServer:
            relay = RelayRuntime(url, namespace=namespace)
            stack.push_async_callback(relay.stop)
            await relay.connect()
            defaults = {"port": 0, "metrics_port": 0, "drain_timeout_s": 2.0}
            return await stack.enter_async_context(GatewayServer(relay, Settings(**{**defaults, **settings})))

        yield make


@pytest.fixture
async def gateway(new_gateway: Callable[..., Any]) -> GatewayServer:
    """A gateway with the usual settings."""
    server: GatewayServer = await new_gateway()
    return server


@pytest.fixture
async def http(gateway: GatewayServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that gateway."""
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client:
        yield client
