"""Dashboards: rows of panels on a grid, with variables and links to one another."""

from __future__ import annotations

from dataclasses import dataclass

from k8s.monitoring.source.panels import DATASOURCE, FULL_WIDTH, Json, Panel, panel_json

TAG = "hivewire"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Panels under a headline, laid out from left to right."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """What a dashboard can be narrowed to: the values of a label, all unless somebody chooses."""

    name: str
    label: str
    query: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """A dashboard. Its uid names its file too, and never changes, as links and bookmarks have it."""

    uid: str
    title: str
    description: str
    variables: tuple[Variable, ...]
    rows: tuple[Row, ...]


NAMESPACE = Variable(name="namespace", label="Namespace", query="label_values(hivewire_build_info, system)")
AGENT_TYPE = Variable(
    name="agent_type",
    label="Agent type",
    query='label_values(hivewire_shard_lag_messages{system=~"$namespace"}, agent_type)',
)


def board_json(board: Board) -> Json:
    """Return a dashboard for Grafana."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": [TAG],
        "schemaVersion": 38,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [_links()],
        "templating": {"list": [_datasource(), *map(_variable, board.variables)]},
        "panels": [_place_json(place, number) for number, place in enumerate(placed_panels(board.rows), 1)],
    }


def _links() -> Json:
    """A menu of all dashboards with the tag, which keeps time and variables."""
    return {
        "type": "dashboards",
        "title": "Hivewire",
        "tags": [TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "icon": "external link",
        "tooltip": "",
        "url": "",
    }


def _datasource() -> Json:
    return {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus", "hide": 0}


def _variable(variable: Variable) -> Json:
    return {
        "type": "query",
        "name": variable.name,
        "label": variable.label,
        "datasource": DATASOURCE,
        "query": variable.query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a panel is on the grid, or a row's headline, which has no panel."""

    title: str
    panel: Panel | None
    x: int
    y: int
    width: int
    height: int


def placed_panels(rows: tuple[Row, ...]) -> list[Place]:
    """Lay out rows from top to bottom, and their panels from left to right."""
    placed: list[Place] = []
    y = 0
    for row in rows:
        placed.append(Place(title=row.title, panel=None, x=0, y=y, width=FULL_WIDTH, height=1))
        y += 1
        x = height = 0
        for panel in row.panels:
            if x + panel.width > FULL_WIDTH:
                x, y, height = 0, y + height, 0
            placed.append(Place(title=panel.title, panel=panel, x=x, y=y, width=panel.width, height=panel.height))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return placed


def _place_json(place: Place, panel_id: int) -> Json:
    grid = {"h": place.height, "w": place.width, "x": place.x, "y": place.y}
    if place.panel is None:
        return {"id": panel_id, "type": "row", "title": place.title, "collapsed": False, "gridPos": grid, "panels": []}
    return {"id": panel_id, "gridPos": grid, **panel_json(place.panel)}
