"""Volumes for claims: folders of the node, one claim each, for nothing makes volumes here.

The storage class is the default one, so that a claim is the same here as on a cluster with a provisioner.
"""

from typing import Any

from .layout import NODE, Layout

CLASS = "node-folders"
COUNT = 24


def make_folders(layout: Layout) -> None:
    for number in range(COUNT):
        (layout.volumes / str(number)).mkdir(parents=True)


def volume_objects(layout: Layout) -> dict[str, Any]:
    """Return the storage class and the volumes as one list for `kubectl apply`."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    volumes = [_volume(layout, number) for number in range(COUNT)]
    return {"apiVersion": "v1", "kind": "List", "items": [storage_class, *volumes]}


def _volume(layout: Layout, number: int) -> dict[str, Any]:
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"folder-{number}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": CLASS,
            "local": {"path": str(layout.volumes / str(number))},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }
