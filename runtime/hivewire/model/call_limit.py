"""When a call ends at the latest, and what cancels it: its own timeout and token, and those of the turn around it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hivewire.model import grace
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import TurnContext

__all__ = ["CallLimit", "check_timeout", "limit_of"]


def check_timeout(timeout: float | None) -> None:
    """Refuse what is not a number of seconds. None is for the default.

    Raises:
        ValueError: it is none, or not a finite one.
    """
    if timeout is not None and not (isinstance(timeout, int | float) and math.isfinite(timeout)):
        raise ValueError(f"timeout={timeout!r} is not a number of seconds: leave it out for the runtime's default")


# Not frozen, as that would make it three times as slow to build.
@dataclass(slots=True, kw_only=True)
class CallLimit:
    """A call ends after so many `seconds`, when its token is cancelled, and with the turn that made it, if there is
    one. `inherited`: the seconds are what that turn has left."""

    seconds: float
    token: CancellationToken | None = None
    turn: TurnContext | None = None
    inherited: bool = False

    @property
    def is_cancelled(self) -> bool:
        return (self.token is not None and bool(self.token.is_cancelled)) or (
            self.turn is not None and bool(self.turn.token.is_cancelled)
        )

    def pass_by(self) -> None:
        """Take note that the time has passed. If it has for the whole turn, what it has open ends too."""
        if self.inherited and self.turn is not None:
            self.turn.token.cancel()
            self.turn.token._noticed = True

    def __str__(self) -> str:
        if self.inherited:
            return f"the {max(self.seconds, 0):.3g} s that were left of the turn that it is part of"
        return f"its timeout of {self.seconds:g} s"


def limit_of(timeout_s: float, token: CancellationToken | None, turn: TurnContext | None, now: float) -> CallLimit:
    """Return the limit of a call with this timeout and token that a turn makes, or nobody does, at `now` on the
    monotonic clock.

    After the turn was cancelled, its next call ends at once. What it calls when it can know, by this call or by its
    token, is there to clean up: it has what is left of the grace time.
    """
    if turn is None or turn.ended:
        return CallLimit(seconds=timeout_s, token=token)
    if not turn.token._noticed:
        left = turn.deadline - now
        # It may be passed on, but ends the call as part of the turn.
        token = None if token is turn.token else token
        return CallLimit(seconds=min(timeout_s, left), token=token, turn=turn, inherited=left < timeout_s)
    if turn.ends_at == math.inf:
        turn.ends_at = now + grace.GRACE_S
    left = turn.ends_at - now
    return CallLimit(seconds=min(timeout_s, left), token=token, inherited=left < timeout_s)
