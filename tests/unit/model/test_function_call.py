import dataclasses
import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from hivewire.model.function_call import FunctionCall


def test_the_fields_come_in_the_documented_order() -> None:
    assert [field.name for field in dataclasses.fields(FunctionCall)] == ["id", "arguments", "name"]
    call = FunctionCall("1", "{}", "add")
    assert (call.id, call.arguments, call.name) == ("1", "{}", "add")


def test_json_text_is_kept_as_it_is() -> None:
    assert FunctionCall(id="1", arguments='{"a":  1}', name="add").arguments == '{"a":  1}'
    assert FunctionCall(id="1", arguments="not json", name="add").arguments == "not json"


def test_arguments_given_as_a_dictionary_are_stored_as_json_text() -> None:
    call = FunctionCall(id="call_123", name="calculator", arguments={"a": 1, "b": 2})
    assert json.loads(call.arguments) == {"a": 1, "b": 2}


def test_a_dictionary_that_json_has_no_form_for_is_refused() -> None:
    with pytest.raises(TypeError):
        FunctionCall(id="1", arguments={"a": object()}, name="add")


@pytest.mark.parametrize("arguments", [None, 1, b"{}"])
def test_arguments_of_another_kind_are_refused(arguments: Any) -> None:
    with pytest.raises(TypeError):
        FunctionCall(id="1", arguments=arguments, name="add")


def test_it_behaves_as_a_dataclass() -> None:
    call = FunctionCall("1", {"a": 1}, "add")
    assert call == FunctionCall("1", '{"a": 1}', "add")
    assert dataclasses.replace(call, name="sub") == FunctionCall("1", '{"a": 1}', "sub")
    assert FunctionCall(**dataclasses.asdict(call)) == call


def test_it_survives_its_way_through_json() -> None:
    adapter = TypeAdapter(list[FunctionCall])
    calls = [FunctionCall("1", {"a": [1, "x"]}, "add")]
    assert adapter.validate_json(adapter.dump_json(calls)) == calls
