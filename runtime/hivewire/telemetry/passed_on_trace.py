"""The trace of others, as a process carries it on that may record nothing of it itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any

from hivewire.telemetry.tracing import MessageTracer

__all__ = ["PassingTracer", "passed_on_trace", "passing_on"]


def passed_on_trace() -> Mapping[str, str]:
    """Return the headers of the trace that is carried on here; without one there are none."""
    return _passed.get()


@contextmanager
def passing_on(headers: Mapping[str, str]) -> Iterator[None]:
    """Do, in the body of the `with` statement, what belongs to the trace that some headers name. They are passed on as
    they are, so they have to be well-formed."""
    token = _passed.set(headers)
    try:
        yield
    finally:
        _passed.reset(token)


class PassingTracer(MessageTracer):
    """Carries the trace of others on wherever it records nothing."""

    __slots__ = ()

    def refresh(self) -> bool:
        super().refresh()
        self.enabled = True
        return True

    def attach(self, headers: Mapping[str, str]) -> Token[Any]:
        return super().attach(headers) if self.records else _passed.set(headers)

    def detach(self, token: Token[Any]) -> None:
        if self.records:
            super().detach(token)
        else:
            _passed.reset(token)

    def inject(self) -> dict[str, str]:
        return super().inject() if self.records else dict(_passed.get())


_NO_TRACE: Mapping[str, str] = MappingProxyType({})
_passed: ContextVar[Mapping[str, str]] = ContextVar("hivewire_passed_on_trace", default=_NO_TRACE)
