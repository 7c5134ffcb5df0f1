"""Pydantic models as Kubernetes takes them."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from hivewire_operator.resources.structural import SchemaError, structural_schema


class Inner(BaseModel):
    """What is inside."""

    name: str = Field(max_length=10, description="Its name.")


def fields(model: type[BaseModel]) -> dict[str, Any]:
    schema = structural_schema(model)
    properties = schema["properties"]
    assert isinstance(properties, dict)
    return properties


def test_what_is_referred_to_stands_in_its_place() -> None:
    class Outer(BaseModel):
        one: Inner = Field(description="The one.")
        more: list[Inner] = Field(default=[], max_length=3)

    name = {"type": "string", "maxLength": 10, "description": "Its name."}
    inner = {"type": "object", "description": "What is inside.", "properties": {"name": name}, "required": ["name"]}
    assert structural_schema(Outer) == {
        "type": "object",
        "properties": {
            "one": {**inner, "description": "The one."},
            "more": {"type": "array", "items": inner, "default": [], "maxItems": 3},
        },
        "required": ["one"],
    }


def test_what_may_be_none_may_be_left_out() -> None:
    class Model(BaseModel):
        text: str | None = Field(default=None, description="A text.")
        inner: Inner | None = None

    assert fields(Model)["text"] == {"type": "string", "description": "A text."}
    assert fields(Model)["inner"]["type"] == "object"
    assert "default" not in fields(Model)["inner"]
    assert "required" not in structural_schema(Model)


def test_constants_bounds_and_sets_have_the_form_of_openapi() -> None:
    class Model(BaseModel):
        kind: Literal["only"]
        mode: Literal["a", "b"] = "a"
        share: Annotated[float, Field(gt=0, le=1)] = 0.5
        names: set[str] = set()
        labels: dict[str, str] = {}

    assert fields(Model) == {
        "kind": {"type": "string", "enum": ["only"]},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1, "default": 0.5},
        "names": {"type": "array", "items": {"type": "string"}, "default": [], "x-kubernetes-list-type": "set"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}, "default": {}},
    }


def test_a_number_or_a_text_is_what_kubernetes_calls_int_or_string() -> None:
    class Model(BaseModel):
        amount: int | str = Field(default=1, description="How much.")

    assert fields(Model)["amount"] == {"x-kubernetes-int-or-string": True, "default": 1, "description": "How much."}


def test_unknown_fields_are_left_to_kubernetes_and_defaults_have_no_nulls() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(extra="forbid")
        inside: dict[str, str | None] = Field(default={"a": None, "b": "c"})

    assert "additionalProperties" not in structural_schema(Model)
    assert fields(Model)["inside"]["default"] == {"b": "c"}


def test_what_it_can_not_say_names_the_field() -> None:
    class Node(BaseModel):
        next: "Node | None" = None

    class Anything(BaseModel):
        value: Any

    class Either(BaseModel):
        value: Inner | str

    for model, where in [(Node, "refers to Node"), (Anything, "Anything.value"), (Either, "Either.value")]:
        with pytest.raises(SchemaError, match=where):
            structural_schema(model)


def test_a_part_that_is_kept_as_it_is_has_no_schema_of_its_values() -> None:
    class Model(BaseModel):
        kept: dict[str, Any] = Field(default={}, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})

    assert fields(Model)["kept"] == {"type": "object", "default": {}, "x-kubernetes-preserve-unknown-fields": True}
