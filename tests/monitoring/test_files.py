"""The files are those of the source, and are what Grafana and readers expect."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from k8s.monitoring.source.boards import board_json
from k8s.monitoring.source.dashboards import BOARDS
from k8s.monitoring.source.files import DASHBOARDS, files

ROOT = Path(__file__).parents[2]
UNITS = {"short", "s", "ops", "reqps", "percentunit", "percent", "bytes", "Bps"}


def test_the_files_are_as_the_source_makes_them() -> None:
    texts = files()
    assert {path: (ROOT / path).read_text() for path in texts} == texts, "run `make monitoring`"
    assert {path.relative_to(ROOT) for path in (ROOT / DASHBOARDS).iterdir()} <= texts.keys()


def test_uids_never_change() -> None:
    assert [board.uid for board in BOARDS] == [
        "hivewire-overview",
        "hivewire-agent-types",
        "hivewire-shards",
        "hivewire-gateway",
        "hivewire-operator",
        "hivewire-nats",
    ]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_every_field_of_a_dashboard_is_one_of_grafanas_schema(board: Any) -> None:
    register_default_plugins()
    written = board_json(board)
    assert list(_lost(written, _read_by_grafanas_models(written))) == []


def test_a_field_that_grafana_does_not_know_is_found() -> None:
    register_default_plugins()
    written = board_json(BOARDS[0])
    written["panels"][1]["options"]["graphMood"] = "area"
    assert list(_lost(written, _read_by_grafanas_models(written))) == [".panels[1].options.graphMood"]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_every_panel_says_what_to_look_for_and_in_which_unit(board: Any) -> None:
    panels = [panel for row in board.rows for panel in row.panels]
    assert all(panel.description.endswith(".") and panel.unit in UNITS and panel.queries for panel in panels)
    titles = [panel.title for panel in panels]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_panels_do_not_overlap_and_fill_the_width(board: Any) -> None:
    places = [panel["gridPos"] for panel in board_json(board)["panels"]]
    assert not [pair for pair in combinations(places, 2) if _overlap(*pair)]
    by_height = {y: sum(place["w"] for place in places if place["y"] == y) for y in {place["y"] for place in places}}
    assert set(by_height.values()) == {24}


def _read_by_grafanas_models(written: Any) -> Any:
    return json.loads(JSONEncoder().encode(Dashboard.from_json(written)))


def _lost(written: Any, read: Any, place: str = "") -> Any:
    """Name what models that know the schema don't keep."""
    if isinstance(written, dict):
        for key, value in written.items():
            if not isinstance(read, dict) or key not in read:
                yield f"{place}.{key}"
            else:
                yield from _lost(value, read[key], f"{place}.{key}")
    elif isinstance(written, list):
        for index, value in enumerate(written):
            yield from _lost(value, read[index], f"{place}[{index}]")
    elif written != read:
        yield place


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))
