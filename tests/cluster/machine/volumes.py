"""Volumes for claims: folders of the node, one claim each, for nothing makes volumes here.

The storage class is the default one, so that a claim is the same here as on a cluster with a provisioner. What a claim
stored stays when the claim goes, until the volume is wiped to be offered again.
"""

import shutil
from pathlib import Path
from typing import Any

from .layout import NODE, Layout

CLASS = "node-folders"
COUNT = 24


def make_folders(layout: Layout) -> None:
    for number in range(COUNT):
        (layout.volumes / str(number)).mkdir(parents=True)


def volume_objects(layout: Layout) -> list[dict[str, Any]]:
    """Return the storage class and the volumes."""
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    return [storage_class, *(_volume(layout, number) for number in range(COUNT))]


def is_given_up(layout: Layout, volume: dict[str, Any]) -> bool:
    """Tell whether it is one of these, and the claim that it was given to is gone."""
    path = volume["spec"].get("local", {}).get("path", "")
    return volume["status"]["phase"] == "Released" and Path(path).parent == layout.volumes


def wipe(volume: dict[str, Any]) -> None:
    folder = Path(volume["spec"]["local"]["path"])
    shutil.rmtree(folder)
    folder.mkdir()


def offered_again(volume: dict[str, Any]) -> dict[str, Any]:
    """Return the volume without the claim that it was given to."""
    spec = {key: value for key, value in volume["spec"].items() if key != "claimRef"}
    return volume | {"spec": spec}


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
