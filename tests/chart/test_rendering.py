"""What is rendered is what Kubernetes takes, and keeps to the rules for pods and rights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from chart.conftest import CHART, Manifest, Render, helm_python
from chart.matrix import MATRIX
from chart.schemas import check_custom, is_custom

SINCE, UNTIL = "1.29", "1.36"
PODS = {"Deployment", "StatefulSet", "Job"}

each_installation = pytest.mark.parametrize("values", MATRIX.values(), ids=MATRIX)


@each_installation
def test_all_of_it_is_what_kubernetes_knows(values: dict[str, Any], render: Render) -> None:
    for manifest in render(values):
        if is_custom(manifest):
            check_custom(manifest)
        elif manifest["kind"] != "CustomResourceDefinition" and "monitoring.coreos.com" not in manifest["apiVersion"]:
            for version in (SINCE, UNTIL):
                kubernetes_validate.validate(manifest, version, strict=True)


@each_installation
def test_nothing_is_there_twice_and_everything_says_where(values: dict[str, Any], render: Render) -> None:
    keys = Counter()
    for manifest in render(values):
        metadata = manifest["metadata"]
        is_clusters = manifest["kind"] in {"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
        assert is_clusters == ("namespace" not in metadata), manifest["kind"]
        keys[manifest["kind"], metadata.get("namespace"), metadata["name"]] += 1
        assert len(metadata["name"]) <= 63
    assert [key for key, count in keys.items() if count > 1] == []


@each_installation
def test_every_pod_is_restricted(values: dict[str, Any], render: Render) -> None:
    for name, pod in pods(render(values)):
        security = pod["securityContext"]
        assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert container["resources"]["requests"] and container["resources"]["limits"], name
            assert not container["image"].endswith(":latest")
            assert "@" in container["image"] or ":" in container["image"], name


@each_installation
def test_what_runs_on_is_probed_and_only_what_speaks_to_the_api_has_a_token(
    values: dict[str, Any], render: Render
) -> None:
    for manifest in render(values):
        if manifest["kind"] not in PODS:
            continue
        name, pod = manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]
        speaks = name in {"hivewire-operator", "hivewire-bootstrap"}
        assert pod.get("automountServiceAccountToken", True) == speaks, name
        if name == "hivewire-toolbox":
            continue  # it does nothing until somebody comes
        if manifest["kind"] != "Job":
            (container,) = pod["containers"]
            assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys(), name
        else:
            assert manifest["spec"]["activeDeadlineSeconds"] <= 600, name


@each_installation
def test_rights_are_named_one_by_one(values: dict[str, Any], render: Render) -> None:
    for manifest in render(values):
        if manifest["kind"] not in {"Role", "ClusterRole"}:
            continue
        for rule in manifest["rules"]:
            assert "*" not in {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert not {"escalate", "bind", "impersonate"} & {*rule["verbs"]}
            assert not {"pods", "pods/exec", "roles", "rolebindings", "nodes"} & {*rule["resources"]}
            if "secrets" in rule["resources"]:
                assert not {"list", "watch", "delete", "deletecollection"} & {*rule["verbs"]}


@each_installation
def test_the_names_that_objects_refer_to_are_there(values: dict[str, Any], render: Render) -> None:
    manifests = render(values)
    there = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    given = {"tokens", "nats-tls", "nats-ca"}
    made_later = {"hivewire-gateway-nats", "hivewire-admin-nats", "hivewire-nats-auth"}
    for name, pod in pods(manifests):
        assert ("ServiceAccount", pod["serviceAccountName"]) in there or name == "hivewire-test", name
        for volume in pod["volumes"]:
            for source in [volume, *volume.get("projected", {}).get("sources", [])]:
                if "configMap" in source:
                    assert ("ConfigMap", source["configMap"]["name"]) in there, name
                if "secret" in source:
                    secret = source["secret"].get("secretName") or source["secret"]["name"]
                    assert secret in given | made_later or ("Secret", secret) in there, secret


def test_the_operator_lists_no_secrets_and_has_a_role_in_each_namespace(render: Render) -> None:
    roles = {
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in render({"operator": {"watchNamespaces": ["shop", "bank"]}, "rbac": {"aggregate": False}})
        if each["kind"].endswith("Role")
    }
    assert roles == {
        ("Role", "agents", "hivewire-operator"),
        ("Role", "agents", "hivewire-bootstrap"),
        ("Role", "shop", "hivewire-operator-agents"),
        ("Role", "bank", "hivewire-operator-agents"),
    }


def test_who_scales_a_gateway_is_the_only_one_who_does(render: Render) -> None:
    deployment = one(render({"gateway": {"autoscaling": {"enabled": True}}}), "Deployment", "hivewire-gateway")
    assert "replicas" not in deployment["spec"]


def test_the_first_agent_system_follows_from_where_nats_is(render: Render) -> None:
    assert system(render()) == {
        "nats": {"url": "nats://hivewire-nats.agents.svc:4222", "login": "default"},
        "streams": {"replicas": 1},
    }
    large = {"system": {"spec": {"streams": {"maxBytes": 1 << 40}, "deletionPolicy": "Delete"}}}
    assert system(render({"nats": {"nodes": 3}, **large})) == {
        "nats": {"url": "nats://hivewire-nats.agents.svc:4222", "login": "default"},
        "streams": {"replicas": 3, "maxBytes": 1 << 40},
        "deletionPolicy": "Delete",
    }
    assert system(render(MATRIX["external NATS without a login"]))["nats"] == {"url": "tls://a:4222,tls://b:4222"}
    encrypted = system(render({"nats": {"tls": {"existingSecret": "nats-tls"}}}))["nats"]
    assert encrypted == {"url": "tls://hivewire-nats.agents.svc:4222", "login": "default", "caSecret": "nats-tls"}


def test_a_gateway_without_a_login_waits_for_none(render: Render) -> None:
    gateway = one(render(MATRIX["external NATS without a login"]), "Deployment", "hivewire-gateway")
    text = yaml.safe_dump(gateway)
    assert "nats.creds" not in text and "hivewire-gateway-nats" not in text


def test_the_definitions_stay_when_the_release_goes(render: Render) -> None:
    definitions = [each for each in render() if each["kind"] == "CustomResourceDefinition"]
    assert len(definitions) == 3
    assert all(each["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"} for each in definitions)


def test_helm_finds_nothing_to_say() -> None:
    for values in MATRIX.values():
        report = helm_python.lint(CHART, values, strict=True)
        assert [each for each in report["messages"] if each["severity"] > 1] == []
        assert report["errors"] == []


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    for manifest in manifests:
        if manifest["kind"] in PODS:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def one(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [each for each in manifests if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def system(manifests: list[Manifest]) -> Manifest:
    text = one(manifests, "ConfigMap", "hivewire-system")["data"]["system.yaml"]
    manifest = yaml.safe_load(text)
    check_custom(manifest)
    spec: Manifest = manifest["spec"]
    return spec
