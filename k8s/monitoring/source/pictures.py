"""Pictures of dashboards, for readers who have no Grafana at hand.

They show the data of the panels at the places of the panels; they are not how Grafana draws.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib import dates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from matplotlib.transforms import Bbox
from PIL import Image

from k8s.monitoring.source.boards import Board, placed_panels
from k8s.monitoring.source.panels import FULL_WIDTH, Panel, Query

matplotlib.use("Agg")

_CELL_INCHES = (0.56, 0.34)
_DPI = 90
_COLOURS = ("#3d9950", "#c98b00", "#c4162a")
_MOST_SERIES = 6
_LABEL = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Labels, and values by seconds since 1970."""

    labels: dict[str, str]
    points: Sequence[tuple[float, float]]


Fetch = Callable[[str], Sequence[Series]]


def draw(board: Board, fetch: Fetch, path: Path) -> None:
    """Draw a dashboard into a PNG file; `fetch` gets the series of an expression."""
    placed = placed_panels(board.rows)
    height = max(place.y + place.height for place in placed)
    figure = Figure(figsize=(FULL_WIDTH * _CELL_INCHES[0], (height + 1) * _CELL_INCHES[1]), dpi=_DPI)
    figure.suptitle(board.title, x=0.01, y=1 - 0.3 / (height + 1), ha="left", va="top", fontsize=13, weight="bold")
    for place in placed:
        if place.panel is None:
            figure.text(0.01, 1 - (place.y + 1.7) / (height + 1), place.title, fontsize=10, color="#555555")
            continue
        left, bottom = place.x / FULL_WIDTH, 1 - (place.y + 1 + place.height) / (height + 1)
        box = (left + 0.045, bottom + 0.85 / (height + 1), place.width / FULL_WIDTH - 0.055, 0)
        axes = figure.add_axes((*box[:3], (place.height - 1.9) / (height + 1)))
        axes.set_title(place.title, fontsize=8.5, loc="left", weight="bold", pad=3)
        _draw_panel(axes, place.panel, [(query, fetch(query.expr)) for query in place.panel.queries])
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette, which is half the size."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    Image.open(drawn).convert("RGB").quantize(200).save(path, optimize=True)


def _draw_panel(axes: Axes, panel: Panel, data: Sequence[tuple[Query, Sequence[Series]]]) -> None:
    match panel.kind:
        case "stat":
            _draw_number(axes, panel, data[0][1])
        case "table":
            _draw_table(axes, data[0][1])
        case "heatmap":
            _draw_heat_map(axes, panel, data[0][1])
        case "timeseries":
            _draw_lines(axes, panel, data)


def _draw_number(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    axes.axis("off")
    value = series[0].points[-1][1] if series else float("nan")
    axes.text(0.5, 0.45, in_unit(value, panel.unit), fontsize=17, ha="center", va="center", color=_colour(panel, value))


def _colour(panel: Panel, value: float) -> str:
    if panel.alarm_at is not None and value >= panel.alarm_at:
        return _COLOURS[2]
    return _COLOURS[1] if panel.warn_at is not None and value >= panel.warn_at else _COLOURS[0]


def _draw_table(axes: Axes, series: Sequence[Series]) -> None:
    axes.axis("off")
    hidden = {"__name__", "instance", "job", "alertstate"}
    names = sorted({name for one in series for name in one.labels} - hidden)
    if not names:
        return
    rows = [[one.labels.get(name, "") for name in names] for one in series[:_MOST_SERIES]]
    height = (len(rows) + 1) / (_MOST_SERIES + 1)
    box = Bbox.from_bounds(0, 1 - height, 1, height)
    table = axes.table(cellText=rows, colLabels=names, bbox=box, cellLoc="left", colLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)


def _draw_heat_map(axes: Axes, panel: Panel, series: Sequence[Series]) -> None:
    buckets = sorted(series, key=lambda one: float(one.labels["le"]))
    below = {time: 0.0 for time, _ in buckets[0].points} if buckets else {}
    rows = []
    for bucket in buckets:
        at = dict(bucket.points)
        rows.append([max(at.get(time, 0.0) - count, 0.0) or math.nan for time, count in below.items()])
        below = {time: at.get(time, 0.0) for time in below}
    if rows:
        axes.pcolormesh([_time(time) for time in below], range(len(rows)), rows, cmap="Oranges", shading="nearest")
    labels = [in_unit(float(bucket.labels["le"]), panel.unit) for bucket in buckets]
    axes.set_yticks(range(0, len(labels), 2), labels[::2])
    _tidy(axes)


def _draw_lines(axes: Axes, panel: Panel, data: Sequence[tuple[Query, Sequence[Series]]]) -> None:
    named = [(legend(query, one), one) for query, series in data for one in series]
    named.sort(key=lambda pair: -max((value for _, value in pair[1].points), default=0))
    if panel.is_stacked and named:
        _stack(axes, named[:_MOST_SERIES])
    else:
        for name, one in named[:_MOST_SERIES]:
            axes.plot([_time(at) for at, _ in one.points], [value for _, value in one.points], linewidth=1, label=name)
    for limit, colour in ((panel.warn_at, _COLOURS[1]), (panel.alarm_at, _COLOURS[2])):
        if limit is not None and limit <= axes.get_ylim()[1] * 1.5:
            axes.axhline(limit, color=colour, linestyle="--", linewidth=0.8)
    # Room above for the legend.
    is_flat = all(value == 0 or math.isnan(value) for _, one in named for _, value in one.points)
    axes.set_ylim(0, 1 if is_flat else axes.get_ylim()[1] * 1.35)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: in_unit(value, panel.unit)))
    if named:
        axes.legend(fontsize=6.5, loc="upper left", framealpha=0.75, ncols=1 + (len(named) > 3))
    _tidy(axes)


def _stack(axes: Axes, named: Sequence[tuple[str, Series]]) -> None:
    times = sorted({time for _, one in named for time, _ in one.points})
    heights = [_without_gaps(one, times) for _, one in named]
    axes.stackplot([_time(at) for at in times], heights, labels=[name for name, _ in named], alpha=0.6)


def _without_gaps(series: Series, times: Sequence[float]) -> list[float]:
    """Return a value for each time: a scrape that failed changes nothing, and outside of its points a series is 0."""
    values = dict(series.points)
    first, last = series.points[0][0], series.points[-1][0]
    heights: list[float] = []
    for time in times:
        before = heights[-1] if heights and first <= time <= last else 0.0
        heights.append(values.get(time, before))
    return heights


def _tidy(axes: Axes) -> None:
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=6))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]


def _time(seconds: float) -> float:
    """Return a time as Matplotlib counts it: days."""
    return seconds / 86_400


def legend(query: Query, series: Series) -> str:
    """Return what a series is called."""
    return _LABEL.sub(lambda match: series.labels.get(match[1], ""), query.legend).strip() or "value"


def in_unit(value: float, unit: str) -> str:
    """Return a value as Grafana shows it, roughly."""
    match unit:
        case "s":
            return f"{value * 1000:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"
        case "bytes" | "Bps":
            power = next((power for power in (3, 2, 1) if abs(value) >= 1000**power), 0)
            return f"{value / 1000**power:.3g} {('', 'k', 'M', 'G')[power]}B{'/s' if unit == 'Bps' else ''}"
        case "percentunit":
            return f"{value * 100:.3g} %"
        case "percent":
            return f"{value:.3g} %"
        case "ops" | "reqps":
            return f"{value:.3g}/s"
        case _:
            return f"{value:.4g}"
