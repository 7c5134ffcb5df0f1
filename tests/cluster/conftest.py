"""The cluster that the scenarios run on: the one of KUBECONFIG, or the one that `make cluster-up` made."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.kubectl import Kubectl
from cluster.machine.cluster import offer_volumes_again
from cluster.machine.layout import Layout
from cluster.machine.tools import binary
from cluster.release import CHART, PROJECT, Release

NO_CLUSTER = (
    "there is no cluster: `make cluster-tools cluster-up cluster-image` makes one on Linux as root; "
    "or set KUBECONFIG to one that has the project's images"
)


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    named = os.environ.get("KUBECONFIG")
    found = Path(named) if named else Layout().kubeconfig
    if not named and not (os.access(found, os.R_OK)):
        pytest.skip(NO_CLUSTER)
    return found


@pytest.fixture
def cluster(kubeconfig: Path, tmp_path: Path) -> Iterator[Kubectl]:
    """A namespace of its own, in which only pods of the restricted standard are let in."""
    with _namespace(kubeconfig, tmp_path) as kubectl:
        yield kubectl


@pytest.fixture(scope="module")
def chart() -> Path:
    """The chart that a module's release is of."""
    return CHART


@pytest.fixture(scope="module")
def release(
    request: pytest.FixtureRequest, kubeconfig: Path, chart: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    """A release of the chart in a namespace of its own, which the tests of a module share.

    The module may have options of `helm install` as RELEASE_OPTIONS.
    """
    with _namespace(kubeconfig, tmp_path_factory.mktemp("release")) as kubectl:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(PROJECT / "k8s/crds"))
        installed = Release(kubectl)
        installed.install(*getattr(request.module, "RELEASE_OPTIONS", ()), chart=chart)
        yield installed


@contextmanager
def _namespace(kubeconfig: Path, folder: Path) -> Iterator[Kubectl]:
    program = shutil.which("kubectl", path=f"{binary('kubectl').parent}:{os.environ['PATH']}")
    assert program, "there is no kubectl; `make cluster-tools` builds one"
    if kubeconfig == Layout().kubeconfig:
        # Nothing else does: there are so many, and each run takes some.
        offer_volumes_again(Layout())
    namespace = f"hivewire-{secrets.token_hex(4)}"
    kubectl = Kubectl(program=program, kubeconfig=kubeconfig, cache=folder / "kubectl", namespace=namespace)
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    yield kubectl
    kubectl("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")
