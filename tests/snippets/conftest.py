"""Both kinds of runtime, and each alone, as fixtures."""

from collections.abc import AsyncIterator

import pytest

from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings
from snippets.stages import Stage


@pytest.fixture(params=["in_one_process", "over_nats"])
def broker_url_or_none(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Where the runtime finds its broker, if it needs one. Not async: `nats_url` runs an event loop of its own."""
    return _broker_url(request, monkeypatch) if request.param == "over_nats" else None


@pytest.fixture
def broker_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The broker, for tests that need one."""
    return _broker_url(request, monkeypatch)


@pytest.fixture
async def stage(broker_url_or_none: str | None) -> AsyncIterator[Stage]:
    """Both kinds, one after the other."""
    async with Stage(broker_url_or_none) as stage:
        yield stage


@pytest.fixture
async def local_stage() -> AsyncIterator[Stage]:
    """The kind that runs in one process."""
    async with Stage(None) as stage:
        yield stage


@pytest.fixture
async def nats_stage(broker_url: str) -> AsyncIterator[Stage]:
    """The kind that runs over NATS."""
    async with Stage(broker_url) as stage:
        yield stage


@pytest.fixture(params=["over_nats", "over_http"])
def network(request: pytest.FixtureRequest) -> str:
    """How a runtime reaches others."""
    return str(request.param)


@pytest.fixture
async def network_url(network: str, broker_url: str, namespace: str) -> AsyncIterator[str]:
    """The address for a runtime: of the broker, or of a gateway."""
    if network == "over_nats":
        yield broker_url
        return
    relay = RelayRuntime(broker_url, namespace=namespace)
    await relay.connect()
    try:
        async with GatewayServer(relay, Settings(port=0, metrics_port=0)) as gateway:
            yield gateway.url
    finally:
        await relay.stop()


@pytest.fixture
async def network_stage(network_url: str) -> AsyncIterator[Stage]:
    """The two kinds that reach others over a network, one after the other."""
    async with Stage(network_url) as stage:
        yield stage


def _broker_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # The examples name no namespace, and neither do the programs that tests start.
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", request.getfixturevalue("namespace"))
    url: str = request.getfixturevalue("nats_url")
    return url
