"""What a soak shows, decided from its numbers: what grew, and what was lost or counted twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from soak.agents import Counted
from soak.load import Accepted
from soak.samples import Sample

WARM_UP_SHARE: Final = 0.3
WARM_UP_MOST_S: Final = 180.0
"""The broker remembers message ids for 2 minutes, so it grows for as long."""

LEAST_SAMPLES: Final = 4
"""Of one place, after the warm-up: one for each quarter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerance:
    """How much more something may be at the end: so many parts of what it was at first, and so many more."""

    share: float = 0.0
    plus: float = 0.0

    def limit(self, first: float) -> float:
        return first * (1 + self.share) + self.plus


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One number in the first quarter after the warm-up and in the last one, and the most that it may be there."""

    place: str
    name: str
    first: float
    last: float
    limit: float

    @property
    def is_flat(self) -> bool:
        return self.last <= self.limit


_DEFAULT: Final = Tolerance()
_TOLERANCES: Final[Mapping[str, Tolerance]] = {
    # Allocators keep some of what they once needed.
    "RSS, MiB": Tolerance(share=0.1, plus=8),
    # How much a worker holds depends on its share of the shards, which changes with every join and leave.
    "tasks": Tolerance(share=0.2, plus=10),
    "threads": Tolerance(plus=1),
    "objects": Tolerance(share=0.05, plus=2_000),
    "open files": Tolerance(share=0.1, plus=8),
    # A worker that is killed leaves its readers behind for 30 s, a session its marker for 60 s.
    "consumers of events": Tolerance(share=0.2, plus=10),
    "consumers of leases": Tolerance(share=0.2, plus=5),
    "consumers of registry": Tolerance(share=0.2, plus=5),
    # These are read now and then, by a reader that is gone after 30 s.
    "consumers of positions": Tolerance(plus=3),
    "consumers of state": Tolerance(plus=3),
    "keys of leases": Tolerance(share=0.2, plus=8),
    # The janitor comes by every 30 s, and it may be a worker that is about to be killed.
    "messages of events": Tolerance(share=0.5, plus=2_000),
}
_OF_BROKER: Final[Mapping[str, Tolerance]] = {
    # It takes memory ahead of its garbage collection, and keeps the dead letters of the whole run.
    "RSS, MiB": Tolerance(share=0.25, plus=24),
}


def compare(place: str, samples: Sequence[Sample], *, sampled_s: float) -> list[Comparison]:
    """Compare the medians of the first quarter after the warm-up and of the last one.

    Args:
        sampled_s: How long it took to take the samples.

    Raises:
        ValueError: there are too few.
    """
    warm_up = min(WARM_UP_SHARE, WARM_UP_MOST_S / sampled_s)
    settled = samples[round(len(samples) * warm_up) :]
    quarter = len(settled) // LEAST_SAMPLES
    if not quarter:
        raise ValueError(f"{len(settled)} samples of the {place} are too few: take more time")
    comparisons = []
    for name in settled[0]:
        first = median(sample[name] for sample in settled[:quarter])
        last = median(sample[name] for sample in settled[-quarter:])
        limit = tolerance(place, name).limit(first)
        comparisons.append(Comparison(place=place, name=name, first=first, last=last, limit=limit))
    return comparisons


def tolerance(place: str, name: str) -> Tolerance:
    """Return how much more something may be at the end. Nothing more, unless it is named here."""
    special = _OF_BROKER.get(name) if place == "broker" else None
    return special or _TOLERANCES.get(name, _DEFAULT)


def miscounts(accepted: Accepted, counted: Mapping[str, Counted], *, dead_letters: int) -> list[str]:
    """Say what the counters and the dead letters have too little or too much of."""
    wrong = []
    for key, found in counted.items():
        events, answered = accepted.events[key], accepted.answered[key]
        most = answered + accepted.unanswered[key]
        if found.events != events:
            wrong.append(f"{key}: {found.events} events counted, {events} published")
        if not answered <= found.calls <= most:
            wrong.append(f"{key}: {found.calls} calls counted, {answered} answered of {most}")
    if dead_letters != accepted.doomed:
        wrong.append(f"{dead_letters} dead letters of {accepted.doomed} events that always fail")
    return wrong
