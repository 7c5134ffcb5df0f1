"""A release is installed, upgraded, rolled back, removed and installed again, as Helm does it on a real API server.

There is no kubelet, so nothing waits, and the hooks, which are Jobs, are left out.
"""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api_server import ApiServer
from cluster.machine.tools import binary

CHART = Path(__file__).parents[2] / "charts" / "hivewire"

Helm = Callable[..., str]


@pytest.fixture
def helm(api_server: ApiServer, namespace: str, tmp_path: Path) -> Helm:
    if not binary("helm").exists():
        pytest.skip("there is no helm: `make cluster-tools` builds it")

    def helm(command: str, *arguments: str) -> str:
        done = subprocess.run(
            [binary("helm"), command, "hivewire", *arguments, "--namespace", namespace, "--no-hooks"],
            env={"PATH": os.environ["PATH"], "KUBECONFIG": str(api_server.kubeconfig), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return helm


def test_passwords_are_made_once_and_what_others_write_is_left_to_them(
    api_server: ApiServer, namespace: str, helm: Helm
) -> None:
    kubectl = api_server.kubectl(namespace)
    values = ("--set", "crds.enabled=false,rbac.aggregate=false,nats.nodes=3")
    helm("install", str(CHART), *values)
    token, routes = _password(kubectl.get("secret", "hivewire-gateway-admin"), "token"), _routes(kubectl)
    kubectl("patch", "lease", "hivewire-operator", "--type=merge", "-p", '{"spec": {"holderIdentity": "somebody"}}')

    helm("upgrade", str(CHART), *values, "--set", "gateway.replicas=4,logLevel=debug")
    assert kubectl.get("deployment", "hivewire-gateway")["spec"]["replicas"] == 4
    assert _password(kubectl.get("secret", "hivewire-gateway-admin"), "token") == token
    assert _routes(kubectl) == routes
    assert kubectl.get("lease", "hivewire-operator")["spec"]["holderIdentity"] == "somebody"

    helm("rollback", "1")
    assert kubectl.get("deployment", "hivewire-gateway")["spec"]["replicas"] == 2
    assert _password(kubectl.get("secret", "hivewire-gateway-admin"), "token") == token
    assert kubectl.get("lease", "hivewire-operator")["spec"]["holderIdentity"] == "somebody"

    helm("uninstall")
    assert kubectl("get", "deployments,statefulsets,services,roles", "-o", "name") == ""
    helm("install", str(CHART), *values)
    assert _password(kubectl.get("secret", "hivewire-gateway-admin"), "token") != token


def test_who_scales_the_gateway_keeps_what_they_set(api_server: ApiServer, namespace: str, helm: Helm) -> None:
    kubectl = api_server.kubectl(namespace)
    values = ("--set", "crds.enabled=false,rbac.aggregate=false,gateway.autoscaling.enabled=true")
    helm("install", str(CHART), *values)
    kubectl("scale", "deployment", "hivewire-gateway", "--replicas=7")
    helm("upgrade", str(CHART), *values, "--set", "logLevel=debug")
    assert kubectl.get("deployment", "hivewire-gateway")["spec"]["replicas"] == 7


def _routes(kubectl: Any) -> str:
    return _password(kubectl.get("secret", "hivewire-nats-routes"), "password")


def _password(secret: dict[str, Any], key: str) -> str:
    return base64.b64decode(secret["data"][key]).decode()
