"""The schema of a pydantic model as Kubernetes takes it: a structural schema.

What the API server refuses, or drops without a word, is written otherwise: references are put in place, a field that
may be None is one that may be left out, bounds and constants have the form of OpenAPI 3.0. The rules are those of
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED = frozenset({"$defs", "examples", "deprecated", "discriminator", "title", "writeOnly", "readOnly"})
_UNKNOWN = frozenset({"patternProperties", "propertyNames", "prefixItems", "oneOf", "allOf", "not"})
_EXCLUSIVE = {"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"}


class SchemaError(ValueError):
    """A model has something that a structural schema can't say."""


def structural_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a model, by the aliases of its fields.

    Raises:
        SchemaError: it refers to itself, or has a field of several or of no type.
    """
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(schema, schema.get("$defs", {}), at=model.__name__, within=())


def _structural(schema: Mapping[str, Any], defs: Mapping[str, Any], *, at: str, within: tuple[str, ...]) -> Schema:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in within:
            raise SchemaError(f"{at} refers to {name} within itself")
        found = _structural(defs[name], defs, at=at, within=(*within, name))
        # What stands beside a reference says more of this one use.
        return {**found, **_structural_rest(schema, defs, at=at, within=within)}
    if "anyOf" in schema:
        return _without_none(schema, defs, at=at, within=within)
    result = _structural_rest(schema, defs, at=at, within=within)
    if "type" not in result and "x-kubernetes-int-or-string" not in result:
        raise SchemaError(f"{at} has no single type")
    return result


def _without_none(schema: Mapping[str, Any], defs: Mapping[str, Any], *, at: str, within: tuple[str, ...]) -> Schema:
    some = [each for each in schema["anyOf"] if each.get("type") != "null"]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    if sorted(each.get("type", "") for each in some) == ["integer", "string"]:
        return {"x-kubernetes-int-or-string": True, **_structural_rest(rest, defs, at=at, within=within)}
    if len(some) != 1:
        raise SchemaError(f"{at} may be of several types")
    return {
        **_structural(some[0], defs, at=at, within=within),
        **_structural_rest(rest, defs, at=at, within=within),
    }


def _structural_rest(schema: Mapping[str, Any], defs: Mapping[str, Any], *, at: str, within: tuple[str, ...]) -> Schema:
    result: Schema = {}
    for key, value in schema.items():
        if key in _DROPPED or key == "$ref":
            continue
        if key in _UNKNOWN:
            raise SchemaError(f"{at} has {key}, which Kubernetes does not take")
        if key == "properties":
            result[key] = {
                name: _structural(each, defs, at=f"{at}.{name}", within=within) for name, each in value.items()
            }
        elif key == "items":
            result[key] = _structural(value, defs, at=f"{at}[]", within=within)
        elif key == "additionalProperties":
            if value is False or "properties" in schema:
                continue
            if value is True:
                if not schema.get("x-kubernetes-preserve-unknown-fields"):
                    raise SchemaError(f"{at} has values of no type")
                continue
            result[key] = _structural(value, defs, at=f"{at}{{}}", within=within)
        elif key == "const":
            result["enum"] = [value]
        elif key in _EXCLUSIVE:
            result[_EXCLUSIVE[key]] = value
            result[key] = True
        elif key == "uniqueItems":
            result["x-kubernetes-list-type"] = "set"
        elif key == "default":
            result[key] = _without_nulls(value)
        else:
            result[key] = value
    return result


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
