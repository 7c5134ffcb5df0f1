"""`hivewire top` as text: tables for a terminal or a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hivewire.cli.errors import one_line
from hivewire.cli.top_view import PodRow, TypeRow, View

RowT = TypeVar("RowT")

_WIDE = 120
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def as_text(view: View, where: str, *, width: int, note: str = "") -> RenderableType:
    """Return a line that says where this is, the streams, the agent types and the pods. `note` is one more line, for
    what goes wrong. Columns that can be spared are left out where there is no room."""
    streams = ", ".join(f"{each.name} {each.messages} ({size(each.size_bytes)})" for each in view.streams)
    lines = [f"{where}: {len(view.types)} agent types, {len(view.pods)} pods", f"stored: {streams}"]
    parts: list[RenderableType] = [Text(one_line(line)) for line in [*lines, note] if line]
    narrow = width < _WIDE
    if view.types:
        parts += ["", _table(_TYPE_CELLS, view.types, narrow=narrow, style=_style)]
    if view.pods:
        parts += ["", _table(_POD_CELLS, view.pods, narrow=narrow)]
    return Group(*parts)


def size(number: float) -> str:
    """Write a number of bytes."""
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.0f} {_UNITS[unit]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """Write a time: 850us, 2.5ms, 1.2s, 5m, 3h."""
    if not seconds:
        return "" if seconds is None else "0s"
    for factor, unit, below in ((1e6, "us", 1e-3), (1e3, "ms", 1.0), (1.0, "s", 120.0), (1 / 60, "m", 7200.0)):
        if seconds < below:
            number = seconds * factor
            return f"{number:.1f}{unit}" if number < 10 else f"{number:.0f}{unit}"
    return f"{seconds / 3600:.0f}h"


def rate(number: float | None) -> str:
    """Write how much happens in a second; a small rate is not nothing."""
    if number is None:
        return "?"
    return f"{number:.0f}" if number == 0 or number >= 10 else f"{number:.1f}"


def known(number: int | None) -> str:
    """Write a number that may be unknown."""
    return "?" if number is None else str(number)


def _pod_note(row: PodRow) -> str:
    if not row.answers:
        return "does not tell its numbers"
    return f"{row.types_left_out} quiet types are left out" if row.types_left_out else ""


def _style(row: TypeRow) -> str | None:
    if row.lag and row.shards_owned != row.shards:
        return "bold red"
    if row.errors_s:
        return "red"
    return "yellow" if row.lag or row.retries_s else None


# The columns in their order; > stands for those that are set to the right.
_TYPE_CELLS: Mapping[str, Callable[[TypeRow], object]] = {
    "AGENT TYPE": lambda row: row.type,
    "KIND": lambda row: row.kind,
    ">PODS": lambda row: row.pods,
    ">SHARDS": lambda row: "" if row.shards is None else f"{row.shards_owned}/{row.shards}",
    ">LAG": lambda row: row.lag,
    ">OLDEST": lambda row: duration(row.oldest_event_s),
    ">INFLIGHT": lambda row: known(row.inflight),
    ">EVENTS/S": lambda row: rate(row.events_s),
    ">CALLS/S": lambda row: rate(row.calls_s),
    ">P50": lambda row: duration(row.p50_s),
    ">P99": lambda row: duration(row.p99_s),
    ">ERRORS/S": lambda row: rate(row.errors_s),
    ">RETRIES/S": lambda row: rate(row.retries_s),
    ">DEAD": lambda row: row.dead_letters,
}
_POD_CELLS: Mapping[str, Callable[[PodRow], object]] = {
    "POD": lambda row: row.instance,
    "DEPLOYMENT": lambda row: row.deployment,
    "SESSION": lambda row: row.session,
    "STATE": lambda row: row.state,
    ">SHARDS": lambda row: row.shards,
    ">RUNNING": lambda row: known(row.turns_running),
    ">FREE": lambda row: known(row.turns_free),
    ">MESSAGES/S": lambda row: rate(row.messages_s),
    "": _pod_note,
}
_SPARED = {"KIND", "SESSION", ">INFLIGHT", ">P50", ">RETRIES/S"}


def _table(
    cells: Mapping[str, Callable[[RowT], object]],
    rows: Iterable[RowT],
    *,
    narrow: bool,
    style: Callable[[RowT], str | None] = lambda _: None,
) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1 if narrow else 2, 0, 0))
    columns = [column for column in cells if not narrow or column not in _SPARED]
    for column in columns:
        title = column.removeprefix(">").removesuffix("/S" if narrow else "")
        if column.startswith(">"):
            table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
        else:
            table.add_column(title, no_wrap=True)
    for row in rows:
        # Names come from the broker, so they are neither markup nor control characters.
        table.add_row(*(Text(one_line(cells[column](row))) for column in columns), style=style(row))
    return table
