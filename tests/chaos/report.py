"""What a run came to, as a line that a person reads and as a file.

With HIVEWIRE_CHAOS_REPORT set to a directory, each run leaves `NAME.json` there, and `report.md` is made anew from all
of them.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from chaos.model import DONE, History, Kind, Violation

DIRECTORY_VARIABLE = "HIVEWIRE_CHAOS_REPORT"

_LOSSES = (Kind.LOST, Kind.NOT_DEAD)
_DUPLICATES = (Kind.DUPLICATED,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The numbers of one run. Gaps are the longest times in which a shard handled none of the events, or calls, that
    it had."""

    name: str
    messages: int
    accepted_events: int
    answered_calls: int
    errors: dict[str, int]
    dead_letters: int
    losses: int
    duplicates: int
    event_gap_s: float
    call_gap_s: float
    took_s: float
    violations: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        name: str,
        history: History,
        violations: Sequence[Violation],
        *,
        event_gap_s: float,
        call_gap_s: float,
        took_s: float,
    ) -> "Report":
        done = {each.id for each in history.ended if each.outcome == DONE}
        by_kind = Counter(violation.kind for violation in violations)
        return cls(
            name=name,
            messages=len(history.sent),
            accepted_events=sum(each.kind == "event" and each.id in done for each in history.sent),
            answered_calls=sum(each.kind == "call" and each.id in done for each in history.sent),
            errors=dict(Counter(each.outcome for each in history.ended if each.outcome != DONE)),
            dead_letters=len(history.dead),
            losses=sum(by_kind[kind] for kind in _LOSSES),
            duplicates=sum(by_kind[kind] for kind in _DUPLICATES),
            event_gap_s=round(event_gap_s, 3),
            call_gap_s=round(call_gap_s, 3),
            took_s=round(took_s, 1),
            violations=[str(violation) for violation in violations],
        )

    def publish(self) -> None:
        """Print it, and write it where the environment says."""
        _publish(self, [_HEAD, _row(self)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured in a run that has figures of its own. The name of each says its unit."""

    name: str
    figures: Mapping[str, float]
    took_s: float
    violations: Sequence[str] = ()

    def publish(self) -> None:
        """Print it, and write it where the environment says."""
        _publish(self, [_FIGURES_HEAD, *_figure_rows(self)])


def spread(of: str, values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the largest of some values as figures."""
    if not values:
        return {}
    ordered = sorted(values)
    median, high = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
    return {f"{of}, p50": round(median, 4), f"{of}, p99": round(high, 4), f"{of}, max": round(ordered[-1], 4)}


def write(report: Report | Figures, directory: Path) -> None:
    """Write one report, and the tables of all that are in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{report.name}.json").write_text(json.dumps(asdict(report), indent=2) + "\n")
    read = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    rows = [_row(Report(**each)) for each in read if "figures" not in each]
    figures = [row for each in read if "figures" in each for row in _figure_rows(Figures(**each))]
    tables = [[_HEAD, *rows]] * bool(rows) + [[_FIGURES_HEAD, *figures]] * bool(figures)
    (directory / "report.md").write_text("\n\n".join("\n".join(table) for table in tables) + "\n")


def _publish(report: Report | Figures, table: Sequence[str]) -> None:
    print(*table, sep="\n")
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        write(report, Path(directory))


_HEAD = (
    "| run | messages | events accepted | calls answered | errors | dead letters | losses | duplicates "
    "| other violations | longest gap of events, s | of calls, s | took, s |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|---|"
)

_FIGURES_HEAD = "| run | figure | value |\n|---|---|---|"


def _figure_rows(report: Figures) -> list[str]:
    figures = {**report.figures, "violations": len(report.violations), "took, s": round(report.took_s, 1)}
    return [f"| {report.name} | {name} | {value:g} |" for name, value in figures.items()]


def _row(report: Report) -> str:
    errors = ", ".join(f"{number} {name}" for name, number in sorted(report.errors.items())) or "none"
    others = len(report.violations) - report.losses - report.duplicates
    return (
        f"| {report.name} | {report.messages} | {report.accepted_events} | {report.answered_calls} | {errors} "
        f"| {report.dead_letters} | {report.losses} | {report.duplicates} | {others} | {report.event_gap_s:.2f} "
        f"| {report.call_gap_s:.2f} | {report.took_s:.0f} |"
    )
