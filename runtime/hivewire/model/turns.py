"""In which order the messages of one agent are handled.

A turn is the handling of one message. An agent that takes one turn at a time would block itself when its handler calls
another agent that calls back: so a turn that a running turn caused is let in at once, as a function that is called
again from within itself would be. The chain of a turn says what caused it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

__all__ = ["TurnOrder"]


class TurnOrder:
    """Decide which turns of one agent may run. It starts nothing itself: callers run what it lets in.

    A serial order lets in one turn at a time, in order of arrival, and besides it every turn whose chain names a
    running one. So a turn never waits for one that waits for it within the same chain; two chains that call each
    other's agents can still block each other. An order that is not serial lets in everything at once.
    """

    __slots__ = ("_running", "_serial", "_waiting")

    def __init__(self, serial: bool) -> None:
        self._serial = serial
        self._running: dict[str, None] = {}
        self._waiting: OrderedDict[str, None] = OrderedDict()

    def __repr__(self) -> str:
        kind = "serial" if self._serial else "interleaved"
        return f"<TurnOrder {kind}, {len(self._running)} running, {len(self._waiting)} waiting>"

    @property
    def running(self) -> tuple[str, ...]:
        """The turns that were let in and have not finished, in the order in which they started."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The turns that are still to be let in, the next one first."""
        return tuple(self._waiting)

    @property
    def idle(self) -> bool:
        return not self._running and not self._waiting

    def arrive(self, turn_id: str, chain: Sequence[str] = ()) -> bool:
        """Take in a turn and return whether it may start now; if not, `finish` or `drop` says later when.

        `chain` holds the ids of the turns that caused this one; its own id among them does no harm.

        Raises:
            ValueError: a turn of that id is here already.
        """
        if turn_id in self._running or turn_id in self._waiting:
            raise ValueError(f"Turn {turn_id!r} has arrived already")
        if not self._serial or not self._running or any(caller in self._running for caller in chain):
            self._running[turn_id] = None
            return True
        self._waiting[turn_id] = None
        return False

    def finish(self, turn_id: str) -> list[str]:
        """Take out a running turn and return the turns that start now because of it.

        Raises:
            ValueError: no such turn runs.
        """
        if turn_id not in self._running:
            raise ValueError(f"Turn {turn_id!r} does not run")
        del self._running[turn_id]
        if self._running or not self._waiting:
            return []
        following, _ = self._waiting.popitem(last=False)
        self._running[following] = None
        return [following]

    def drop(self, turn_id: str) -> bool:
        """Take out a waiting turn that shall not run any more. Returns whether it waited."""
        if turn_id not in self._waiting:
            return False
        del self._waiting[turn_id]
        return True
