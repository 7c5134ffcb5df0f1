"""A release of the chart in a namespace of its own."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cluster.kubectl import Kubectl
from cluster.machine.tools import binary

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "charts/hivewire"
VALUES = Path(__file__).with_name("values.yaml")
AGENTS_IMAGE = "localhost/hivewire-test-agents:latest"
NAME = "hivewire"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Release:
    """A release, with what tests do to it."""

    kubectl: Kubectl

    def helm(self, *arguments: str, timeout_s: int = 150) -> str:
        """Return what the command printed.

        Raises:
            AssertionError: it failed; the message holds what it said.
        """
        program = shutil.which("helm") or str(binary("helm"))
        where = [f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={self.kubectl.namespace}"]
        done = subprocess.run(
            [program, *arguments, *where], check=False, capture_output=True, text=True, timeout=timeout_s
        )
        pods = "" if done.returncode == 0 else self.kubectl("get", "pods", "-o", "wide")
        assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}{pods}"
        return done.stdout

    def install(self, *options: str, chart: Path = CHART) -> None:
        """Install it, or upgrade the one that there is, and wait until it works."""
        # The definitions are those of the cluster, which all releases share.
        own = ["--set=crds.enabled=false,rbac.aggregate=false", f"--values={VALUES}"]
        self.helm("upgrade", "--install", NAME, str(chart), *own, "--wait", "--timeout=120s", *options)
        self.wait_until("agentsystem", "default", "Ready", "True")

    def uninstall(self) -> None:
        self.helm("uninstall", NAME, "--wait", "--timeout=90s")

    def deployment(self, name: str, *types: Object, **spec: Any) -> None:
        """Make or change an AgentDeployment of the scenarios' agents."""
        variables = [{"name": "AGENT_TYPES", "value": ",".join(each["name"] for each in types)}]
        pod = {
            "imagePullPolicy": "Never",
            "terminationGracePeriodSeconds": 15,
            "env": variables,
            "resources": {"limits": {"memory": "256Mi"}},
        }
        defaults = {
            "image": AGENTS_IMAGE,
            "module": "cluster_agents:setup",
            "agentTypes": list(types),
            "pod": pod,
            "rollout": {"progressDeadlineSeconds": 30},
        }
        self.kubectl.apply(
            {
                "apiVersion": "hivewire.dev/v1alpha1",
                "kind": "AgentDeployment",
                "metadata": {"name": name},
                "spec": defaults | spec,
            }
        )

    def wait_until(self, kind: str, name: str, condition: str, status: str, *, timeout_s: int = 90) -> Object:
        """Return the object once a condition of it has this status for the spec as it is."""

        def holds(found: Object) -> bool:
            return any(
                each["type"] == condition
                and each["status"] == status
                and each["observedGeneration"] == found["metadata"]["generation"]
                for each in (found.get("status") or {}).get("conditions", ())
            )

        return self.wait_for(kind, name, holds, timeout_s=timeout_s)

    def wait_for(self, kind: str, name: str, holds: Callable[[Object], bool], *, timeout_s: int = 90) -> Object:
        """Return the object once it is as asked for."""
        deadline = time.monotonic() + timeout_s
        while not holds(found := self.kubectl.get(kind, name)):
            assert time.monotonic() < deadline, (
                f"{kind}/{name} is not as expected after {timeout_s} s: {json.dumps(found.get('status'), indent=1)}"
            )
            time.sleep(0.3)
        return found

    def run(self, program: str, *, within: str, timeout_s: int = 120) -> str:
        """Run a Python program in a pod, with its login, and return what it printed.

        Args:
            within: The pod's deployment, or `pod/NAME`.
        """
        kubectl, target = self.kubectl, within if "/" in within else f"deployment/{within}"
        where = [f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
        command = [kubectl.program, *where, "exec", "-i", target, "--", "python", "-"]
        done = subprocess.run(command, check=False, input=program, capture_output=True, text=True, timeout=timeout_s)
        assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout

    @contextmanager
    def gateway(self) -> Iterator[httpx.Client]:
        """Talk to the gateway, as its administrator."""
        token = self.kubectl(
            "get", "secret", f"{NAME}-gateway-admin", "-o", "go-template={{.data.token | base64decode}}"
        )
        kubectl, port = self.kubectl, _free_port()
        where = [f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={kubectl.namespace}"]
        command = [kubectl.program, *where, "port-forward", f"service/{NAME}-gateway", f"{port}:80"]
        forwarding = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_until_open(port)
            limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
            with httpx.Client(
                base_url=f"http://127.0.0.1:{port}",
                headers={"Authorization": f"Bearer {token}"},
                timeout=90,
                limits=limits,
            ) as client:
                yield client
        finally:
            forwarding.terminate()
            forwarding.wait(10)


def ask(gateway: httpx.Client, agent: str, message_type: str, **message: Any) -> httpx.Response:
    """Send a message to an agent through the gateway."""
    return gateway.post(f"/v1/agents/{agent}", json=message, headers={"Hivewire-Message-Type": message_type})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the gateway's port is not forwarded"
            time.sleep(0.1)
