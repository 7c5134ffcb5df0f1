"""JSON schemas of message classes, as the built-in serializers read and write them."""

from __future__ import annotations

import dataclasses
import types
from typing import Any, Literal, Optional

from pydantic import BaseModel, TypeAdapter

from hivewire.model.schema_json import DATACLASS_SETTINGS

__all__ = ["json_schema_of"]

_VALUES: dict[type, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    dict: {"type": "object"},
    list: {"type": "array"},
    types.NoneType: {"type": "null"},
}


def json_schema_of(cls: type, *, mode: Literal["validation", "serialization"]) -> dict[str, Any] | None:
    """Return the JSON schema of what is accepted as a message of a class, or of what such a message is written as.
    None: the class is none that is written as JSON.

    Raises:
        Exception: whatever pydantic finds wrong with the class.
    """
    if cls in _VALUES:
        return dict(_VALUES[cls])
    if issubclass(cls, BaseModel):
        return cls.model_json_schema(by_alias=False, mode=mode)
    if not dataclasses.is_dataclass(cls):
        return None
    # The type around it is what takes the settings.
    hint: Any = Optional[cls]  # noqa: UP045
    schema = TypeAdapter(hint, config=DATACLASS_SETTINGS).json_schema(by_alias=False, mode=mode)
    (own,) = [member for member in schema.pop("anyOf") if member != {"type": "null"}]
    return {**own, **schema}
