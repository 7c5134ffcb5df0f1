"""The command line for tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli.commands import CommandLine
from broker.cli.seeds import Seeds


@pytest.fixture
def cli(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[CommandLine]:
    """Runs commands; those that still run are killed at the end."""
    line = CommandLine(nats_url, namespace, tmp_path)
    yield line
    line.kill_all()


@pytest.fixture
def seeds(nats_url: str, namespace: str) -> Seeds:
    """Writes states and dead letters into the namespace of `cli`."""
    return Seeds(nats_url, namespace)
