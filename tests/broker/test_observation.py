"""Who hosts no agents looks at a whole system."""

import pytest

from broker.conftest import NewRuntime
from broker.scripted import serve
from hivewire import BrokerUnavailableError
from hivewire.nats.embedded import EmbeddedServer
from hivewire.observation import SystemObserver


async def test_a_system_is_seen_from_outside_once_there_is_one(
    new_runtime: NewRuntime, nats_url: str, namespace: str
) -> None:
    async with SystemObserver(nats_url, namespace=namespace) as observer:
        assert await observer.observe() is None
        runtime = new_runtime()
        await serve(runtime, "agent")
        await runtime.start()
        seen = await observer.observe()
    assert seen is not None
    assert [(each.name, each.shards_without_owner) for each in seen.types] == [("agent", 0)]


async def test_a_broker_that_is_away_is_told(server: EmbeddedServer, namespace: str) -> None:
    async with SystemObserver(server.url, namespace=namespace) as observer:
        await server.stop()
        with pytest.raises(BrokerUnavailableError, match=r"within 0\.2 s"):
            await observer.observe(timeout=0.2)
