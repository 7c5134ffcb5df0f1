"""What this process has counted for each agent type of a system, read back from its instruments.

In several processes that share a directory each reads its own values.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from hivewire.telemetry import metrics


@dataclass(slots=True, kw_only=True)
class TypeCounts:
    """The counters of one agent type since the process began, and `inflight`, which is now.

    `processed` is by kind and result. `durations` counts the attempts that took at most so many seconds, by the bound;
    the last bound is infinite.
    """

    processed: dict[tuple[str, str], int] = field(default_factory=dict)
    retries: int = 0
    inflight: int = 0
    durations: dict[float, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How much the type has done at all."""
        return sum(self.processed.values()) + self.retries + max(self.durations.values(), default=0)


def type_counts(system: str) -> dict[str, TypeCounts]:
    """Return what there is of each agent type."""
    found: defaultdict[str, TypeCounts] = defaultdict(TypeCounts)
    for sample in _samples(metrics.MESSAGES_PROCESSED, system, "_total"):
        labels = sample.labels
        found[labels["agent_type"]].processed[labels["kind"], labels["result"]] = int(sample.value)
    for sample in _samples(metrics.MESSAGE_RETRIES, system, "_total"):
        found[sample.labels["agent_type"]].retries = int(sample.value)
    for sample in _samples(metrics.INFLIGHT_MESSAGES, system, ""):
        found[sample.labels["agent_type"]].inflight = int(sample.value)
    for sample in _samples(metrics.MESSAGE_PROCESS_DURATION, system, "_bucket"):
        found[sample.labels["agent_type"]].durations[float(sample.labels["le"])] = int(sample.value)
    return dict(found)


def handler_slots(system: str) -> dict[str, int]:
    """Return how many turns run and may run more, by state: used, available. Empty when that is not measured."""
    return {sample.labels["state"]: int(sample.value) for sample in _samples(metrics.HANDLER_SLOTS, system, "")}


def _samples(metric: Counter | Gauge | Histogram, system: str, suffix: str) -> Iterator[Sample]:
    for family in metric.collect():
        for sample in family.samples:
            if sample.labels.get("system") == system and sample.name == f"{family.name}{suffix}":
                yield sample
