"""A real API server for tests of the operator, shared by all processes of a test run."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from api_server import ApiServer
from cluster.machine.api_only import missing_programs, use
from hivewire_operator.cluster import Cluster

DEFINITIONS = Path(__file__).parents[2] / "k8s" / "crds"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server that knows the custom resources. Tests keep to namespaces of their own."""
    if missing := missing_programs():
        pytest.skip(f"there is no {', '.join(missing)}: `make cluster-tools` builds what is missing, on Linux as root")
    base = tmp_path_factory.getbasetemp()
    # The base folder of a process of pytest-xdist is below that of the run.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kubernetes-api"
    shared.mkdir(exist_ok=True)
    with use(shared, DEFINITIONS) as layout:
        yield ApiServer(layout)


@pytest.fixture
def namespace(api_server: ApiServer) -> str:
    """A Kubernetes namespace that no other test uses."""
    return api_server.new_namespace()


@pytest.fixture
async def cluster(api_server: ApiServer) -> AsyncIterator[Cluster]:
    """The API as the operator sees it, with all rights."""
    async with Cluster(await api_server.client()) as cluster:
        yield cluster
