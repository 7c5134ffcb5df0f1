"""How many turns run at once in a process, and whose turn is next, decided without I/O.

Every agent type that the process serves is sure of a small share of the slots, so one that fills all it can get does
not keep the others waiting; what is beyond the shares goes round among the types that wait.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from typing import Final

DEFAULT_MAX_TURNS: Final = 1_000

_SHARES = 4
"""The part of the slots that is set aside for sure shares: one in so many."""


class TurnSlots:
    """Counts the turns that run, by type, and keeps those that wait in order within their type.

    `take` a slot or be put in line; `give` it back and learn who has one now.
    """

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a process can't run {slots} turns at once: at least one")
        self._free = slots
        self._slots = slots
        self._running: defaultdict[str, int] = defaultdict(int)
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()
        self._types: set[str] = set()
        self._share = 0
        self.waiting = 0

    @property
    def running(self) -> int:
        return self._slots - self._free

    @property
    def free(self) -> int:
        return self._free

    def serve(self, agent_type: str) -> None:
        """Set a share aside for a type."""
        self._types.add(agent_type)
        # With one type there is nobody to keep a share for.
        self._share = 0 if len(self._types) < 2 else self._slots // (_SHARES * len(self._types))

    def waiting_of(self, agent_type: str) -> int:
        line = self._lines.get(agent_type)
        return len(line) if line is not None else 0

    def take(self, agent_type: str, turn_id: str, *, first: bool = False) -> bool:
        """Ask for a slot. False: the turn stands in line, with `first` at its head."""
        line = self._lines.get(agent_type)
        if not line and self._may_take(agent_type):
            self._free -= 1
            self._running[agent_type] += 1
            return True
        if line is None:
            line = self._lines[agent_type] = deque()
        if first:
            line.appendleft(turn_id)
        else:
            line.append(turn_id)
        self.waiting += 1
        return False

    def give(self, agent_type: str) -> list[str]:
        """Give a slot back and return the turns that have one now."""
        self._free += 1
        self._running[agent_type] -= 1
        return self._hand_out()

    def leave(self, agent_type: str, turn_id: str) -> bool:
        """Leave the line. False: the turn does not stand in it."""
        line = self._lines.get(agent_type)
        if line is None or turn_id not in line:
            return False
        line.remove(turn_id)
        self.waiting -= 1
        if not line:
            del self._lines[agent_type]
        return True

    def _hand_out(self) -> list[str]:
        started: list[str] = []
        # One slot was given back, but a share that became smaller may have set others free.
        while self._free and (agent_type := next(filter(self._may_take, self._lines), None)) is not None:
            line = self._lines[agent_type]
            started.append(line.popleft())
            self.waiting -= 1
            self._free -= 1
            self._running[agent_type] += 1
            if line:
                self._lines.move_to_end(agent_type)
            else:
                del self._lines[agent_type]
        return started

    def _may_take(self, agent_type: str) -> bool:
        if self._free <= 0:
            return False
        if not self._share or (agent_type in self._types and self._running[agent_type] < self._share):
            return True
        kept = sum(max(0, self._share - self._running[other]) for other in self._types if other != agent_type)
        return self._free > kept
