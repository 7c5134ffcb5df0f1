"""The chunks of a kept stream, as they are stored, in the order of their numbers, and where to begin to read them.

A producer stores several chunks at once and stores one again whose acknowledgement does not come. So a chunk may come
twice, or after later ones: number n comes before any number from n + `AT_ONCE` on, because that many are never on
their way at once, and the end comes after all chunks. What breaks that rule is missing, and is never passed over. The
error that ends a stream takes the number of the first chunk that could not be stored, if that is why.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from hivewire.nats.envelope import ReplyEnvelope

AT_ONCE: Final = 32
"""How many chunks of one stream may be on their way to the broker. Part of the protocol."""

_NEAR: Final = 64


class ChunkOrder:
    """What a reader gets, in order and each chunk once, from the chunk on that follows number `after`. `highest` is the
    number of the last chunk that came."""

    def __init__(self, after: int) -> None:
        self._after = after
        self._next = after + 1
        self._ready: deque[ReplyEnvelope] = deque()
        self._early: dict[int, ReplyEnvelope] = {}
        self._ended = False
        self.highest = 0

    def __len__(self) -> int:
        """How many wait to be taken, or for others that come before them."""
        return len(self._ready) + len(self._early)

    @property
    def is_ready(self) -> bool:
        """Whether there is one to take."""
        return bool(self._ready)

    @property
    def missing(self) -> int | None:
        """The number that others wait for."""
        return self._next if self._early else None

    @property
    def is_broken(self) -> bool:
        """Whether what is missing won't come."""
        return bool(self._early) and (self._ended or self.highest >= self._next + AT_ONCE)

    @property
    def is_beyond(self) -> bool:
        """Whether the stream ended before there was a chunk to begin after."""
        return self._ended and self.highest < self._after

    def arrive(self, record: ReplyEnvelope) -> None:
        """Take in a stored message."""
        number = record.number or 0
        if self._ended:
            return
        self._ended = record.status in ("end", "error")
        self.highest = max(self.highest, number - 1 if self._ended else number)
        if record.status == "error" and number < self._next and not self.is_beyond:
            # A chunk that was given up had been stored after all.
            number = self._next
        if number < self._next or (number in self._early and not self._ended):
            return
        self._early[number] = record
        while self._next in self._early:
            record = self._early.pop(self._next)
            self._ready.append(record)
            self._next += 1
            if record.status != "value":
                self._early.clear()

    def take(self) -> ReplyEnvelope | None:
        """Return the next one, if it is there."""
        return self._ready.popleft() if self._ready else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a message of a kept stream is stored, and its number in the stream."""

    sequence: int
    number: int


class ChunkSearch:
    """Looks for a place from which a reader sees all chunks after number `after`, and not many others.

    Ask the broker for the first message at or after `question`, and tell it, until there is none; then `start` is it.
    """

    def __init__(self, *, after: int, first: Place, last: Place) -> None:
        # What is stored before number n is of numbers below n + AT_ONCE.
        self._target = after + 1 - AT_ONCE
        self._low = first
        self._high = last.sequence
        self._found = first.number > self._target
        if last.number <= self._target:
            self._low, self._found = last, True

    @property
    def start(self) -> int:
        """A sequence to begin at: the best that is known by now."""
        return self._low.sequence

    @property
    def question(self) -> int | None:
        """The sequence to look at next. None: it is found."""
        if self._found or self._high - self._low.sequence <= 1 or self._low.number > self._target - _NEAR:
            return None
        return (self._low.sequence + self._high) // 2

    def answer(self, place: Place) -> None:
        """Take note of the first message at or after `question`."""
        question = self.question
        assert question is not None
        if place.number <= self._target and place.sequence < self._high:
            self._low = place
        else:
            self._high = question
