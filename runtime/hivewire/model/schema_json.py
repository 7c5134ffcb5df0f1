"""JSON for dataclasses and pydantic models by a schema of pydantic, read off the type hints.

A value that does not fit its hint (a tuple where the hint says list) is sent only if the receiver will be able to read
it; so such an error reaches the sender, and not somebody far away.
"""

from __future__ import annotations

from typing import Any, Generic, Optional, TypeVar

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, PydanticUndefinedAnnotation, TypeAdapter
from pydantic_core import CoreConfig, PydanticSerializationError, SchemaSerializer, SchemaValidator

from hivewire.exceptions import SerializationError
from hivewire.model.dataclass_schema import message_schema

__all__ = ["SchemaJson", "json_of_dataclass", "json_of_model"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound=BaseModel)


class SchemaJson(Generic[T]):
    """Encodes and decodes the instances of one class."""

    def __init__(self, serializer: SchemaSerializer, validator: Any) -> None:
        self._to_json = serializer.to_json
        self._from_json = validator.validate_json

    def encode(self, message: T) -> bytes:
        try:
            payload = self._to_json(message, warnings="error")
            # pydantic lets None pass for any hint.
            is_certain = b"null" not in payload
        except PydanticSerializationError:
            payload = self._to_json(message, warnings="none")
            is_certain = False
        if not is_certain:
            self.decode(payload)
        return payload

    def decode(self, payload: bytes) -> T:
        # Fields are written by their names, aliases or not.
        message: Any = self._from_json(payload, by_alias=True, by_name=True)
        if message is None:
            raise SerializationError("the payload holds null")
        return message  # type: ignore[no-any-return]


def json_of_dataclass(cls: type[T]) -> SchemaJson[T]:
    """Make the JSON of a dataclass: bytes become base64, NaN and the infinities JavaScript's constants.

    Raises:
        SerializationError: a field's type hint cannot be resolved, or no JSON is known for it.
    """
    # pydantic takes settings for a dataclass of the standard library only from a type around it.
    hint: Any = Optional[cls]  # noqa: UP045  # not every class has `|`
    try:
        adapter: TypeAdapter[T | None] = TypeAdapter(hint, config=DATACLASS_SETTINGS)
        adapter.rebuild()  # says what a hint that is not resolved yet lacks
    except (PydanticUndefinedAnnotation, PydanticSchemaGenerationError) as error:
        raise _no_schema(error) from error
    schema = message_schema(adapter.core_schema, _CORE_SETTINGS)
    return SchemaJson(SchemaSerializer(schema, _CORE_SETTINGS), SchemaValidator(schema, _CORE_SETTINGS))


def json_of_model(cls: type[ModelT]) -> SchemaJson[ModelT]:
    """Make the JSON of a pydantic model, with the settings of the model.

    Raises:
        SerializationError: a field's type hint cannot be resolved, or no JSON is known for it.
    """
    try:
        cls.model_rebuild()
    except (PydanticUndefinedAnnotation, PydanticSchemaGenerationError) as error:
        raise _no_schema(error) from error
    return SchemaJson(cls.__pydantic_serializer__, cls.__pydantic_validator__)


DATACLASS_SETTINGS = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")
_CORE_SETTINGS = CoreConfig(ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants")


def _no_schema(error: PydanticUndefinedAnnotation | PydanticSchemaGenerationError) -> SerializationError:
    if isinstance(error, PydanticUndefinedAnnotation):
        return SerializationError(f"the type hint {error.name!r} cannot be resolved: define that class at module level")
    return SerializationError(str(error).partition("\n")[0])
