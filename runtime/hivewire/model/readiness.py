"""Whether a process should be sent work, for whoever asks from outside."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Readiness"]


@dataclass(frozen=True, slots=True)
class Readiness:
    """Truthy when ready; `reason` says why not, in one line."""

    is_ready: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.is_ready
