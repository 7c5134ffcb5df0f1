"""What an AgentDeployment becomes in Kubernetes. Without I/O: manifests for a server-side apply.

The number of replicas is never among them: it is written through the scale subresource, so that whoever scales, the
operator itself or somebody else, is the only one who does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hivewire_operator.names import (
    CA_FOLDER,
    CA_KEY,
    CREDENTIALS_FOLDER,
    CREDENTIALS_KEY,
    METRICS_PORT,
    METRICS_PORT_NAME,
    TEMPLATE_ANNOTATION,
    labels_of,
    owner_of,
    selector_of,
)
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec
from hivewire_operator.resources.agent_system import AgentSystemSpec
from hivewire_operator.resources.pods import PodTemplate, Variable

Manifest = dict[str, Any]

_DRAIN_MARGIN_S = 5
_GROUP = 10001
_TEMPORARY = "/tmp"  # an empty folder of the pod's own, as its root is read-only


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """An AgentDeployment as it is asked for, with what it gets from elsewhere.

    Attributes:
        image: For pods of which neither it nor the AgentSystem names one.
        login: Name of the Secret with the pods' login at NATS; None where nobody logs in.
        monitor_labels: More labels of its PodMonitor.
    """

    name: str
    namespace: str
    uid: str
    spec: AgentDeploymentSpec
    system: AgentSystemSpec
    image: str
    login: str | None = None
    monitor_labels: Mapping[str, str] = field(default_factory=dict)


def deployment(workload: Workload, template: Manifest) -> Manifest:
    """Return the Deployment with a template, which need not be the one that is asked for now."""
    metadata = template["metadata"]
    marked = {**metadata.get("annotations", {}), TEMPLATE_ANNOTATION: template_hash(template)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(workload),
        "spec": {
            "selector": {"matchLabels": selector_of(workload.name)},
            # A shard moves twice less when the new pod is there before the old one goes.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "progressDeadlineSeconds": workload.spec.rollout.progress_deadline_seconds,
            "revisionHistoryLimit": 3,
            "template": {**template, "metadata": {**metadata, "annotations": marked}},
        },
    }


def good_revision(workload: Workload, template: Manifest) -> Manifest:
    """Return what remembers a template whose pods became ready. What it holds can't be changed, only deleted."""
    metadata = _metadata(workload)
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": {**metadata, "name": f"{workload.name}-{template_hash(template)}"},
        "revision": 1,
        "data": {"template": template},
    }


def pod_template(workload: Workload) -> Manifest:
    """Return the template of its pods."""
    spec, pod = workload.spec, workload.spec.pod
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": _TEMPORARY}]
    if workload.login is not None:
        volumes.append({"name": "login", "secret": {"secretName": workload.login, "defaultMode": 0o440}})
        mounts.append({"name": "login", "mountPath": CREDENTIALS_FOLDER, "readOnly": True})
    if (ca_secret := workload.system.nats.ca_secret) is not None:
        # Of that Secret, which may hold a private key as well, this alone.
        items = [{"key": CA_KEY, "path": CA_KEY}]
        volumes.append({"name": "ca", "secret": {"secretName": ca_secret, "items": items}})
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
    for number, each in enumerate(pod.secrets):
        volumes.append({"name": f"secret-{number}", "secret": {"secretName": each.secret_name}})
        mounts.append({"name": f"secret-{number}", "mountPath": each.mount_path, "readOnly": True})
    container = {
        "name": "agents",
        "image": spec.image or workload.system.defaults.image or workload.image,
        "imagePullPolicy": pod.image_pull_policy,
        "args": ["run", spec.module, "--drain-timeout", str(_drain_timeout_s(pod))],
        "env": _environment(workload),
        "ports": [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT}],
        "resources": _given({"requests": dict(pod.resources.requests), "limits": dict(pod.resources.limits)}),
        "volumeMounts": mounts,
        **_probes(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    placed = _given(
        {
            "nodeSelector": dict(pod.node_selector),
            "tolerations": [each.model_dump(by_alias=True, exclude_none=True) for each in pod.tolerations],
            "affinity": dict(pod.affinity),
            "imagePullSecrets": [{"name": each.name} for each in pod.image_pull_secrets],
            "priorityClassName": pod.priority_class_name,
        }
    )
    return {
        "metadata": _given(
            {
                # The user's own can't take the place of those that the pods are found by.
                "labels": {**pod.labels, **labels_of(workload.name)},
                "annotations": dict(pod.annotations),
            }
        ),
        "spec": {
            "serviceAccountName": workload.name,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": pod.termination_grace_period_seconds,
            "securityContext": {
                "runAsNonRoot": True,
                # Whoever the image's user is, this group is one of his, and may read the login.
                "fsGroup": _GROUP,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": selector_of(workload.name)},
                }
            ],
            "containers": [container],
            "volumes": volumes,
            **placed,
        },
    }


