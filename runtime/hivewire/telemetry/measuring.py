"""Counts and measures what one runtime does.

A message costs microseconds here, so what stands for an agent type is looked up once and kept.
"""

from __future__ import annotations

from hivewire.telemetry import metrics


class TypeMetrics:
    """The instruments of one agent type in one system."""

    __slots__ = ("duration", "inflight")

    def __init__(self, system: str, agent_type: str) -> None:
        self.duration = metrics.MESSAGE_PROCESS_DURATION.labels(system, agent_type)
        self.inflight = metrics.INFLIGHT_MESSAGES.labels(system, agent_type)


class RuntimeMetrics:
    """The instruments of one runtime in a system, which is a Hivewire namespace."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._types: dict[str, TypeMetrics] = {}

    def of_type(self, agent_type: str) -> TypeMetrics:
        """Return those of an agent type, the same ones each time."""
        found = self._types.get(agent_type)
        if found is None:
            found = self._types[agent_type] = TypeMetrics(self._system, agent_type)
        return found
