"""What a claim stores outlives its pod."""

import pytest

from cluster.kubectl import Kubectl
from cluster.workloads import AGENTS_IMAGE, pod_spec

pytestmark = pytest.mark.cluster


def test_a_pod_finds_what_an_earlier_one_stored_under_the_same_claim(cluster: Kubectl) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    cluster.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": claim})

    _run(cluster, "writer", "open('/data/note', 'w').write('kept')")
    cluster("delete", "pod", "writer")
    _run(cluster, "reader", "print(open('/data/note').read())")

    assert cluster("logs", "reader") == "kept\n"


def _run(cluster: Kubectl, name: str, program: str) -> None:
    container = {
        "image": AGENTS_IMAGE,
        "command": ["python", "-c", program],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    spec = pod_spec(container, restartPolicy="Never", volumes=volumes)
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
    cluster.wait_for("pod", name, lambda pod: pod["status"]["phase"] == "Succeeded")
