"""Hivewire's gateway: CloudEvents over HTTP into the event stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from bench.addresses import Addresses
from bench.http_posts import posts
from bench.load import Call
from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    host, _, port = addresses.own.rpartition(":")
    relay = RelayRuntime(addresses.nats_url)
    await relay.connect()
    try:
        async with GatewayServer(relay, Settings(host=host, port=int(port), metrics_port=0)):
            yield
    finally:
        await relay.stop()


def client(addresses: Addresses) -> AbstractAsyncContextManager[Call]:
    return posts(addresses.own)
