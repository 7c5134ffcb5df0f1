"""The chart as Helm's own engine renders it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

helm_python = pytest.importorskip("helm_python", reason="renders charts: pip install helm-python-sdk")

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "hivewire"
Manifest = dict[str, Any]
Render = Callable[..., list[Manifest]]


@pytest.fixture(scope="session")
def chart() -> Iterator[Any]:
    with helm_python.Chart.load(CHART) as chart:
        yield chart


@pytest.fixture(scope="session")
def render(chart: Any) -> Render:
    """Renders the chart with values, as the release `hivewire` in the namespace `agents`."""

    def render(values: dict[str, Any] | None = None) -> list[Manifest]:
        texts = chart.render(values or {}, name="hivewire", namespace="agents")
        found = [each for path, text in texts.items() if path.endswith(".yaml") for each in yaml.safe_load_all(text)]
        return [each for each in found if each]

    return render
