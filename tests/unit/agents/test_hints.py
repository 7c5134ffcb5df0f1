import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NewType, Optional, TypedDict, TypeVar, Union

import pytest
from typing_extensions import TypeAliasType

from hivewire.agents.hints import chunk_hint, classes_of_hint, resolved_hints


@dataclass
class Ping:
    text: str


class Movie(TypedDict):
    title: str


UserId = NewType("UserId", int)
Number = TypeAliasType("Number", int | float)
BoundT = TypeVar("BoundT", bound=Ping)
ConstrainedT = TypeVar("ConstrainedT", int, str)
FreeT = TypeVar("FreeT")


@pytest.mark.parametrize(
    ("hint", "classes"),
    [
        (Ping, (Ping,)),
        (None, (type(None),)),
        (Ping | None, (Ping, type(None))),
        (Optional[Ping], (Ping, type(None))),  # noqa: UP045
        (Union[Ping, int, str], (Ping, int, str)),  # noqa: UP007
        (list[int], (list,)),
        (dict[str, Any], (dict,)),
        (list[int] | list[str], (list,)),
        (Literal["a", "b", 1], (str, int)),
        (Movie, (dict,)),
        (UserId, (int,)),
        (Number, (int, float)),
        (BoundT, (Ping,)),
        (ConstrainedT, (int, str)),
    ],
)
def test_a_hint_names_classes(hint: object, classes: tuple[type, ...]) -> None:
    found = classes_of_hint(hint)

    assert found is not None
    assert found.classes == classes
    assert not found.accepts_any


@pytest.mark.parametrize("hint", [Any, object, FreeT])
def test_any_names_no_class_and_accepts_all(hint: object) -> None:
    found = classes_of_hint(hint)

    assert found is not None
    assert found.accepts_any
    assert found.allows(Ping("x"))


def test_a_union_with_any_keeps_its_classes() -> None:
    found = classes_of_hint(Union[int, Any])  # noqa: UP007

    assert found is not None
    assert found.classes == (int,)
    assert found.accepts_any
    assert str(found) == "int | Any"


@pytest.mark.parametrize("hint", [3, "text", [int]])
def test_what_is_no_type_names_nothing(hint: object) -> None:
    assert classes_of_hint(hint) is None


def test_only_the_exact_class_is_allowed() -> None:
    class LoudPing(Ping):
        pass

    found = classes_of_hint(Ping)

    assert found is not None
    assert found.allows(Ping("x"))
    assert not found.allows(LoudPing("x"))


def test_instances_of_an_abstract_class_are_allowed() -> None:
    found = classes_of_hint(Sequence[int])

    assert found is not None
    assert found.allows([1])
    assert not found.allows({1})


def test_string_hints_may_name_classes_of_the_enclosing_function() -> None:
    @dataclass
    class Local:
        text: str

    async def handle(message: "Local") -> "Annotated[Local, 'described']":
        return message

    assert resolved_hints(handle) == {"message": Local, "return": Local}


def test_a_string_hint_that_names_nothing_is_an_error() -> None:
    async def handle(message: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
        pass

    with pytest.raises(NameError, match="Nowhere"):
        resolved_hints(handle)


@pytest.mark.parametrize(
    ("hint", "chunk"),
    [
        (AsyncIterator[Ping], Ping),
        (AsyncIterable[Ping | int], Ping | int),
        (AsyncGenerator[Ping, None], Ping),
        (typing.AsyncIterator[Ping], Ping),
        (AsyncIterator[None], type(None)),
        (AsyncIterator, Any),
        (typing.AsyncIterator, Any),
        (Ping, None),
        (None, None),
        (Sequence[Ping], None),
    ],
)
def test_the_hint_of_a_stream_names_its_chunks(hint: object, chunk: object) -> None:
    assert chunk_hint(hint) == chunk
