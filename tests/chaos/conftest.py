"""Runs of chaos, each in a directory of its own, and one at a time."""

import fcntl
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chaos.cluster import Cluster
from chaos.load import LoadPlan
from chaos.scenario import Scenario

NewScenario = Callable[..., Scenario]


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """Wait until no other test run on this machine has a chaos run under way: each takes all the machine has."""
    with (Path(tempfile.gettempdir()) / f"hivewire-chaos-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
async def broker() -> AsyncIterator[Cluster]:
    """A broker that a test of a few seconds may kill while others run."""
    async with Cluster(1) as cluster:
        yield cluster


@pytest.fixture
async def one_node(undisturbed: None) -> AsyncIterator[Cluster]:
    """A broker that the test may kill."""
    async with Cluster(1) as cluster:
        yield cluster


@pytest.fixture
async def three_nodes(undisturbed: None) -> AsyncIterator[Cluster]:
    """Three brokers that the test may kill."""
    async with Cluster(3) as cluster:
        yield cluster


@pytest.fixture
def new_scenario(request: pytest.FixtureRequest, namespace: str, tmp_path: Path) -> NewScenario:
    """Makes the run of a test, which is named after it."""

    def make(cluster: Cluster, plan: LoadPlan | None = None, **options: Any) -> Scenario:
        name = request.node.name.removeprefix("test_")
        return Scenario(
            name, cluster, plan or LoadPlan(), namespace=namespace, directory=tmp_path / "workers", **options
        )

    return make
