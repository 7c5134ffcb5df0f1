"""What the one process exports that watches the whole system, and takes back when another one does.

Prometheus' client can't remove a series where several processes share a directory; there it becomes 0, so queries take
the maximum over processes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge

from hivewire.telemetry import metrics

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemReading:
    """The values of the gauges: by agent type, and the sessions by deployment and state."""

    lag_messages: Mapping[str, int] = field(default_factory=dict)
    oldest_event_s: Mapping[str, float] = field(default_factory=dict)
    shards_without_owner: Mapping[str, int] = field(default_factory=dict)
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    sessions: Mapping[tuple[str, str], int] = field(default_factory=dict)


class SystemMetrics:
    """The series of one system: none until `show`, and none after `withdraw`."""

    def __init__(self, system: str) -> None:
        self._system = system
        self._shown: set[tuple[Gauge | Counter, Labels]] = set()

    def show(self, reading: SystemReading) -> None:
        """Export exactly these values."""
        values: dict[tuple[Gauge, Labels], float] = {}
        for gauge, by_type in (
            (metrics.SHARD_LAG_MESSAGES, reading.lag_messages),
            (metrics.SHARD_OLDEST_EVENT, reading.oldest_event_s),
            (metrics.SHARDS_WITHOUT_OWNER, reading.shards_without_owner),
            (metrics.DEAD_LETTERS, reading.dead_letters),
        ):
            values |= {(gauge, (self._system, agent_type)): value for agent_type, value in by_type.items()}
        values |= {
            (metrics.SESSIONS, (self._system, *deployment_and_state)): number
            for deployment_and_state, number in reading.sessions.items()
        }
        for (gauge, labels), value in values.items():
            gauge.labels(*labels).set(value)
        # From here on it is there, so that its first increase is seen.
        metrics.LAG_READ_ERRORS.labels(self._system)
        shown: set[tuple[Gauge | Counter, Labels]] = {*values, (metrics.LAG_READ_ERRORS, (self._system,))}
        self._take_back(self._shown - shown)
        self._shown = shown

    def count_error(self) -> None:
        """Count that the system could not be read; the gauges stay as they are."""
        metrics.LAG_READ_ERRORS.labels(self._system).inc()
        self._shown.add((metrics.LAG_READ_ERRORS, (self._system,)))

    def withdraw(self) -> None:
        """Export nothing any more."""
        self._take_back(self._shown)
        self._shown = set()

    def _take_back(self, series: set[tuple[Gauge | Counter, Labels]]) -> None:
        for metric, labels in series:
            if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
                metric.remove(*labels)
            elif isinstance(metric, Gauge):
                metric.labels(*labels).set(0)
