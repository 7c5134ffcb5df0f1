"""What a soak came to, for a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from soak.fleet import Churn
from soak.load import Accepted
from soak.verdict import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The numbers of a run."""

    comparisons: Sequence[Comparison]
    miscounts: Sequence[str]
    accepted: Accepted
    churn: Churn
    took_s: float

    @property
    def passed(self) -> bool:
        return not self.miscounts and all(comparison.is_flat for comparison in self.comparisons)


def show(outcome: Outcome, console: Console) -> None:
    """Print it."""
    console.print(_table(outcome.comparisons))
    accepted, churn = outcome.accepted, outcome.churn
    errors = ", ".join(f"{number} {name}" for name, number in sorted(accepted.errors.items())) or "no errors"
    console.print(
        f"{outcome.took_s / 60:.1f} minutes: {churn.joins} joins, {churn.drains} drains, {churn.kills} kills; "
        f"{accepted.events.total()} events, {accepted.doomed} that always fail, "
        f"{accepted.answered.total()} calls answered, {accepted.unanswered.total()} not ({errors})",
        highlight=False,
        soft_wrap=True,
    )
    for line in outcome.miscounts:
        console.print(line, style="red", highlight=False, soft_wrap=True)
    if not outcome.miscounts:
        console.print("nothing lost, nothing counted twice", highlight=False)


def _table(comparisons: Sequence[Comparison]) -> Table:
    table = Table("where", "what", title="Medians of the first quarter after the warm-up and of the last one")
    for heading in ("first", "last", "at the most"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for each in comparisons:
        numbers = (f"{number:.0f}" for number in (each.first, each.last, each.limit))
        table.add_row(each.place, each.name, *numbers, "flat" if each.is_flat else "[red]grew[/red]")
    return table
