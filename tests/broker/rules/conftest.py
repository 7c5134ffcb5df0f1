"""What the broker keeps, and processes, for tests of the rules of DESIGN.md, section 3."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from broker.rules.stored import Stored
from broker.rules.workers import Workers


@pytest.fixture
def stored(client: Client, namespace: str) -> Stored:
    """What the broker keeps of the test's namespace."""
    return Stored(client, namespace)


@pytest.fixture
def workers(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[Workers]:
    """Starts processes with agents, and kills at the end those that still run."""
    workers = Workers(nats_url, namespace, tmp_path / "notes")
    yield workers
    workers.kill_all()
