"""Pods that die, are moved or are replaced under load: nothing that waits for them is lost or doubled."""

import concurrent.futures
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cluster.load import FROM, load_on_ledgers
from cluster.release import Release, ask

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LEDGER = {"name": "ledger"}
CLERK = {"name": "clerk"}
WORKER = {"name": "worker", "stateless": True}
KILLED = "137"
TWO = {"mode": "manual", "minReplicas": 0, "maxReplicas": 2}


@pytest.fixture(scope="module", autouse=True)
def agents(release: Release) -> None:
    release.deployment(FROM, WORKER, scaling={"minReplicas": 1, "maxReplicas": 1})
    for name, agent_type in (("ledgers", LEDGER), ("clerks", CLERK)):
        release.deployment(name, agent_type, scaling=TWO)
        release.kubectl("scale", f"agentdeployment/{name}", "--replicas=2")
    for name in ("ledgers", "clerks"):
        release.wait_for("agentdeployment", name, lambda found: found["status"].get("readyReplicas") == 2)
    release.wait_until("agentdeployment", FROM, "Ready", "True")


def pods(release: Release, deployment: str) -> list[dict[str, Any]]:
    """Return the pods of a deployment that are not on their way out."""
    found = json.loads(release.kubectl("get", "pods", "-l", f"hivewire.dev/deployment={deployment}", "-o", "json"))
    return [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]


def test_pods_are_replaced_by_those_of_a_new_template_under_load(release: Release) -> None:
    before = {pod["metadata"]["name"] for pod in pods(release, "ledgers")}
    with load_on_ledgers(release, "rolled", keys=20, each=1000, pause_s=0.2):
        release.deployment("ledgers", LEDGER, scaling=TWO, pod=_pod(labels={"version": "2"}))
        release.wait_until("agentdeployment", "ledgers", "Deployed", "True")
        # It may say so of the template of before, until the new one is seen.
        release.wait_for(
            "deployment",
            "ledgers",
            lambda found: (
                found["spec"]["template"]["metadata"]["labels"].get("version") == "2"
                and found["status"].get("updatedReplicas") == found["status"].get("readyReplicas") == 2
                and found["status"]["replicas"] == 2
            ),
        )
    assert before.isdisjoint(pod["metadata"]["name"] for pod in pods(release, "ledgers"))


def test_an_eviction_waits_for_the_pod_that_takes_the_place_of_the_one_before(release: Release) -> None:
    first, second = (pod["metadata"]["name"] for pod in pods(release, "ledgers"))
    with load_on_ledgers(release, "evicted", keys=20, each=1000, pause_s=0.2):
        assert _evict(release, first) == ""
        refused = _evict(release, second)
        assert "disruption budget" in refused
        deadline = time.monotonic() + 60
        while _evict(release, second):
            assert time.monotonic() < deadline, "the second pod could not be evicted"
            time.sleep(0.5)
    release.wait_for("agentdeployment", "ledgers", lambda found: found["status"].get("readyReplicas") == 2)
    assert {first, second}.isdisjoint(pod["metadata"]["name"] for pod in pods(release, "ledgers"))


def test_pods_that_the_node_kills_at_the_end_of_their_grace_leave_their_work_to_others(release: Release) -> None:
    with load_on_ledgers(release, "cut", keys=20, each=4, takes_s=3.0), _exit_codes(release, "ledgers") as codes:
        names = [pod["metadata"]["name"] for pod in pods(release, "ledgers")]
        # They drain for longer than that, unless nothing runs in them.
        release.kubectl("delete", "pod", *names, "--grace-period=1", "--timeout=30s")
    assert KILLED in {codes[name] for name in names}


def test_a_pod_that_took_too_much_memory_comes_back_and_others_answer_meanwhile(release: Release) -> None:
    with release.gateway() as gateway, concurrent.futures.ThreadPoolExecutor(1) as pool:
        eating = pool.submit(ask, gateway, "clerk/greedy", "Question", text="food", eat_mb=400)
        killed = _wait_until_killed(release)
        assert eating.result(100).status_code != 200
        answer = ask(gateway, "clerk/modest", "Question", text="water")
        assert (answer.status_code, answer.json()) == (200, "water")
        release.wait_for("agentdeployment", "clerks", lambda found: found["status"].get("readyReplicas") == 2)
        assert killed in {pod["metadata"]["name"] for pod in pods(release, "clerks")}


@contextmanager
def _exit_codes(release: Release, deployment: str) -> Iterator[dict[str, str]]:
    """Watch the pods of a deployment. Has afterwards, by their names, with what those ended that did."""
    kubectl, codes = release.kubectl, dict[str, str]()
    where = [f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
    shown = 'jsonpath={.metadata.name} {.status.containerStatuses[0].state.terminated.exitCode}{"\\n"}'
    command = ["get", "pods", "-l", f"hivewire.dev/deployment={deployment}", "--watch", "-o", shown]
    watching = subprocess.Popen([kubectl.program, *where, *command], stdout=subprocess.PIPE, text=True)
    try:
        yield codes
    finally:
        watching.terminate()
        told, _ = watching.communicate(timeout=10)
    codes.update(line.split() for line in told.splitlines() if not line.endswith(" "))


def _wait_until_killed(release: Release) -> str:
    deadline = time.monotonic() + 60
    while True:
        for pod in pods(release, "clerks"):
            for container in pod["status"].get("containerStatuses", ()):
                ended = container["lastState"].get("terminated") or container["state"].get("terminated") or {}
                if ended.get("reason") == "OOMKilled":
                    name: str = pod["metadata"]["name"]
                    return name
        assert time.monotonic() < deadline, "no pod was killed"
        time.sleep(0.3)


def _pod(**more: Any) -> dict[str, Any]:
    return {
        "imagePullPolicy": "Never",
        "terminationGracePeriodSeconds": 15,
        "env": [{"name": "AGENT_TYPES", "value": "ledger"}],
        **more,
    }


def _evict(release: Release, pod: str) -> str:
    """Evict a pod. Returns why not; empty: it goes."""
    kubectl = release.kubectl
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    path = f"/api/v1/namespaces/{kubectl.namespace}/pods/{pod}/eviction"
    command = [kubectl.program, f"--kubeconfig={kubectl.kubeconfig}", "create", "--raw", path, "-f", "-"]
    done = subprocess.run(command, check=False, input=json.dumps(eviction), capture_output=True, text=True, timeout=60)
    return "" if done.returncode == 0 else done.stderr
