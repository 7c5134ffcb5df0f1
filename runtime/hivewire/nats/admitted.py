"""A message that a shard has taken: its turn runs or waits here."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from hivewire.nats.event_turns import IncomingEvent
from hivewire.nats.parking import FAILING_KEY_WINDOW, KEY_WINDOW
from hivewire.nats.turn import Turn


@dataclass(slots=True, eq=False)
class Admitted:
    """An event or a call whose turn runs or waits here. `sequence` is None for a call."""

    key: str
    turn: Turn
    sequence: int | None = None
    event: IncomingEvent | None = None
    since: float = 0.0


class KeyWindows:
    """How many events of each key a shard has taken, and how many more it takes, decided without I/O."""

    def __init__(self) -> None:
        self._events: defaultdict[str, int] = defaultdict(int)
        self._failing: set[str] = set()

    def count(self, key: str) -> int:
        return self._events.get(key, 0)

    def room(self, key: str) -> int:
        """How many events more of a key are taken."""
        return self._window(key) - self.count(key)

    def wants(self, key: str) -> bool:
        """Whether it is worth while to fetch more events of a key."""
        return self.count(key) <= self._window(key) // 2

    def take(self, key: str) -> None:
        self._events[key] += 1

    def fails(self, key: str) -> None:
        """An event of the key waits for another attempt."""
        self._failing.add(key)

    def forget(self, key: str) -> None:
        """An event of the key is done with, or not here any more."""
        self._failing.discard(key)
        self._events[key] -= 1
        if not self._events[key]:
            del self._events[key]

    def _window(self, key: str) -> int:
        return FAILING_KEY_WINDOW if key in self._failing else KEY_WINDOW
