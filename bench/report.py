"""From samples to a table: medians over the rounds, and how Hivewire stands to each peer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.table import Table

from bench.rounds import Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One side under one load. `ratio` is Hivewire's rate over this side's; None for Hivewire itself."""

    comparison: str
    side: str
    callers: int
    per_second: float
    p50_ms: float
    p99_ms: float
    ratio: float | None


def rows(series: Sequence[Series]) -> list[Row]:
    """Sum up each series; a ratio is the median of the ratios within the single rounds."""
    rates = {
        (each.comparison, each.side, each.callers): [sample.per_second for sample in each.samples] for each in series
    }
    summed_up = []
    for each in series:
        ratio = None
        if each.peer_of is not None:
            ours = rates[each.comparison, each.peer_of, each.callers]
            ratio = median(our / sample.per_second for our, sample in zip(ours, each.samples, strict=True))
        summed_up.append(
            Row(
                comparison=each.comparison,
                side=each.side,
                callers=each.callers,
                per_second=median(sample.per_second for sample in each.samples),
                p50_ms=median(sample.p50_ms for sample in each.samples),
                p99_ms=median(sample.p99_ms for sample in each.samples),
                ratio=ratio,
            )
        )
    return summed_up


def table(title: str, summed_up: Sequence[Row]) -> Table:
    """Return the rows of one comparison as a table for the terminal."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("in flight", justify="right")
    shown.add_column("side")
    for column in ("messages/s", "p50 ms", "p99 ms", "Hivewire is"):
        shown.add_column(column, justify="right")
    for index, row in enumerate(summed_up):
        last_of_load = index + 1 == len(summed_up) or summed_up[index + 1].callers != row.callers
        shown.add_row(
            str(row.callers),
            row.side,
            f"{row.per_second:,.0f}",
            f"{row.p50_ms:.2f}",
            f"{row.p99_ms:.2f}",
            "" if row.ratio is None else f"{row.ratio:.2f} x",
            end_section=last_of_load,
        )
    return shown


def document(series: Sequence[Series], machine: dict[str, str]) -> dict[str, Any]:
    """Return all that was measured, fit for JSON: the machine, the rows, and the samples that they sum up."""
    return {
        "machine": machine,
        "rows": [asdict(row) for row in rows(series)],
        "series": [asdict(each) for each in series],
    }
