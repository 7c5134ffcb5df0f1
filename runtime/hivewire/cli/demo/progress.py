"""Which process handled what, and how fast: counted from the reviews as they come."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, field

from hivewire.cli.demo.messages import FileReview

REVIEWERS = ("reviewer-1", "reviewer-2")
"""The labels of the two processes that share the keys of the type `reviewer`."""


@dataclass(slots=True)
class ProcessWork:
    """What one reviewer process did."""

    files: int = 0
    findings: int = 0
    questions: int = 0
    last_file: str = ""


@dataclass(slots=True)
class Progress:
    """The state of a demo. `summed_up` is what the reporter says that it has, `pids` are those of the processes."""

    files: int
    pids: dict[str, int]
    published: int = 0
    summed_up: int = 0
    work: dict[str, ProcessWork] = field(default_factory=lambda: {name: ProcessWork() for name in REVIEWERS})
    answered_after_ms: list[float] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)

    def add(self, review: FileReview) -> None:
        """Take note of a review; one that comes again does not count again."""
        self.seen[review.path] += 1
        if self.seen[review.path] > 1:
            return
        work = self.work.setdefault(review.process, ProcessWork())
        work.files += 1
        work.findings += sum(review.findings.values())
        work.questions += len(review.answered_after_ms)
        work.last_file = review.path
        self.answered_after_ms += review.answered_after_ms

    @property
    def came_twice(self) -> int:
        """How many files were reviewed more than once."""
        return sum(times > 1 for times in self.seen.values())

    @property
    def reviewed(self) -> int:
        return sum(work.files for work in self.work.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What a demo measured. A direct message counts once, with its answer."""

    seconds: float
    events: int
    direct_messages: int
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return (self.events + self.direct_messages) / self.seconds


def measured(progress: Progress, seconds: float) -> Numbers:
    """Return the numbers of a demo that took so long: an event and a review for each file, and the questions."""
    latencies = progress.answered_after_ms
    percentiles = statistics.quantiles(latencies, n=100, method="inclusive") if len(latencies) > 1 else latencies * 99
    return Numbers(
        seconds=seconds,
        events=2 * progress.reviewed,
        direct_messages=len(latencies),
        p50_ms=percentiles[49] if percentiles else 0.0,
        p99_ms=percentiles[98] if percentiles else 0.0,
    )
