"""The names and labels of what the operator makes in Kubernetes."""

from __future__ import annotations

from typing import Any, Final

from hivewire_operator.resources.fields import GROUP, VERSION

FIELD_MANAGER: Final = "hivewire-operator"
DEPLOYMENT_LABEL: Final = f"{GROUP}/deployment"
TEMPLATE_ANNOTATION: Final = f"{GROUP}/template"
METRICS_PORT: Final = 9090
METRICS_PORT_NAME: Final = "metrics"
CREDENTIALS_FOLDER: Final = "/var/run/secrets/hivewire"
CA_FOLDER: Final = "/var/run/secrets/hivewire-ca"
CA_KEY: Final = "ca.crt"
CREDENTIALS_KEY: Final = "nats.creds"


def credentials_secret(deployment: str) -> str:
    """Name the Secret with the login of a deployment's pods."""
    return f"hivewire-{deployment}-nats"


def labels_of(deployment: str) -> dict[str, str]:
    """Return the labels of all that belongs to a deployment."""
    return {
        "app.kubernetes.io/name": "agents",
        "app.kubernetes.io/instance": deployment,
        "app.kubernetes.io/part-of": "hivewire",
        "app.kubernetes.io/managed-by": FIELD_MANAGER,
        DEPLOYMENT_LABEL: deployment,
    }


def selector_of(deployment: str) -> dict[str, str]:
    """Return the labels by which its pods are found. They can never change."""
    return {DEPLOYMENT_LABEL: deployment}


def owner_of(kind: str, name: str, uid: str) -> dict[str, Any]:
    """Return the reference to an owner, with which what it owns is deleted."""
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": kind,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
