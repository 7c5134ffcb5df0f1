"""The order in which one agent's messages are handled, decided without I/O.

An agent that takes one turn at a time takes them in the order of arrival, with two exceptions. A message that its own
running turn caused is let in at once, as a function that is called from within itself would be. And an event whose turn
failed keeps its place before all later events while it waits for its next attempt; direct messages, which have no order
with events, go on meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence


class Mailbox:
    """Says which turns of one agent may run. It starts nothing itself: callers run what it lets in.

    Events form a lane: at any time one of them is current, running or waiting for its next attempt, and the others
    wait behind it. With `serial`, direct messages take turns with the events; otherwise they start at once.
    """

    __slots__ = ("_calls", "_current", "_events", "_numbers", "_resting", "_running", "_serial")

    def __init__(self, *, serial: bool) -> None:
        self._serial = serial
        self._running: dict[str, None] = {}
        self._events: OrderedDict[str, int] = OrderedDict()
        self._calls: OrderedDict[str, int] = OrderedDict()
        self._numbers = 0
        self._current: str | None = None
        self._resting = False

    def __repr__(self) -> str:
        return f"<Mailbox {len(self._running)} running, {self.waiting} waiting, current event {self._current}>"

    @property
    def idle(self) -> bool:
        return not self._running and not self._events and not self._calls and self._current is None

    @property
    def waiting(self) -> int:
        return len(self._events) + len(self._calls)

    def is_inner(self, chain: Sequence[str]) -> bool:
        """Tell whether a turn with this chain was caused by one that runs here."""
        return bool(chain) and any(caller in self._running for caller in chain)

    def arrive(self, turn_id: str, *, is_event: bool, chain: Sequence[str] = ()) -> bool:
        """Take in a turn and return whether it may start now; if not, a later call says when.

        Raises:
            ValueError: a turn of that id is here already.
        """
        if turn_id in self._running or turn_id in self._events or turn_id in self._calls or turn_id == self._current:
            raise ValueError(f"Turn {turn_id!r} has arrived already")
        if not is_event and (not self._serial or self.is_inner(chain)):
            self._running[turn_id] = None
            return True
        self._numbers += 1
        (self._events if is_event else self._calls)[turn_id] = self._numbers
        return turn_id in self._start()

    def finish(self, turn_id: str) -> list[str]:
        """Take out a running turn and return the turns that start now because of it.

        Raises:
            ValueError: no such turn runs.
        """
        if turn_id not in self._running:
            raise ValueError(f"Turn {turn_id!r} does not run")
        del self._running[turn_id]
        if turn_id == self._current:
            self._current = None
        return self._start()

    def rest(self, turn_id: str) -> list[str]:
        """Let the running event aside until `resume`; return the direct messages that start meanwhile.

        Raises:
            ValueError: it is not the event that runs.
        """
        if turn_id != self._current or self._resting:
            raise ValueError(f"Turn {turn_id!r} is not the event that runs")
        del self._running[turn_id]
        self._resting = True
        return self._start()

    def resume(self, turn_id: str) -> list[str]:
        """Let the resting event run again as soon as its agent is free; return the turns that start now.

        Raises:
            ValueError: it does not rest.
        """
        if turn_id != self._current or not self._resting:
            raise ValueError(f"Turn {turn_id!r} does not rest")
        self._resting = False
        self._current = None
        self._events[turn_id] = 0
        self._events.move_to_end(turn_id, last=False)
        return self._start()

    def drop(self, turn_id: str) -> list[str] | None:
        """Take out a turn that waits or rests; return the turns that start now, None if it did neither."""
        if self._events.pop(turn_id, None) is not None or self._calls.pop(turn_id, None) is not None:
            return self._start()
        if turn_id == self._current and self._resting:
            self._current = None
            self._resting = False
            return self._start()
        return None

    def _start(self) -> list[str]:
        started = []
        event = next(iter(self._events), None) if self._current is None else None
        if self._serial:
            if self._running:
                return []
            call = next(iter(self._calls), None)
            if event is None or (call is not None and self._calls[call] < self._events[event]):
                event = None
                if call is not None:
                    del self._calls[call]
                    started.append(call)
        if event is not None:
            del self._events[event]
            self._current = event
            self._resting = False
            started.append(event)
        self._running.update(dict.fromkeys(started))
        return started
