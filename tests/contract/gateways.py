"""Gateways in the process of a test, one for each namespace that its runtimes use."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any, Self

from hivewire import HttpAgentRuntime
from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings


class Gateways:
    """Starts a gateway when the first runtime connects to it."""

    def __init__(self, broker_url: str) -> None:
        self._broker_url = broker_url
        self._ports: dict[str, int] = {}
        self._started: set[str] = set()
        self._starting = asyncio.Lock()
        self._stack = AsyncExitStack()

    def url_of(self, namespace: str) -> str:
        """Return where the gateway of a namespace is, or will be."""
        return f"http://127.0.0.1:{self._ports.setdefault(namespace, free_port())}"

    async def start(self, namespace: str) -> None:
        """Start the gateway of a namespace, if it does not run yet."""
        async with self._starting:
            if namespace in self._started:
                return
            relay = RelayRuntime(self._broker_url, namespace=namespace)
            self._stack.push_async_callback(relay.stop)
            await relay.connect()
            settings = Settings(port=self._ports[namespace], metrics_port=0, drain_timeout_s=2.0)
            await self._stack.enter_async_context(GatewayServer(relay, settings))
            self._started.add(namespace)

    async def stop(self) -> None:
        """Stop them all."""
        await self._stack.aclose()


class GatewayedRuntime(HttpAgentRuntime):
    """A runtime whose gateway is started when it is needed."""

    def __init__(self, gateways: Gateways, namespace: str, **options: Any) -> None:
        self._gateways = gateways
        self._namespace = namespace
        super().__init__(gateways.url_of(namespace), **options)

    async def connect(self) -> Self:
        await self._gateways.start(self._namespace)
        return await super().connect()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
