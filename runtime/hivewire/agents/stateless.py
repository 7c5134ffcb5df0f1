"""Marking agents whose messages any process may handle."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, overload

__all__ = ["is_stateless_worker", "stateless_worker"]

AgentClassT = TypeVar("AgentClassT", bound=type)

_ATTRIBUTE = "__hivewire_stateless__"


@overload
def stateless_worker(cls: None = None) -> Callable[[AgentClassT], AgentClassT]: ...


@overload
def stateless_worker(cls: AgentClassT) -> AgentClassT: ...


def stateless_worker(cls: AgentClassT | None = None) -> Callable[[AgentClassT], AgentClassT] | AgentClassT:
    """Class decorator, with or without parentheses: any process that serves the type may handle any of its messages.

    Messages of one key then meet in no particular process, and there may be several instances of one id. Within one
    process nothing changes.
    """
    return _mark if cls is None else _mark(cls)


def is_stateless_worker(cls: type) -> bool:
    """Whether the class, or a base class of it, carries the mark."""
    return bool(getattr(cls, _ATTRIBUTE, False))


def _mark(cls: AgentClassT) -> AgentClassT:
    setattr(cls, _ATTRIBUTE, True)
    return cls
