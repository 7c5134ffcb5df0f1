"""pydantic's schema of a dataclass, made fit for messages: what goes in comes out.

Three rules of pydantic would lose something on the way, and are changed: a union takes the first member that fits, a
field that is not a parameter of the constructor is not read, and `name: str = None` does not accept its own default.
"""

from __future__ import annotations

from typing import Any, cast

from pydantic_core import CoreConfig, CoreSchema, SchemaValidator, core_schema

from hivewire.model.union_tags import TaggedUnion, is_ambiguous

__all__ = ["message_schema"]

Node = dict[str, Any]


def message_schema(schema: CoreSchema, config: CoreConfig) -> CoreSchema:
    """Return the schema with the rules for messages."""
    return cast(CoreSchema, _Rewriter(config).rewritten(schema))


# What these keys hold belongs to the author of the class and is no schema.
_OPAQUE = frozenset({"cls", "config", "default", "expected", "metadata", "serialization"})


class _Rewriter:
    """Rewrites one schema from the inside out, and knows the parts of it that are referred to by name."""

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._definitions: dict[str, Node] = {}

    def rewritten(self, node: Any) -> Any:
        if isinstance(node, list | tuple):
            return type(node)(self.rewritten(part) for part in node)
        if not isinstance(node, dict) or _brings_its_own_codec(node):
            return node
        if node.get("type") == "definitions":
            return self._rewritten_definitions(node)
        node = {key: part if key in _OPAQUE else self.rewritten(part) for key, part in node.items()}
        match node.get("type"):
            case "union" if is_ambiguous([self._resolved(choice) for choice in node["choices"]]):
                return TaggedUnion(node, resolved=self._resolved, validator=self._validator).schema
            case "dataclass-field" if node.get("init") is False:
                return {**node, "init": True}
            case "default" if "default" in node and node["default"] is None:
                return {**node, "schema": core_schema.nullable_schema(node["schema"])}
        return node

    def _rewritten_definitions(self, node: Node) -> Node:
        # Known before they are rewritten, as they refer to each other.
        self._definitions = {definition["ref"]: definition for definition in node["definitions"]}
        for ref, definition in self._definitions.items():
            self._definitions[ref] = self.rewritten(definition)
        schema = self.rewritten(node["schema"])
        return {**node, "schema": schema, "definitions": list(self._definitions.values())}

    def _resolved(self, choice: Any) -> Node:
        node: Node = choice[0] if isinstance(choice, tuple) else choice
        while node["type"] == "definition-ref":
            node = self._definitions[node["schema_ref"]]
        return node

    def _validator(self, node: Node) -> SchemaValidator:
        definitions = cast(list[CoreSchema], list(self._definitions.values()))
        return SchemaValidator(core_schema.definitions_schema(cast(CoreSchema, node), definitions), self._config)


def _brings_its_own_codec(node: Node) -> bool:
    """Whether the class writes itself the same way elsewhere, with which this schema has to agree."""
    if node.get("type") == "model":
        return True
    return node.get("type") == "dataclass" and "__pydantic_validator__" in vars(node["cls"])
