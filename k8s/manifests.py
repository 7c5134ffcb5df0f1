"""What stands in the repository in two places: the chart's copies, and plain manifests, rendered from the chart.

`python -m k8s.manifests`, in the root of the repository, writes them. A chart can't reach files outside of its folder,
so it has copies of the definitions, rules and dashboards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path("charts/hivewire")
INSTALL = Path("k8s/install.yaml")
COPIES = {"k8s/crds": "crds", "k8s/monitoring/dashboards": "dashboards"}
RULES = Path("k8s/monitoring/rules.yaml")

NAMESPACE = "hivewire"
VALUES: dict[str, Any] = {
    "crds": {"enabled": False},
    # A token that stands in a file which everybody can read lets everybody in.
    "gateway": {"tokens": {"existingSecret": "hivewire-gateway-tokens"}},
    "test": {"enabled": False},
}
HEAD = """\
# Written by `make manifests` from charts/hivewire, for those who have no Helm. Change it there.
#
#     kubectl apply --server-side -f k8s/crds -f k8s/install.yaml
#     hivewire gateway token admin --add-to tokens > admin.token
#     kubectl -n hivewire create secret generic hivewire-gateway-tokens --from-file=tokens
"""
HELMS_OWN = "helm.sh/"


def files(root: Path = Path()) -> dict[Path, str]:
    """Return all of them with their texts, by their paths in the repository."""
    copies = {
        CHART / "files" / to / source.name: source.read_text()
        for folder, to in COPIES.items()
        for source in sorted((root / folder).iterdir())
    }
    return {**copies, CHART / "files/rules.yaml": (root / RULES).read_text(), INSTALL: install(root)}


def install(root: Path) -> str:
    """Return the manifests of an installation with the chart's default values."""
    with helm_python.Chart.load(root / CHART) as chart:
        rendered = chart.render(VALUES, name="hivewire", namespace=NAMESPACE)
    texts = [text for path, text in rendered.items() if path.endswith(".yaml")]
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each]
    # The keys of NATS are made first.
    objects.sort(key=lambda each: not _is_hook(each))
    return HEAD + yaml.safe_dump_all(
        [_namespace(), *map(_plain, objects)], sort_keys=False, explicit_start=True, width=120
    )


def _namespace() -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _is_hook(manifest: dict[str, Any]) -> bool:
    return "helm.sh/hook" in manifest["metadata"].get("annotations", {})


def _plain(manifest: dict[str, Any]) -> dict[str, Any]:
    """Take off what only Helm reads."""
    places = [manifest["metadata"]]
    if "template" in manifest.get("spec", {}):
        places.append(manifest["spec"]["template"]["metadata"])
    for metadata in places:
        metadata["labels"] = {
            key: value
            for key, value in metadata["labels"].items()
            if not key.startswith(HELMS_OWN) and key != "app.kubernetes.io/managed-by"
        }
        kept = {key: value for key, value in metadata.pop("annotations", {}).items() if not key.startswith(HELMS_OWN)}
        if kept:
            metadata["annotations"] = kept
    return manifest


def main() -> None:
    """Write them, and take away copies of what is no more."""
    written = files()
    for folder in COPIES.values():
        for old in (CHART / "files" / folder).glob("*"):
            if old not in written:
                old.unlink()
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