def template_hash(template: Mapping[str, Any]) -> str:
    """Name a template by its contents, which follow from the spec alone: the same spec is never rolled out twice."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def service_account(workload: Workload) -> Manifest:
    """Return the ServiceAccount of its pods, which may do nothing."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(workload),
        "automountServiceAccountToken": False,
    }


def disruption_budget(workload: Workload) -> Manifest | None:
    """Return what lets one pod be evicted at a time; None where there is never more than one, which must not block the
    emptying of a node."""
    if workload.spec.scaling.max_replicas < 2:
        return None
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(workload),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector_of(workload.name)}},
    }


def pod_monitor(workload: Workload) -> Manifest:
    """Return what lets the Prometheus operator scrape its pods."""
    metadata = _metadata(workload)
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {**metadata, "labels": {**workload.monitor_labels, **metadata["labels"]}},
        "spec": {
            "selector": {"matchLabels": selector_of(workload.name)},
            "podMetricsEndpoints": [{"port": METRICS_PORT_NAME}],
        },
    }


def _metadata(workload: Workload) -> Manifest:
    return {
        "name": workload.name,
        "namespace": workload.namespace,
        "labels": labels_of(workload.name),
        "ownerReferences": [owner_of("AgentDeployment", workload.name, workload.uid)],
    }


def _environment(workload: Workload) -> list[Manifest]:
    defaults = workload.system.defaults
    own = {
        "BROKER_URL": workload.system.nats.url,
        "HIVEWIRE_NAMESPACE": workload.namespace,
        "HIVEWIRE_DEPLOYMENT": workload.name,
        "HIVEWIRE_HEALTH_HOST": "0.0.0.0",
        "HIVEWIRE_HEALTH_PORT": str(METRICS_PORT),
        "HIVEWIRE_LOG_LEVEL": defaults.log_level,
        "HIVEWIRE_PROVISION": "off",
    }
    if workload.login is not None:
        own["NATS_CREDS"] = f"{CREDENTIALS_FOLDER}/{CREDENTIALS_KEY}"
    if workload.system.nats.ca_secret is not None:
        own["NATS_CA"] = f"{CA_FOLDER}/{CA_KEY}"
    if defaults.otlp_endpoint is not None:
        own["OTEL_EXPORTER_OTLP_ENDPOINT"] = defaults.otlp_endpoint
    users = [_variable(each) for each in workload.spec.pod.env]
    named = {each["name"] for each in users}
    return [
        *({"name": name, "value": value} for name, value in own.items() if name not in named),
        {"name": "INSTANCE_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *users,
    ]


def _variable(variable: Variable) -> Manifest:
    return variable.model_dump(by_alias=True, exclude_none=True)


def _drain_timeout_s(pod: PodTemplate) -> int:
    return pod.termination_grace_period_seconds - min(_DRAIN_MARGIN_S, pod.termination_grace_period_seconds // 2)


def _probes() -> Manifest:
    def probe(path: str, **numbers: int) -> Manifest:
        return {"httpGet": {"path": path, "port": METRICS_PORT_NAME}, "timeoutSeconds": 5, **numbers}

    return {
        "startupProbe": probe("/healthz", periodSeconds=1, failureThreshold=120),
        "livenessProbe": probe("/healthz", periodSeconds=10, failureThreshold=3),
        "readinessProbe": probe("/readyz", periodSeconds=2, failureThreshold=3),
    }


def _given(fields: Mapping[str, Any]) -> Manifest:
    """Leave out what is empty: what nobody asked for is nobody's field."""
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}
