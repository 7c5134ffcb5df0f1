"""The guide to Kubernetes, run as it stands: its files are written, and its `sh` blocks run in order in one shell.

Only what every installation has of its own is replaced: images, the namespace, ports, and `values.yaml` by that of the
scenarios. `shell` blocks are not run: they need a registry, or end what other tests use.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from cluster.kubectl import Kubectl
from cluster.machine.tools import binary
from cluster.release import PROJECT, VALUES
from documents import blocks, free_port

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

PAGE = PROJECT / "docs/kubernetes.md"
FIRST_STEPS_S = 240
"""What the first chapter may take on a slow machine. The guide promises five minutes beside the images."""
_FILE = re.compile(r"# ([\w-]+\.yaml)\n")
_STEP = re.compile(r"^step (\d+) took (\d+)$", re.MULTILINE)
_SHARED = {"crds": {"enabled": False}, "rbac": {"aggregate": False}}


def test_the_commands_of_the_guide_run_in_order_and_in_time(cluster: Kubectl, tmp_path: Path) -> None:
    cluster("apply", "--server-side", "--force-conflicts", "-f", str(PROJECT / "k8s/crds"))
    cluster("delete", "namespace", cluster.namespace, "--wait=true")  # the guide makes it
    for name in ("charts", "examples"):
        (tmp_path / name).symlink_to(PROJECT / name)
    ports = {"8080": free_port(), "9090": free_port()}
    script = [_HEAD]
    for block in blocks(PAGE):
        text = _own(block.text, cluster.namespace, ports)
        if block.language == "yaml" and (name := _FILE.match(text)):
            (tmp_path / name[1]).write_text(text)
        elif block.language == "sh":
            script.append(f"SECONDS=0\n{text}\necho; echo step {block.line} took $SECONDS\n")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(yaml.safe_load(VALUES.read_text()) | _SHARED))

    done = _run("\n".join(script), tmp_path, cluster.kubeconfig)

    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}\n{_pods(cluster)}"
    steps = {int(line): int(seconds) for line, seconds in _STEP.findall(done.stdout)}
    resources = next(block.line for block in blocks(PAGE) if "jsonpath='{range" in block.text)
    first = sum(seconds for line, seconds in steps.items() if line < resources)
    print(f"the first chapter took {first} s, all of the guide {sum(steps.values())} s; by line: {steps}")
    assert first < FIRST_STEPS_S


_HEAD = """
set -euo pipefail
trap 'kill $(jobs -p) 2> /dev/null || true' EXIT
"""


def _own(text: str, namespace: str, ports: dict[str, int]) -> str:
    text = text.replace("registry.example.com/greeter:1", "localhost/hivewire-example:latest")
    text = re.sub(r"(namespace |hivewire-ledger-)hivewire\b", rf"\1{namespace}", text)
    text = text.replace("localhost:8080", f"localhost:{ports['8080']}").replace(" 8080:80", f" {ports['8080']}:80")
    return text.replace("localhost:9090", f"localhost:{ports['9090']}").replace(" 9090 ", f" {ports['9090']}:9090 ")


def _run(script: str, folder: Path, kubeconfig: Path) -> subprocess.CompletedProcess[str]:
    own = folder / "kubeconfig"  # the guide changes its context
    shutil.copy(kubeconfig, own)
    path = f"{binary('kubectl').parent}:{os.environ['PATH']}"
    environment = {**os.environ, "KUBECONFIG": str(own), "PATH": path, "HOME": str(folder)}
    return subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=540,
    )


def _pods(cluster: Kubectl) -> str:
    return cluster("get", "pods", "-o", "wide")
