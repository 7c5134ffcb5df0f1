"""A real API server as tests of the operator see it."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubernetes.aio import client, config

from cluster.kubectl import Kubectl
from cluster.machine.api_only import kubectl
from cluster.machine.layout import Layout
from cluster.machine.tools import binary

Rule = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class ApiServer:
    """An API server without nodes and controllers: `cluster.machine.api_only` tells what that means."""

    layout: Layout

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.layout.kubeconfig

    @property
    def url(self) -> str:
        url: str = json.loads(self.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
        return url

    def new_namespace(self) -> str:
        name = f"t{secrets.token_hex(5)}"
        kubectl(self.layout, "create", "namespace", name)
        return name

    def kubectl(self, namespace: str, *, kubeconfig: Path | None = None) -> Kubectl:
        """Return `kubectl` in a namespace, as the administrator if no other kubeconfig is given."""
        return Kubectl(
            program=str(binary("kubectl")),
            kubeconfig=kubeconfig or self.kubeconfig,
            cache=self.layout.root / "kubectl",
            namespace=namespace,
        )

    async def client(self, *, kubeconfig: Path | None = None) -> client.ApiClient:
        """Return a client, which the caller closes; as the administrator if no other kubeconfig is given."""
        api: client.ApiClient = await config.new_client_from_config(str(kubeconfig or self.kubeconfig))
        return api

    def service_account(self, namespace: str, name: str, *rules: Rule, url: str = "") -> Path:
        """Make a ServiceAccount that may do in its namespace what the rules say, and return its kubeconfig.

        Args:
            rules: Such as `{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}`.
            url: Where it reaches the server, if not directly.
        """
        self.bind(namespace, name, namespace, *rules)
        kubectl_here = self.kubectl(namespace)
        kubectl_here("create", "serviceaccount", name)
        user = {"token": kubectl_here("create", "token", name, "--duration=1h").strip()}
        content = json.loads(self.kubeconfig.read_text())
        content["users"][0]["user"] = user
        content["clusters"][0]["cluster"]["server"] = url or self.url
        content["contexts"][0]["context"]["namespace"] = namespace
        path = self.layout.root / f"{namespace}-{name}.kubeconfig"
        path.write_text(json.dumps(content))
        return path

    def bind(self, namespace: str, name: str, target: str, *rules: Rule) -> None:
        """Let a ServiceAccount of one namespace do in the namespace `target` what the rules say."""
        role = f"{namespace}-{name}"
        metadata = {"name": role, "namespace": target}
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
        self.kubectl(target).apply(
            _rbac("Role", metadata=metadata, rules=list(rules)),
            _rbac("RoleBinding", metadata=metadata, roleRef=reference, subjects=[subject]),
        )


def _rbac(kind: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, **content}
