"""The objects that scenarios give to the cluster. Their pods keep to the restricted pod security standard."""

from typing import Any

AGENTS_IMAGE = "localhost/hivewire-example:latest"
NATS_IMAGE = "localhost/hivewire-test-nats:latest"
HEALTH_PORT = 8080

Object = dict[str, Any]


def nats() -> list[Object]:
    """A NATS server whose data goes with its pod, and the service `nats`."""
    container = {
        "image": NATS_IMAGE,
        "args": ["--jetstream", "--store_dir=/data"],
        "readinessProbe": {"tcpSocket": {"port": 4222}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {"volumes": [{"name": "data", "emptyDir": {}}]}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "nats"},
        "spec": {"selector": {"app": "nats"}, "ports": [{"port": 4222}]},
    }
    return [deployment("nats", container, pod=pod), service]


def agents(*, replicas: int) -> Object:
    """The agents of `examples/image`."""
    environment = {
        "BROKER_URL": "nats://nats:4222",
        "HIVEWIRE_HEALTH_HOST": "0.0.0.0",
        "HIVEWIRE_HEALTH_PORT": str(HEALTH_PORT),
    }
    container = {
        "image": AGENTS_IMAGE,
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": HEALTH_PORT}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": HEALTH_PORT}},
    }
    return deployment("agents", container, replicas=replicas)


def deployment(name: str, container: Object, *, replicas: int = 1, pod: Object | None = None) -> Object:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod_spec(container, **(pod or {}))}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
    }


def pod_spec(container: Object, **more: Any) -> Object:
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    defaults = {"name": "main", "imagePullPolicy": "Never", "securityContext": restricted}
    return {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}, "fsGroup": 10001},
        "containers": [defaults | container],
        **more,
    }
