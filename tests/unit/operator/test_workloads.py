"""What an AgentDeployment becomes in Kubernetes."""

from dataclasses import replace
from typing import Any

import pytest

from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.resources.agent_system import AgentSystemSpec
from hivewire_operator.workloads import (
    Workload,
    deployment,
    disruption_budget,
    good_revision,
    pod_monitor,
    pod_template,
    service_account,
    template_hash,
)

SYSTEM = {"nats": {"url": "nats://nats:4222"}}


def workload(
    *, system: dict[str, Any] | None = None, login: str | None = "hivewire-shop-nats", **spec: Any
) -> Workload:
    asked_for = {"module": "shop.agents:setup", "agentTypes": [{"name": "cart"}], **spec}
    return Workload(
        name="shop",
        namespace="team",
        uid="u-1",
        spec=AgentDeploymentSpec.model_validate(asked_for),
        system=AgentSystemSpec.model_validate({**SYSTEM, **(system or {})}),
        image="hivewire:1",
        login=login,
    )


def container(made: Workload) -> dict[str, Any]:
    found: dict[str, Any] = pod_template(made)["spec"]["containers"][0]
    return found


def environment(made: Workload) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container(made)["env"]}


def test_pods_run_the_module_with_the_names_that_follow_from_the_object() -> None:
    assert container(workload())["args"] == ["run", "shop.agents:setup", "--drain-timeout", "55"]
    assert environment(workload()) == {
        "BROKER_URL": "nats://nats:4222",
        "HIVEWIRE_NAMESPACE": "team",
        "HIVEWIRE_DEPLOYMENT": "shop",
        "HIVEWIRE_HEALTH_HOST": "0.0.0.0",
        "HIVEWIRE_HEALTH_PORT": "9090",
        "HIVEWIRE_LOG_LEVEL": "info",
        "HIVEWIRE_PROVISION": "off",
        "NATS_CREDS": "/var/run/secrets/hivewire/nats.creds",
        "INSTANCE_ID": {"fieldRef": {"fieldPath": "metadata.name"}},
    }


@pytest.mark.parametrize(("grace", "drain"), [(5, "3"), (60, "55"), (3600, "3595")])
def test_turns_have_the_grace_time_less_a_margin_to_finish(grace: int, drain: str) -> None:
    assert container(workload(pod={"terminationGracePeriodSeconds": grace}))["args"][-1] == drain


def test_the_image_is_its_own_or_the_systems_or_the_operators() -> None:
    assert container(workload())["image"] == "hivewire:1"
    system = {"defaults": {"image": "ours:2"}}
    assert container(workload(system=system))["image"] == "ours:2"
    assert container(workload(system=system, image="mine:3"))["image"] == "mine:3"


def test_variables_of_the_user_stand_beside_those_of_the_operator_and_win_where_they_may() -> None:
    secret = {"secretKeyRef": {"name": "keys", "key": "openai", "optional": False}}
    env = [{"name": "MODEL", "value": "m"}, {"name": "KEY", "valueFrom": secret}]
    env += [{"name": "HIVEWIRE_LOG_LEVEL", "value": "debug"}]
    found = environment(workload(pod={"env": env}))
    assert (found["MODEL"], found["KEY"], found["HIVEWIRE_LOG_LEVEL"]) == ("m", secret, "debug")
    assert len(container(workload(pod={"env": env}))["env"]) == len(found), "a variable is there twice"


def test_pods_are_restricted_and_have_no_token() -> None:
    spec = pod_template(workload())["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(workload())["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert service_account(workload())["automountServiceAccountToken"] is False


def test_the_login_and_secrets_are_mounted_to_be_read() -> None:
    made = workload(pod={"secrets": [{"secretName": "tls", "mountPath": "/etc/tls"}]})
    volumes = {each["name"]: each for each in pod_template(made)["spec"]["volumes"]}
    mounts = {each["mountPath"]: each for each in container(made)["volumeMounts"]}
    assert volumes[mounts["/var/run/secrets/hivewire"]["name"]]["secret"]["secretName"] == "hivewire-shop-nats"
    assert volumes[mounts["/etc/tls"]["name"]]["secret"]["secretName"] == "tls"
    assert all(each.get("readOnly") for path, each in mounts.items() if path != "/tmp")
    assert "NATS_CREDS" not in environment(workload(login=None))


def test_of_the_secret_with_the_certificates_of_nats_only_those_are_mounted() -> None:
    made = workload(system={"nats": {"url": "tls://nats:4222", "caSecret": "hivewire-nats-tls"}})
    mounts = {each["name"]: each for each in container(made)["volumeMounts"]}
    volumes = {each["name"]: each for each in pod_template(made)["spec"]["volumes"]}
    assert volumes["ca"]["secret"] == {
        "secretName": "hivewire-nats-tls",
        "items": [{"key": "ca.crt", "path": "ca.crt"}],
    }
    assert environment(made)["NATS_CA"] == f"{mounts['ca']['mountPath']}/ca.crt"
    assert mounts["ca"]["readOnly"]
    assert "NATS_CA" not in environment(workload())


def test_replicas_are_never_written_and_labels_of_the_user_can_not_take_pods_away() -> None:
    asked_for = workload(pod={"labels": {"hivewire.dev/deployment": "other", "team": "a"}}, replicas=7)
    made = deployment(asked_for, pod_template(asked_for))
    assert "replicas" not in made["spec"]
    labels = made["spec"]["template"]["metadata"]["labels"]
    assert labels["team"] == "a"
    assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_all_that_is_made_belongs_to_the_object() -> None:
    for made in (make(workload(scaling={"maxReplicas": 2})) for make in MAKERS):
        assert made is not None
        [owner] = made["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("AgentDeployment", "u-1", True)
        assert made["metadata"]["namespace"] == "team"


def test_a_template_is_known_by_what_the_spec_says_and_scaling_is_no_part_of_it() -> None:
    def marked(made: Workload) -> str:
        text: str = deployment(made, pod_template(made))["spec"]["template"]["metadata"]["annotations"][
            "hivewire.dev/template"
        ]
        return text

    first = marked(workload())
    assert first == template_hash(pod_template(workload()))
    assert marked(workload(scaling={"maxReplicas": 9}, replicas=3)) == first
    assert marked(workload(image="other")) != first


def test_one_pod_alone_has_no_budget_that_would_keep_its_node_from_being_emptied() -> None:
    assert disruption_budget(workload(scaling={"maxReplicas": 1})) is None
    budget = disruption_budget(workload(scaling={"maxReplicas": 2}))
    assert budget is not None
    assert budget["spec"]["maxUnavailable"] == 1


def test_prometheus_finds_the_monitor_by_labels_that_take_the_place_of_none() -> None:
    labels = {"release": "prometheus", "hivewire.dev/deployment": "another"}
    made = pod_monitor(replace(workload(), monitor_labels=labels))
    assert made["metadata"]["labels"] == {**labels, **pod_monitor(workload())["metadata"]["labels"]}
    assert made["metadata"]["labels"]["hivewire.dev/deployment"] == "shop"


MAKERS = (
    lambda asked_for: deployment(asked_for, pod_template(asked_for)),
    lambda asked_for: good_revision(asked_for, pod_template(asked_for)),
    service_account,
    disruption_budget,
    pod_monitor,
)
