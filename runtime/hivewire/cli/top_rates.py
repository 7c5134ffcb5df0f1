"""Rates and quantiles out of what pods have counted at two moments. Without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isinf
from typing import Final

from hivewire.nats.pod_numbers import PodNumbers
from hivewire.telemetry.type_counts import TypeCounts

_ERRORS: Final = ("error", "dead_letter")


@dataclass(slots=True, kw_only=True)
class TypeRates:
    """What some pods did with messages of a type, per second. `durations` counts, over the interval, the attempts that
    took at most so many seconds, by the bound."""

    events_s: float = 0.0
    calls_s: float = 0.0
    errors_s: float = 0.0
    retries_s: float = 0.0
    durations: Counter[float] = field(default_factory=Counter)

    def add(self, other: TypeRates) -> None:
        """Count another pod's in."""
        self.events_s += other.events_s
        self.calls_s += other.calls_s
        self.errors_s += other.errors_s
        self.retries_s += other.retries_s
        self.durations.update(other.durations)


def rates_between(before: PodNumbers, after: PodNumbers) -> dict[str, TypeRates] | None:
    """Return a pod's rates by agent type; None when the two answers can't be compared, as they are of two processes or
    of one moment."""
    seconds = after.time_s - before.time_s
    if before.process != after.process or seconds <= 0:
        return None
    return {
        name: _rates(before.types.get(name, TypeCounts()), counts, seconds)
        # One that was left out of the answer before has not just done all that it ever did.
        for name, counts in after.types.items()
        if name in before.types or not before.left_out
    }


def summed(rates: Iterable[Mapping[str, TypeRates]]) -> dict[str, TypeRates]:
    """Add the rates of several pods up, by agent type."""
    total: dict[str, TypeRates] = {}
    for by_type in rates:
        for name, each in by_type.items():
            total.setdefault(name, TypeRates()).add(each)
    return total


def quantile(durations: Mapping[float, int], share: float) -> float | None:
    """Return the duration that so large a share did not exceed, as far as the bounds tell: evenly spread between two of
    them, and the last finite one for what is beyond it. None without any.

    Args:
        durations: How many took at most so many seconds, by the bound; the last bound is infinite.
    """
    bounds = sorted(durations)
    total = durations[bounds[-1]] if bounds else 0
    if total <= 0:
        return None
    rank, low, below = share * total, 0.0, 0
    for bound in bounds:
        if isinf(bound):
            break
        count = durations[bound]
        if count >= rank and count > below:
            return low + (bound - low) * (rank - below) / (count - below)
        low, below = bound, count
    return low


def _rates(before: TypeCounts, after: TypeCounts, seconds: float) -> TypeRates:
    finished = {key: number - before.processed.get(key, 0) for key, number in after.processed.items()}
    return TypeRates(
        events_s=sum(number for (kind, _), number in finished.items() if kind == "event") / seconds,
        calls_s=sum(number for (kind, _), number in finished.items() if kind == "direct") / seconds,
        errors_s=sum(number for (_, result), number in finished.items() if result in _ERRORS) / seconds,
        retries_s=(after.retries - before.retries) / seconds,
        durations=Counter(
            {bound: number - before.durations.get(bound, 0) for bound, number in after.durations.items()}
        ),
    )
