"""Reads what users wrote. The API server has checked it against the schema, which may have been an older one."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from hivewire_operator.cluster import Object

Spec = TypeVar("Spec", bound=BaseModel)


class MalformedError(ValueError):
    """The spec of an object can't be read; the message says where, and why."""


def parsed(model: type[Spec], found: Object) -> Spec:
    """Read the spec of an object.

    Raises:
        MalformedError: it is none.
    """
    try:
        return model.model_validate(found.get("spec") or {})
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise MalformedError(f"spec: {told}") from None
