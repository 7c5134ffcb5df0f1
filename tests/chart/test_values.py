"""What may be set is written down, and nothing else may be."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from chart.conftest import CHART, Render, helm_python

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

BAD = {
    "a name that does not exist": ({"gatewy": {}}, "gatewy"),
    "the same deeper": ({"gateway": {"service": {"prot": 80}}}, "prot"),
    "two servers": ({"nats": {"nodes": 2}}, "nodes"),
    "no replicas": ({"operator": {"replicas": 0}}, "replicas"),
    "a text for a number": ({"gateway": {"replicas": "2"}}, "replicas"),
    "a mode that does not exist": ({"nats": {"mode": "internal"}}, "mode"),
    "a login in an address": ({"nats": {"external": {"url": "nats://me:secret@nats:4222"}}}, "url"),
    "an image by latest and digest": ({"image": {"digest": "latest"}}, "digest"),
    "a level that does not exist": ({"logLevel": "loud"}, "logLevel"),
    "external NATS that is nowhere": ({"nats": {"mode": "external"}}, "nats.external.url is needed"),
    "keys without a name": (
        {"nats": {"mode": "external", "external": {"url": "nats://a:4222", "bootstrap": True}}},
        "nats.external.login is needed",
    ),
    "all namespaces and some": (
        {"operator": {"clusterWide": True, "watchNamespaces": ["shop"]}},
        "either operator.clusterWide or operator.watchNamespaces",
    ),
    "an ingress for nobody": ({"gateway": {"ingress": {"enabled": True}}}, "gateway.ingress.hosts is needed"),
}


@pytest.mark.parametrize(("values", "says"), BAD.values(), ids=BAD)
def test_bad_values_are_refused_and_named(values: dict[str, Any], says: str, render: Render) -> None:
    with pytest.raises(helm_python.HelmError) as error:
        render(values)
    assert says in str(error.value)


def test_a_long_name_of_a_release_is_refused(chart: Any) -> None:
    with pytest.raises(helm_python.HelmError, match="longer than 40"):
        chart.render({}, name="h" * 41, namespace="agents")


def test_the_schema_has_every_value_and_no_other() -> None:
    assert set(paths(VALUES, SCHEMA)) == set(schema_paths(SCHEMA)) - {("global",)}


def test_every_value_is_described_in_a_sentence() -> None:
    bare = [path for path, part in schema_parts(SCHEMA) if not part.get("description", "").endswith((".", "commas."))]
    assert bare == []


def test_levels_of_our_own_take_nothing_unknown() -> None:
    open_ones = [path for path, part in schema_parts(SCHEMA) if part.get("additionalProperties", False) is not False]
    assert all("properties" not in part for path, part in schema_parts(SCHEMA) if path in open_ones)
    assert all("additionalProperties" in part for _, part in schema_parts(SCHEMA) if "properties" in part)


def paths(values: Any, schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Walk values as deep as the schema knows names."""
    if path:
        yield path
    if "properties" in schema:
        for name, value in values.items():
            yield from paths(value, schema["properties"].get(name, {}), (*path, name))


def schema_parts(
    schema: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from schema_parts(part, (*path, name))


def schema_paths(schema: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    return (path for path, _ in schema_parts(schema) if path)
