"""Holds custom resources against their definitions, as the API server would without CEL."""

from __future__ import annotations

from typing import Any

import jsonschema
import yaml

from chart.conftest import ROOT, Manifest

_DEFINITIONS = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "k8s" / "crds").iterdir())]
_SCHEMAS = {
    each["spec"]["names"]["kind"]: each["spec"]["versions"][0]["schema"]["openAPIV3Schema"] for each in _DEFINITIONS
}


def is_custom(manifest: Manifest) -> bool:
    return str(manifest["apiVersion"]).startswith("hivewire.dev/")


def check_custom(manifest: Manifest) -> None:
    """Raises:
    ValidationError: it is not what the definition says, or has a field that would be dropped.
    """
    assert manifest["apiVersion"] == "hivewire.dev/v1alpha1"
    jsonschema.validate({"spec": manifest["spec"]}, _strict(_SCHEMAS[manifest["kind"]]))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict):
        strict["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        strict["type"] = ["integer", "string"]
    return strict
