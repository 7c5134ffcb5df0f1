"""Which agents have been in memory unused for too long, or are too many, decided without I/O."""

from __future__ import annotations

import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from hivewire.model.ids import AgentId

DEFAULT_IDLE_S: Final = 600.0
DEFAULT_MAX_AGENTS: Final = 10_000


class Residency:
    """Notes when agents are used.

    Args:
        idle_s: Seconds without a turn after which an agent is due.
        max_agents: Above this number, those that were used least lately are due.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        idle_s: float = DEFAULT_IDLE_S,
        max_agents: int = DEFAULT_MAX_AGENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle_s = idle_s
        self._max_agents = max_agents
        self._clock = clock
        self._busy: defaultdict[AgentId, int] = defaultdict(int)
        self._unused_since: OrderedDict[AgentId, float] = OrderedDict()

    def begin(self, agent_id: AgentId) -> None:
        self._busy[agent_id] += 1
        self._unused_since.pop(agent_id, None)

    def end(self, agent_id: AgentId) -> None:
        self._busy[agent_id] -= 1
        if not self._busy[agent_id]:
            del self._busy[agent_id]
            self._unused_since[agent_id] = self._clock()

    def is_used(self, agent_id: AgentId) -> bool:
        """Tell whether an agent is used at this moment."""
        return agent_id in self._busy

    def due(self) -> Iterator[AgentId]:
        """Yield the agents to take out of memory, and forget each.

        Each is due at the moment in which it is asked for: one that is used while those before it go is not.
        """
        before = self._clock() - self._idle_s
        while self._unused_since:
            agent_id, since = next(iter(self._unused_since.items()))
            if since > before and len(self._unused_since) + len(self._busy) <= self._max_agents:
                break
            del self._unused_since[agent_id]
            yield agent_id
