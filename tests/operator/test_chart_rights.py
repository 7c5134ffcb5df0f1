"""What the chart installs is taken by a real API server, and the operator may do what it does there, and no more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from api_server import ApiServer

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
