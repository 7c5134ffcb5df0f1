"""Plain numbers that are counted on an event loop, and given to Prometheus now and then.

An instrument of the Prometheus client takes a lock for each value that it is given, and writes to a file where several
processes share a directory. That costs microseconds, several times a message; a plain number costs a twentieth. What
was counted is seen with the next `tell`. Only that has to do with Prometheus, and may fail.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

Labels = tuple[str, ...]
MetricT = TypeVar("MetricT", Counter, Gauge, Histogram)


class Tally:
    """A counter's number. `count` is the whole number, which only grows."""

    __slots__ = ("_counter", "_labels", "_told", "count")

    def __init__(self, counter: Counter, labels: Labels) -> None:
        self._counter = counter
        self._labels: Labels | None = labels
        self._told = 0
        self.count = 0

    def inc(self) -> None:
        self.count += 1

    def tell(self) -> None:
        if self._labels is not None:
            self._counter, self._labels = _series(self._counter, self._labels), None
        if self.count != self._told:
            self._counter.inc(self.count - self._told)
            self._told = self.count


class Distribution:
    """A histogram's numbers."""

    __slots__ = ("_bounds", "_counts", "_histogram", "_labels", "_sum")

    def __init__(self, histogram: Histogram, labels: Labels) -> None:
        self._histogram = histogram
        self._labels: Labels | None = labels
        self._bounds: list[float] = histogram._upper_bounds
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._sum += value
        self._counts[bisect_left(self._bounds, value)] += 1

    def tell(self) -> None:
        if self._labels is not None:
            self._histogram, self._labels = _series(self._histogram, self._labels), None
        if not any(self._counts):
            return
        # As its `observe` does, which takes only one value at a time.
        self._histogram._sum.inc(self._sum)
        for bucket, count in zip(self._histogram._buckets, self._counts, strict=True):
            if count:
                bucket.inc(count)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0


class Level:
    """What one of those who share a gauge adds to it: `value`."""

    __slots__ = ("_gauge", "_labels", "_told", "value")

    def __init__(self, gauge: Gauge, labels: Labels) -> None:
        self._gauge = gauge
        self._labels: Labels | None = labels
        self._told = 0
        self.value = 0

    def tell(self) -> None:
        if self._labels is not None:
            self._gauge, self._labels = _series(self._gauge, self._labels), None
        if self.value != self._told:
            self._gauge.inc(self.value - self._told)
            self._told = self.value


class Tallies:
    """Those of one event loop."""

    def __init__(self) -> None:
        self._all: list[Tally | Distribution | Level] = []
        self._levels: list[Level] = []

    def count(self, counter: Counter, *labels: str) -> Tally:
        tally = Tally(counter, labels)
        self._all.append(tally)
        return tally

    def distribution(self, histogram: Histogram, *labels: str) -> Distribution:
        distribution = Distribution(histogram, labels)
        self._all.append(distribution)
        return distribution

    def level(self, gauge: Gauge, *labels: str) -> Level:
        level = Level(gauge, labels)
        self._all.append(level)
        self._levels.append(level)
        return level

    def tell(self) -> None:
        """Give Prometheus what is new."""
        for each in self._all:
            each.tell()

    def end(self) -> None:
        """Take all levels back to nothing, which is told with the next `tell`."""
        for level in self._levels:
            level.value = 0


def _series(metric: MetricT, labels: Labels) -> MetricT:
    return metric.labels(*labels) if labels else metric
