"""Unions in dataclasses whose members JSON alone cannot tell apart.

`Started | Stopped` with the same fields, or `datetime | str`, would come back as whichever fits first. Such a value is
written as `{"$type": <member>, "$value": <value>}`, but only when its plain form would not be read back equal, so what
other implementations write and read stays plain wherever that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, cast

from pydantic_core import CoreSchema, SchemaValidator, core_schema, to_json

__all__ = ["TaggedUnion", "is_ambiguous"]

Node = dict[str, Any]


def is_ambiguous(members: list[Node]) -> bool:
    """Whether two members of a union may look alike in JSON."""
    kinds = [_KINDS.get(member["type"]) for member in members]
    return None in kinds or len(set(kinds)) < len(kinds)


class TaggedUnion:
    """One union: the schema that replaces it, and the choice between plain and tagged.

    `resolved` follows a reference to the schema it stands for, `validator` makes one for a part of the whole schema.
    """

    def __init__(
        self, union: Node, *, resolved: Callable[[Node], Node], validator: Callable[[Node], SchemaValidator]
    ) -> None:
        self._union = union
        self._resolved = resolved
        self._make_validator = validator
        self._members = dict(self._labelled())
        self.schema = self._tagged_schema()

    def _tagged_schema(self) -> Node:
        plain = cast(CoreSchema, self._union)
        schema = core_schema.tagged_union_schema(
            {**{label: _envelope(label, member) for label, member in self._members.items()}, _PLAIN: plain},
            discriminator=self._tag,
            serialization=core_schema.wrap_serializer_function_ser_schema(self._serialized, schema=plain),
        )
        return cast(Node, schema)

    def _labelled(self) -> Iterator[tuple[str, Node]]:
        seen: dict[str, int] = {}
        for choice in self._union["choices"]:
            member: Node = choice[0] if isinstance(choice, tuple) else choice
            resolved = self._resolved(member)
            label = str(getattr(resolved.get("cls"), "__name__", resolved["type"]))
            seen[label] = seen.get(label, 0) + 1
            yield label if seen[label] == 1 else f"{label}#{seen[label]}", member

    def _tag(self, content: Any) -> str:
        if isinstance(content, dict) and content.keys() == {_TYPE, _VALUE}:
            tag = content[_TYPE]
            if isinstance(tag, str) and tag in self._members:
                return tag
        return _PLAIN

    def _serialized(self, value: Any, plain: core_schema.SerializerFunctionWrapHandler) -> Any:
        content = plain(value)
        if self._reads_back(content, value):
            return content
        label = self._label_of(value)
        return content if label is None else {_TYPE: label, _VALUE: content}

    def _reads_back(self, content: Any, value: Any) -> bool:
        payload = to_json(content, inf_nan_mode="constants")
        try:
            back = self._validator.validate_json(payload, by_alias=True, by_name=True)
            return type(back) is type(value) and bool(back == value)
        except Exception:  # neither a failed validation nor an odd `__eq__` is equality
            return False

    def _label_of(self, value: Any) -> str | None:
        for label, member in self._members.items():
            if self._resolved(member).get("cls") is type(value):
                return label
        for label, validator in self._member_validators.items():
            if validator.isinstance_python(value, strict=True):
                return label
        return None

    @cached_property
    def _validator(self) -> SchemaValidator:
        return self._make_validator(self.schema)

    @cached_property
    def _member_validators(self) -> Mapping[str, SchemaValidator]:
        return {label: self._make_validator(member) for label, member in self._members.items()}


_TYPE, _VALUE = "$type", "$value"
_PLAIN = "$plain"
# How a member shows in JSON. Members of different kinds are told apart without help.
_KINDS = {
    "none": "null",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "str": "string",
    "list": "array",
    "dict": "object",
    "typed-dict": "object",
    "dataclass": "object",
    "model": "object",
}


def _envelope(label: str, member: Node) -> CoreSchema:
    fields = {
        _TYPE: core_schema.typed_dict_field(core_schema.literal_schema([label]), required=True),
        _VALUE: core_schema.typed_dict_field(cast(CoreSchema, member), required=True),
    }
    return core_schema.no_info_after_validator_function(
        lambda content: content[_VALUE], core_schema.typed_dict_schema(fields)
    )
