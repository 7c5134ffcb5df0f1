"""Fixtures that every kind of test may use."""

import asyncio
import secrets
from collections.abc import Iterator

import pytest

from hivewire.nats.embedded import EmbeddedServer


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The address of a real server with JetStream, shared by the tests of one worker process."""
    server = EmbeddedServer()
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.stop())


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses, so that tests may share a server."""
    return f"t{secrets.token_hex(6)}"
