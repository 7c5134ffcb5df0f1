"""What the chart installs is taken by a real API server, and the operator may do what it does there, and no more."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.aio import client

from api_server import ApiServer
from hivewire_operator.bootstrap import bootstrap
from hivewire_operator.cluster import Cluster
from hivewire_operator.election import Leadership
from hivewire_operator.ledger import Entry
from hivewire_operator.ledgers import Ledgers

helm_python = pytest.importorskip("helm_python", reason="renders charts: pip install helm-python-sdk")

CHART = Path(__file__).parents[2] / "charts" / "hivewire"
HIVEWIRE = "hivewire.dev"

# Verb, group, resource, name, subresource.
Right = tuple[str, str, str, str, str]

MAY: list[Right] = [
    ("list", HIVEWIRE, "agentsystems", "", ""),
    ("watch", HIVEWIRE, "agentdeployments", "", ""),
    ("get", HIVEWIRE, "agentsubscriptions", "any", ""),
    ("patch", HIVEWIRE, "agentsubscriptions", "any", "status"),
    ("patch", HIVEWIRE, "agentdeployments", "any", "scale"),
    ("update", HIVEWIRE, "agentdeployments", "any", "finalizers"),
    ("create", HIVEWIRE, "agentsystems", "default", ""),
    ("patch", HIVEWIRE, "agentsystems", "default", ""),
    ("watch", "apps", "deployments", "", ""),
    ("create", "apps", "deployments", "any", ""),
    ("patch", "apps", "deployments", "any", ""),
    ("patch", "apps", "deployments", "any", "scale"),
    ("delete", "apps", "controllerrevisions", "any", ""),
    ("delete", "policy", "poddisruptionbudgets", "any", ""),
    ("create", "", "serviceaccounts", "any", ""),
    ("create", "", "secrets", "hivewire-greeter-nats", ""),
    ("get", "", "secrets", "hivewire-greeter-nats", ""),
    ("create", "events.k8s.io", "events", "", ""),
    ("patch", "coordination.k8s.io", "leases", "hivewire-operator", ""),
    ("update", "coordination.k8s.io", "leases", "hivewire-operator", ""),
    ("list", "", "configmaps", "", ""),
    ("create", "", "configmaps", "", ""),
    ("patch", "", "configmaps", "hivewire-ledger-{namespace}", ""),
]
MAY_NOT: list[Right] = [
    ("list", "", "secrets", "", ""),
    ("watch", "", "secrets", "", ""),
    ("delete", "", "secrets", "any", ""),
    ("get", "", "pods", "any", ""),
    ("create", "", "pods", "any", "exec"),
    ("create", "rbac.authorization.k8s.io", "roles", "", ""),
    ("delete", "apps", "deployments", "any", ""),
    ("patch", HIVEWIRE, "agentdeployments", "any", ""),
    ("patch", HIVEWIRE, "agentsystems", "other", ""),
    ("update", "coordination.k8s.io", "leases", "other", ""),
    ("get", "", "configmaps", "other", ""),
]


def test_an_api_server_takes_all_of_it_and_lets_the_operator_do_its_work_and_no_more(
    api_server: ApiServer, namespace: str
) -> None:
    kubectl = api_server.kubectl(namespace)
    manifests = render(namespace, {"nats": {"nodes": 3}, "networkPolicies": {"enabled": True}})
    kubectl("apply", "--server-side", "-f", "-", stdin=_list(manifests))
    kubectl("apply", "--server-side", "-f", "-", stdin=_list([first_system(manifests)]))
    operator = f"system:serviceaccount:{namespace}:hivewire-operator"
    assert allowed(api_server, namespace, operator, MAY) == dict.fromkeys(MAY, True)
    assert allowed(api_server, namespace, operator, MAY_NOT) == dict.fromkeys(MAY_NOT, False)
    # Elsewhere it may do nothing.
    assert not any(allowed(api_server, "default", operator, MAY).values())
    gateway = f"system:serviceaccount:{namespace}:hivewire-gateway"
    assert not any(allowed(api_server, namespace, gateway, [*MAY, *MAY_NOT]).values())


async def test_the_bootstrap_and_the_operator_get_along_with_their_rights(
    api_server: ApiServer, namespace: str, tmp_path: Path
) -> None:
    api_server.kubectl(namespace)("apply", "--server-side", "-f", "-", stdin=_list(render(namespace, {})))
    async with Cluster(await as_account(api_server, namespace, "hivewire-bootstrap", tmp_path)) as cluster:
        for is_new in (True, False):
            done = await bootstrap(
                cluster,
                namespace=namespace,
                login="default",
                allowed=namespace,
                url="nats://hivewire-nats:4222",
                now=time.time(),
            )
            assert done.keys is is_new
    async with Cluster(await as_account(api_server, namespace, "hivewire-operator", tmp_path)) as cluster:
        assert await cluster.get("Secret", namespace, "hivewire-login-default")
        ledgers = Ledgers(cluster, own_namespace=namespace)
        entry = Entry(kind="AgentDeployment", name="a", uid="u", url="nats://a:4222")
        for _ in range(2):
            await ledgers.change(namespace, lambda ledger: replace(ledger, entries={**ledger.entries, "u": entry}))
            entry = replace(entry, url="nats://b:4222")
        assert (await ledgers.load(namespace)).entries["u"].url == "nats://b:4222"
        await Leadership(cluster, namespace=namespace, name="hivewire-operator", identity="me").run(_nothing)


async def as_account(api_server: ApiServer, namespace: str, name: str, directory: Path) -> client.ApiClient:
    """Log in as a ServiceAccount that is there."""
    content = json.loads(api_server.kubeconfig.read_text())
    token = api_server.kubectl(namespace)("create", "token", name, "--duration=1h").strip()
    content["users"][0]["user"] = {"token": token}
    path = directory / name
    path.write_text(json.dumps(content))
    return await api_server.client(kubeconfig=path)


async def _nothing() -> None:
    pass


def render(namespace: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm_python.Chart.load(CHART) as chart:
        texts = chart.render({"crds": {"enabled": False}, **values}, name="hivewire", namespace=namespace)
    parts = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [each for text in parts for each in yaml.safe_load_all(text) if each]


def first_system(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    (text,) = [each["data"]["system.yaml"] for each in manifests if "system.yaml" in each.get("data", {})]
    manifest: dict[str, Any] = yaml.safe_load(text)
    return manifest


def allowed(api_server: ApiServer, namespace: str, user: str, rights: list[Right]) -> dict[Right, bool]:
    """Ask the server who may do what."""
    groups = ["system:serviceaccounts", "system:authenticated"]
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user,
                "groups": groups,
                "resourceAttributes": {
                    "namespace": namespace,
                    "verb": verb,
                    "group": group,
                    "resource": resource,
                    "name": name.format(namespace=namespace),
                    "subresource": part,
                },
            },
        }
        for verb, group, resource, name, part in rights
    ]
    answers = api_server.kubectl(namespace)(
        "create", "-f", "-", "-o", "jsonpath={.status.allowed} ", stdin=_list(reviews)
    )
    return {right: answer == "true" for right, answer in zip(rights, answers.split(), strict=True)}


def _list(manifests: list[dict[str, Any]]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests})
