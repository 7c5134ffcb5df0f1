"""From one version of the chart to the next one and back, while messages flow."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from cluster.load import FROM, load_on_ledgers
from cluster.release import CHART, NAME, Release

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

BEFORE = "0.0.9"
GONE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: hivewire-of-before, namespace: {{ .Release.Namespace }}}
"""
CHANGES = (
    "--set=gateway.replicas=2",
    "--set=operator.resources.requests.cpu=40m",
    "--set=nats.goMemLimit=400MiB",  # servers are replaced
)

SUBSCRIPTION = {
    "apiVersion": "hivewire.dev/v1alpha1",
    "kind": "AgentSubscription",
    "metadata": {"name": "extra"},
    "spec": {"agentType": "ledger", "topicType": "extra"},
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart as it may have been in a version of before, with something that has gone since."""
    copy = tmp_path_factory.mktemp("before") / "hivewire"
    shutil.copytree(CHART, copy)
    described = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump(described | {"version": BEFORE}))
    (copy / "templates/of-before.yaml").write_text(GONE)
    return copy


@pytest.fixture(scope="module", autouse=True)
def agents(release: Release) -> None:
    release.deployment(FROM, {"name": "worker", "stateless": True}, scaling={"minReplicas": 1, "maxReplicas": 1})
    release.deployment("ledgers", {"name": "ledger"}, scaling={"minReplicas": 1, "maxReplicas": 1})
    for name in (FROM, "ledgers"):
        release.wait_until("agentdeployment", name, "Ready", "True")


def test_nothing_is_lost_while_a_release_is_upgraded_and_rolled_back(release: Release) -> None:
    before, agents = _what_there_is(release), _pods(release, "app.kubernetes.io/name=agents")
    with load_on_ledgers(release, "upgraded", keys=20, each=2000, pause_s=0.2):
        old = _pods(release, "app.kubernetes.io/component=nats")
        release.install(*CHANGES)
        after, new = _what_there_is(release), _pods(release, "app.kubernetes.io/component=nats")
        assert old.isdisjoint(new)
        release.helm("rollback", NAME, "--wait", "--timeout=120s")
        assert new.isdisjoint(_pods(release, "app.kubernetes.io/component=nats"))
    release.wait_until("agentsystem", "default", "Ready", "True")
    assert before == {"version": BEFORE, "gateways": 1, "cpu": "50m", "leftovers": True}
    assert after == {"version": _version(CHART), "gateways": 2, "cpu": "40m", "leftovers": False}
    assert _what_there_is(release) == before
    assert _pods(release, "app.kubernetes.io/name=agents") == agents


def test_a_namespace_can_be_deleted_with_a_release_and_all_kinds_of_objects_in_it(release: Release) -> None:
    release.kubectl.apply(SUBSCRIPTION)
    release.wait_until("agentsubscription", "extra", "Ready", "True")
    release.kubectl("delete", "namespace", release.kubectl.namespace, "--timeout=55s")


def _what_there_is(release: Release) -> dict[str, object]:
    (listed,) = json.loads(release.helm("list", "--output=json"))
    operator = release.kubectl.get("deployment", f"{NAME}-operator")["spec"]["template"]["spec"]["containers"][0]
    return {
        "version": listed["chart"].removeprefix("hivewire-"),
        "gateways": release.kubectl.get("deployment", f"{NAME}-gateway")["status"].get("readyReplicas"),
        "cpu": operator["resources"]["requests"]["cpu"],
        "leftovers": "hivewire-of-before" in release.kubectl("get", "configmaps", "-o", "name"),
    }


def _pods(release: Release, selector: str) -> set[str]:
    found = json.loads(release.kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
    return {pod["metadata"]["uid"] for pod in found if "deletionTimestamp" not in pod["metadata"]}


def _version(chart: Path) -> str:
    version: str = yaml.safe_load((chart / "Chart.yaml").read_text())["version"]
    return version
