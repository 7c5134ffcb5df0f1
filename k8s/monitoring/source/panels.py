"""Panels of dashboards, in the terms of what they show, and as the JSON that Grafana reads.

The JSON follows Grafana 10's dashboard schema: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "heatmap", "table"]

FULL_WIDTH = 24
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """An expression, and how each of its series is called: `{{agent_type}}`."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What one panel shows.

    Args:
        unit: One of Grafana's: `s`, `ops`, `percentunit`, `bytes`, `short`.
        warn_at, alarm_at: Values from which it is yellow, and red.
    """

    kind: Kind
    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    width: int
    height: int
    warn_at: float | None = None
    alarm_at: float | None = None
    is_stacked: bool = False


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    warn_at: float | None = None,
    alarm_at: float | None = None,
    is_stacked: bool = False,
) -> Panel:
    """A course over time."""
    return Panel(
        kind="timeseries",
        title=title,
        description=description,
        unit=unit,
        queries=queries,
        width=width,
        height=8,
        warn_at=warn_at,
        alarm_at=alarm_at,
        is_stacked=is_stacked,
    )


def number(
    title: str,
    description: str,
    unit: str,
    expr: str,
    *,
    width: int = 6,
    warn_at: float | None = None,
    alarm_at: float | None = None,
) -> Panel:
    """One value, the last one, with its course behind it."""
    return Panel(
        kind="stat",
        title=title,
        description=description,
        unit=unit,
        queries=(Query(expr=expr, legend=title),),
        width=width,
        height=4,
        warn_at=warn_at,
        alarm_at=alarm_at,
    )


def heat_map(title: str, description: str, unit: str, expr: str, *, width: int = 12) -> Panel:
    """How the values of a histogram are spread, over time. The expression keeps `le`."""
    return Panel(
        kind="heatmap",
        title=title,
        description=description,
        unit=unit,
        queries=(Query(expr=expr, legend="{{le}}"),),
        width=width,
        height=8,
    )


def table(title: str, description: str, expr: str, *, width: int = FULL_WIDTH) -> Panel:
    """The labels of the series that there are now."""
    return Panel(
        kind="table",
        title=title,
        description=description,
        unit="short",
        queries=(Query(expr=expr, legend=""),),
        width=width,
        height=6,
    )


def panel_json(panel: Panel) -> Json:
    """Return a panel, but for its place."""
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "targets": [_target(panel, query, ref) for query, ref in zip(panel.queries, "ABCDEFGH", strict=False)],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _target(panel: Panel, query: Query, ref: str) -> Json:
    target: Json = {"refId": ref, "datasource": DATASOURCE, "expr": query.expr, "legendFormat": query.legend}
    match panel.kind:
        case "heatmap":
            return {**target, "format": "heatmap"}
        case "table":
            return {**target, "format": "table", "instant": True}
        case _:
            return target


def _field(panel: Panel) -> Json:
    if panel.kind in ("heatmap", "table"):
        return {}
    field: Json = {"unit": panel.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": _steps(panel)}}
    if panel.kind == "stat":
        return {**field, "color": {"mode": "thresholds"}}
    has_threshold = panel.warn_at is not None or panel.alarm_at is not None
    return {
        **field,
        "color": {"mode": "palette-classic"},
        "custom": {
            "lineWidth": 1,
            "fillOpacity": 25 if panel.is_stacked else 0,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.is_stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if has_threshold else "off"},
        },
    }


def _steps(panel: Panel) -> list[Json]:
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.warn_at is not None:
        steps.append({"color": "yellow", "value": panel.warn_at})
    if panel.alarm_at is not None:
        steps.append({"color": "red", "value": panel.alarm_at})
    return steps


def _options(panel: Panel) -> Json:
    match panel.kind:
        case "timeseries":
            return {
                "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case "stat":
            return {
                "colorMode": "value",
                "graphMode": "area",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            }
        case "heatmap":
            return {
                "calculate": False,
                "cellGap": 1,
                "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64, "exponent": 0.5, "fill": "dark-orange"},
                "yAxis": {"unit": panel.unit},
                "legend": {"show": True},
            }
        case "table":
            return {"showHeader": True}
