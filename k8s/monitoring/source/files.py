"""The files that are made of the source, by their paths in the repository."""

from __future__ import annotations

import json
from pathlib import Path

from k8s.monitoring.source.boards import board_json
from k8s.monitoring.source.dashboards import BOARDS
from k8s.monitoring.source.rules import ALERTS, RECORDINGS
from k8s.monitoring.source.rules.rule_file import rule_file

FOLDER = Path("k8s/monitoring")
DASHBOARDS = FOLDER / "dashboards"
RULES = FOLDER / "rules.yaml"


def files() -> dict[Path, str]:
    """Return all of them with their texts."""
    texts = {DASHBOARDS / f"{board.uid}.json": json.dumps(board_json(board), indent=2) + "\n" for board in BOARDS}
    return {**texts, RULES: rule_file((("hivewire-recordings", RECORDINGS), ("hivewire-alerts", ALERTS)))}
