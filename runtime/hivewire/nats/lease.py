"""How long a session certainly holds, decided without I/O and without a clock.

The server keeps the entry of a session for `SESSION_TTL_S` from its last write. Whoever holds it does not see when a
write arrives there, only when it was sent; so it counts from before that, and stops to rely on it a little earlier
than the server. From then on the session is in doubt. A renewal that the server takes, as the next revision after the
last one, ends the doubt: the entry was there all the time, so nobody has seen the session end. While a bucket has no
leader, which takes seconds after one was killed, entries don't expire, and so no session ends of that.
"""

from __future__ import annotations

from typing import Final

SESSION_TTL_S: Final = 6
RENEW_EVERY_S: Final = 2.0
LOOP_STUCK_S: Final = 60.0
AGAIN_S: Final = 0.1
"""How soon a write that had no effect is tried again."""

_CERTAIN_S: Final = SESSION_TTL_S - 0.5


def is_stuck(now: float, *, loop_seen_at: float) -> bool:
    """Tell whether the event loop has stood still for so long that others should take over."""
    return now - loop_seen_at > LOOP_STUCK_S


class Lease:
    """The entry of one session: when it is to be written, and whether it certainly still holds.

    `sent` goes before each write, and then one of `acknowledged`, `unanswered` and `refused`. Guaranteed is that it is
    never valid for longer than the server keeps the entry, and that once lost it is never valid again. One whose first
    write found no answer for as long is lost too. `valid` may be
    asked from another thread.
    """

    def __init__(self, session: str) -> None:
        self.session = session
        self.revision = 0
        self.renew_at = 0.0
        self._valid_until: float | None = None
        # When the first write was sent of those whose fate is not known. A later one may find that it was stored.
        self._unsure_since: float | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"<Lease {self.session} until {self._valid_until}{' over' if self._over else ''}>"

    @property
    def was_valid(self) -> bool:
        return self._valid_until is not None

    def valid(self, now: float) -> bool:
        """Tell whether the session certainly still holds."""
        until = self._valid_until
        return not self._over and until is not None and now < until

    def lost(self, now: float) -> bool:
        """Tell whether another session has to follow; this one is over then."""
        unsure_since = self._unsure_since
        if not self.was_valid and unsure_since is not None and now >= unsure_since + _CERTAIN_S:
            self._over = True
        return self._over

    def sent(self, now: float) -> None:
        """The entry is about to be written."""
        if self._unsure_since is None:
            self._unsure_since = now

    def acknowledged(self, now: float, *, revision: int) -> None:
        """The entry is at this revision, by the last write or by one before it."""
        assert self._unsure_since is not None, "nothing was sent"
        since, self._unsure_since = self._unsure_since, None
        self.revision = revision
        self.renew_at = since + RENEW_EVERY_S
        if not self.lost(now):
            self._valid_until = since + _CERTAIN_S

    def unanswered(self, now: float) -> None:
        """Whether the entry was written is not known."""
        self.renew_at = now + AGAIN_S

    def refused(self) -> None:
        """The entry is gone, or somebody else's."""
        self._over = True

    def end(self) -> None:
        """The session is given up."""
        self._over = True
