"""The project's image in pods: agents that are reached through a NATS server in another pod."""

import json

import pytest

from cluster.kubectl import Kubectl
from cluster.workloads import AGENTS_IMAGE, agents, nats, pod_spec

pytestmark = pytest.mark.cluster


def test_agents_in_pods_answer_and_their_logs_are_json(cluster: Kubectl) -> None:
    cluster.apply(*nats(), agents(replicas=2))
    cluster.wait_until_available("nats", "agents")
    assert cluster.get("deployment", "agents")["status"]["readyReplicas"] == 2

    # The pod finds the broker by the name of its service.
    reply = cluster("exec", "deployment/agents", "--", "hivewire", "send", "greeter/one", '"Ada"', "--timeout", "30")

    assert json.loads(reply) == "Hello, Ada!"
    for line in cluster("logs", "deployment/agents").splitlines():
        assert json.loads(line)["level"] in ("info", "warning")


def test_a_pod_of_the_image_runs_as_a_user_without_rights_and_writes_nowhere(cluster: Kubectl) -> None:
    program = "import os; print(os.getuid(), os.getgid(), os.access('/app', os.W_OK)); open('/tmp/file', 'w')"
    cluster.apply(_pod("writer", program))

    ended = cluster.wait_for("pod", "writer", lambda pod: pod["status"]["phase"] == "Failed")

    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1
    lines = cluster("logs", "writer").splitlines()
    assert "10001 10001 False" in lines
    assert "OSError: [Errno 30] Read-only file system: '/tmp/file'" in lines


def test_a_pod_that_takes_too_much_memory_is_seen_to_be_killed(cluster: Kubectl) -> None:
    cluster.apply(_pod("eater", "bytearray(300 * 2**20)", limits={"memory": "64Mi"}))

    ended = cluster.wait_for("pod", "eater", lambda pod: pod["status"]["phase"] == "Failed")

    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "OOMKilled"


def _pod(name: str, program: str, **resources: object) -> dict[str, object]:
    container = {"image": AGENTS_IMAGE, "command": ["python", "-c", program], "resources": resources}
    spec = pod_spec(container, restartPolicy="Never")
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
