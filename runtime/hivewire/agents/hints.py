"""Which classes a type hint of a handler stands for.

Messages are told apart by their exact class, so a hint is reduced to classes once, when the handler is defined: a union
to its members, `list[int]` to `list`, a literal to the classes of its values.
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NewType, TypeVar, Union, get_args, get_origin, get_type_hints

import typing_extensions

__all__ = ["HintedClasses", "chunk_hint", "classes_of_hint", "resolved_hints"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HintedClasses:
    """The classes of a hint. `accepts_any` is true when `Any` is, or is among, what the hint names."""

    classes: tuple[type, ...]
    accepts_any: bool

    def allows(self, value: object) -> bool:
        """Whether the value's exact class is hinted, or it is an instance of a hinted abstract class."""
        return (
            self.accepts_any
            or type(value) in self.classes
            or any(isinstance(value, cls) for cls in self.classes if _is_abstract(cls))
        )

    def __str__(self) -> str:
        names = [cls.__name__ for cls in self.classes]
        return " | ".join([*names, "Any"] if self.accepts_any else names)


def classes_of_hint(hint: object) -> HintedClasses | None:
    """Reduce a resolved hint to classes, or return None for one that names none."""
    members = list(_members(hint))
    if None in members or not members:
        return None
    # `Any` is a class itself from Python 3.11 on.
    classes = [member for member in members if isinstance(member, type) and member is not Any]
    return HintedClasses(classes=tuple(dict.fromkeys(classes)), accepts_any=Any in members)


def chunk_hint(hint: object) -> object | None:
    """Return what the chunks of a stream are hinted with, or None if the hint is not that of a stream."""
    if get_origin(hint) not in _STREAMS and hint not in _STREAMS:
        return None
    # Without brackets it says nothing of its chunks.
    chunk: object = (*get_args(hint), Any)[0]
    return types.NoneType if chunk is None else chunk


def resolved_hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the type hints of a function; names in string hints may come from the functions that enclose it.

    Raises:
        NameError: a hint names nothing that is known where the function is defined.
    """
    try:
        return get_type_hints(function)
    except NameError:
        return get_type_hints(function, localns=_enclosing_names(function))


_STREAMS = (AsyncIterator, AsyncIterable, AsyncGenerator)


def _members(hint: object) -> Iterator[object]:
    """Yield the classes, `Any`, and None for each part that is neither."""
    origin = get_origin(hint)
    if hint is Any or hint is object:
        yield Any
    elif hint is None:
        yield types.NoneType
    elif origin is Union or origin is types.UnionType:
        for member in get_args(hint):
            yield from _members(member)
    elif origin in (Literal, typing_extensions.Literal):
        yield from (type(value) for value in get_args(hint))
    elif typing.is_typeddict(hint) or typing_extensions.is_typeddict(hint):
        yield dict
    elif isinstance(hint, NewType):
        yield from _members(hint.__supertype__)
    elif isinstance(hint, TypeVar):
        for member in hint.__constraints__ or (hint.__bound__ or Any,):
            yield from _members(member)
    elif isinstance(hint, typing_extensions.TypeAliasType):
        yield from _members(hint.__value__)
    elif origin is not None:
        yield from _members(origin)
    else:
        yield hint if isinstance(hint, type) else None


def _is_abstract(cls: type) -> bool:
    return bool(getattr(cls, "__abstractmethods__", ())) and not typing_extensions.is_protocol(cls)


def _enclosing_names(function: Callable[..., Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    frame: types.FrameType | None = sys._getframe(1)
    scopes = []
    while frame is not None:
        if frame.f_globals is getattr(function, "__globals__", None):
            scopes.append(frame.f_locals)
        frame = frame.f_back
    for scope in reversed(scopes):
        names.update(scope)
    return names
