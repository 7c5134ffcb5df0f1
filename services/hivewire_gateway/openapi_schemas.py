"""JSON schemas of messages as components of an OpenAPI document.

Each schema that comes from the registry brings its own definitions. Here all of them get names in one table, so that no
two that differ share one, and equal ones of an agent type are there once. A schema that can't stand in the document,
because it refers to what is not in it, becomes one that allows anything and says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from hivewire.relay import MessageForm

Schema = dict[str, Any]

_LOCAL = "#/$defs/"
_COMPONENTS = "#/components/schemas/"
_OPAQUE = ("const", "default", "enum", "examples", "example")
_UNFIT_CHARS = re.compile(r"[^A-Za-z0-9._-]")


class UnfitSchemaError(ValueError):
    """A schema refers to something that it does not bring along."""


class SchemaTable:
    """The schemas of a document, by their names there."""

    def __init__(self) -> None:
        self._schemas: dict[str, Schema] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def as_components(self) -> dict[str, Schema]:
        return dict(sorted(self._schemas.items()))

    def add(self, name: str, schema: Schema) -> Schema:
        """Take in a schema of the gateway itself and return a reference to it."""
        self._schemas[name] = schema
        self._taken.add(name)
        return {"$ref": _COMPONENTS + name}

    def reference(self, agent_type: str, form: MessageForm) -> Schema:
        """Return a schema for messages of a form, most often a reference to one in the table."""
        if form.schema is None:
            return _anything(form, form.note)
        try:
            return self._reference(agent_type, form.name, form.schema)
        except (UnfitSchemaError, RecursionError) as error:
            return _anything(form, f"Its JSON schema can't be shown: {error}.")

    def _reference(self, agent_type: str, name: str, schema: Mapping[str, Any]) -> Schema:
        if set(schema) == {"type"}:
            return dict(schema)
        definitions = schema.get("$defs", {})
        if not isinstance(definitions, dict):
            raise UnfitSchemaError("its definitions are no object")
        # What a definition is depends on all that it refers to, so the whole tells them apart.
        whole = json.dumps(definitions, sort_keys=True)
        names = {each: self._name_of(agent_type, each, definitions[each], whole) for each in definitions}
        rewritten = {names[each]: _rewritten(definition, names) for each, definition in definitions.items()}
        own = _rewritten({key: value for key, value in schema.items() if key != "$defs"}, names)
        self._schemas |= rewritten
        if set(own) == {"$ref"}:
            return dict(own)
        own_name = self._name_of(agent_type, name, own, whole)
        self._schemas[own_name] = own
        return {"$ref": _COMPONENTS + own_name}

    def _name_of(self, agent_type: str, name: str, schema: object, whole: str) -> str:
        """Return the name of a schema: the same for the same one of an agent type, and otherwise one of its own."""
        wanted = _UNFIT_CHARS.sub("_", f"{agent_type}.{name}")
        key = (f"{agent_type}\n{name}", json.dumps(schema, sort_keys=True) + whole)
        known = self._names.get(key)
        if known is None:
            number = 1
            known = wanted
            while known in self._taken:
                number += 1
                known = f"{wanted}-{number}"
            self._taken.add(known)
            self._names[key] = known
        return known


def _rewritten(node: Any, names: Mapping[str, str]) -> Any:
    """Return a schema whose references lead to the components.

    Raises:
        UnfitSchemaError: one leads elsewhere.
    """
    if isinstance(node, list):
        return [_rewritten(part, names) for part in node]
    if not isinstance(node, dict):
        return node
    rewritten: Schema = {}
    for key, value in node.items():
        if key == "$ref" and isinstance(value, str):
            rewritten[key] = _target(value, names)
        elif key in ("$id", "$schema", "$anchor", "$dynamicAnchor", "$dynamicRef"):
            # They would change what the references of the document mean.
            continue
        elif key in ("properties", "patternProperties", "dependentSchemas") and isinstance(value, dict):
            rewritten[key] = {name: _rewritten(part, names) for name, part in value.items()}
        elif key == "discriminator" and isinstance(value, dict):
            mapping = value.get("mapping", {})
            mapped = {tag: _target(target, names) for tag, target in mapping.items()}
            rewritten[key] = {**value, "mapping": mapped} if mapped else value
        elif key in _OPAQUE:
            rewritten[key] = value
        else:
            rewritten[key] = _rewritten(value, names)
    return rewritten


def _target(reference: object, names: Mapping[str, str]) -> str:
    name = reference.removeprefix(_LOCAL) if isinstance(reference, str) else ""
    if not isinstance(reference, str) or not reference.startswith(_LOCAL) or name not in names:
        raise UnfitSchemaError(f"it refers to {reference!r}")
    return _COMPONENTS + names[name]


def _anything(form: MessageForm, note: str) -> Schema:
    return {"description": f"{form.name}. {note}".strip()}
