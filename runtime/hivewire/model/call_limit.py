"""When a call ends at the latest, and what cancels it: its own timeout and token, and those of the turn around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import TurnContext

__all__ = ["GRACE_S", "CallLimit", "limit_of"]

GRACE_S: Final = 5.0
"""How long a handler may go on after its message was cancelled: then it is cancelled itself, and after as long again it
is left behind."""


# Not frozen, as that would make it three times as slow to build.
@dataclass(slots=True, kw_only=True)
class CallLimit:
    """A call ends after so many `seconds`, or when one of the tokens is cancelled. `inherited`: the time is what the
    turn that makes the call has left."""

    seconds: float
    tokens: tuple[CancellationToken, ...] = ()
    inherited: bool = False

    def __str__(self) -> str:
        if self.inherited:
            return f"the {max(self.seconds, 0):.3g} s that were left of the message that it was sent for"
        return f"its timeout of {self.seconds:g} s"


def limit_of(timeout_s: float, token: CancellationToken | None, turn: TurnContext | None, now: float) -> CallLimit:
    """Return the limit of a call with this timeout and token that a turn makes, or nobody does, at `now` on the
    monotonic clock.

    A call that is made after its turn was cancelled is there to clean up: it is not cancelled, but has little time.
    """
    tokens = () if token is None else (token,)
    if turn is None or turn.ended:
        return CallLimit(seconds=timeout_s, tokens=tokens)
    left = turn.deadline - now
    if turn.token is not None:
        if turn.token.is_cancelled:
            left = GRACE_S
        elif turn.token is not token:
            tokens = (*tokens, turn.token)
    return CallLimit(seconds=min(timeout_s, left), tokens=tokens, inherited=left < timeout_s)
