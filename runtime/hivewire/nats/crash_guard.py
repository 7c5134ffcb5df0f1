"""Which event killed a process: found without I/O, from what the shard's position tells of earlier owners.

An owner that dies leaves no word of what it did last. After one death the next owner writes down which events it starts
before it starts them, until all that the dead one may have started is behind it. After a second death meanwhile, those
are suspects: they are tried one by one, each written down before, with nothing else running. An event that is tried
three times and kills each time is given up. So it takes five deaths at the most, and an event that runs while its
process dies of something else is only tried again.
"""

from __future__ import annotations

from typing import Final, Literal

from hivewire.nats.positions import Position, Suspect

BATCH: Final = 32
"""How many events a shard has started and not finished, at the most, after its owner died."""

MAX_ATTEMPTS: Final = 3

Treatment = Literal["free", "recorded", "alone", "doomed"]


class CrashGuard:
    """Says how each event of one owned shard is to be started.

    ``free``: at once. ``recorded``: after the position with `record` as its `started` is written. ``alone``: after a
    position with `attempt` as its suspect is written, and with nothing else running. ``doomed``: not at all; it goes
    to the dead letters.

    Args:
        position: The record as it was claimed.
        end: The last sequence of the stream when it was claimed: no earlier owner has started anything beyond.
    """

    def __init__(self, position: Position, *, end: int) -> None:
        self._started = position.started
        self._suspect = position.suspect
        self._attempted: Suspect | None = None
        self._unclean = position.unclean
        self._careful = position.unclean > 0
        self._last_suspect = self._started if position.unclean >= 2 else None
        self._end = max(end, self._started or 0, self._suspect.sequence if self._suspect else 0)

    @property
    def careful(self) -> bool:
        """Whether events are started in small numbers, each written down before."""
        return self._careful

    @property
    def unclean(self) -> int:
        """How many owners died since the last one that had no need to be careful, for the record."""
        return self._unclean if self._careful else 0

    @property
    def suspect(self) -> Suspect | None:
        """The event that is being tried, or that killed the last owner, for the record."""
        return self._attempted or self._suspect

    @property
    def suspect_before(self) -> Suspect | None:
        """The same without the attempt that is under way, for an owner that gives the shard up alive."""
        return self._suspect

    @property
    def started(self) -> int | None:
        """The last event that may have been started, for the record; None when any may."""
        return self._started if self._careful else None

    def treatment(self, sequence: int) -> Treatment:
        suspect = self._suspect
        if suspect is not None and sequence == suspect.sequence:
            return "doomed" if suspect.attempts >= MAX_ATTEMPTS else "alone"
        if self._last_suspect is not None and sequence <= self._last_suspect:
            return "alone"
        return "recorded" if self._careful else "free"

    def attempt(self, sequence: int) -> None:
        """An event is about to be tried alone: write the position, then start it."""
        suspect = self._suspect
        attempts = suspect.attempts if suspect is not None and suspect.sequence == sequence else 0
        self._attempted = Suspect(sequence, attempts + 1)

    def record(self, sequence: int) -> None:
        """Events up to this one are about to be started: write the position, then start them."""
        self._started = max(self._started or 0, sequence)

    def survived(self, sequence: int) -> None:
        """An event that was tried alone is finished."""
        if self._attempted is not None and self._attempted.sequence == sequence:
            self._attempted = None
        if self._suspect is not None and self._suspect.sequence == sequence:
            self._suspect = None

    def buried(self, sequence: int) -> None:
        """The event that killed is given up; the others are not suspected any more."""
        self.survived(sequence)
        self.relieved()

    def relieved(self) -> None:
        """What killed the processes is found, here or in another shard: nothing else is suspected for now."""
        self._last_suspect = None

    def moved(self, through: int) -> None:
        """By the position that is written now, nothing up to here is needed any more. Once all that an earlier owner
        may have started is behind it, all is well."""
        if self._careful and self._attempted is None and through >= self._end:
            self._careful = False
            self._suspect = None
            self._last_suspect = None
