"""Both kinds of runtime, and each alone, as fixtures."""

from collections.abc import AsyncIterator

import pytest

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


def _broker_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    # The examples name no namespace, and neither do the programs that tests start.
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", request.getfixturevalue("namespace"))
    url: str = request.getfixturevalue("nats_url")
    return url
