"""How many direct messages may wait in a process, and whose, decided without I/O.

A message counts from its receipt until it has a slot, so those that arrive in one burst count too. One agent, or one
agent type, can't fill the room: the others are sure of a share.
"""

from __future__ import annotations

from collections import Counter

from hivewire.model.ids import AgentId

_PART_OF_ONE_AGENT = 4
"""One agent's may be one in so many of those that may wait."""

_SHARES = 4
"""The part of the room that is set aside for sure shares of the types: one in so many."""


class WaitingRoom:
    """Counts the messages that wait, by their ids: `enter`, then `leave`."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._waiting: dict[str, AgentId] = {}
        self._of_agent: Counter[AgentId] = Counter()
        self._of_type: Counter[str] = Counter()
        self._types: set[str] = set()
        self._share = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def serve(self, agent_type: str) -> None:
        """Set a share aside for a type."""
        self._types.add(agent_type)
        # With one type there is nobody to keep a share for.
        self._share = 0 if len(self._types) < 2 else max(1, self._size // (_SHARES * len(self._types)))

    def has_place(self, agent_id: AgentId, *, free_slots: int, usable_slots: int) -> bool:
        """Tell whether one more message for an agent may come in, when so many would not have to wait, and so many of
        the agent's."""
        left = self._size + free_slots - len(self._waiting)
        if left <= 0 or self._of_agent[agent_id] >= max(1, self._size // _PART_OF_ONE_AGENT) + usable_slots:
            return False
        own = agent_id.type
        if not self._share or self._of_type[own] < self._share:
            return True
        kept = sum(max(0, self._share - self._of_type[other]) for other in self._types if other != own)
        return left > kept

    def enter(self, message_id: str, agent_id: AgentId) -> None:
        """Take in a message."""
        if message_id not in self._waiting:
            self._waiting[message_id] = agent_id
            self._of_agent[agent_id] += 1
            self._of_type[agent_id.type] += 1

    def leave(self, message_id: str) -> None:
        """Let a message out, if it is here."""
        agent_id = self._waiting.pop(message_id, None)
        if agent_id is not None:
            self._of_type[agent_id.type] -= 1
            self._of_agent[agent_id] -= 1
            if not self._of_agent[agent_id]:
                del self._of_agent[agent_id]
