"""Draws the pictures of the documentation from a system under load: `make monitoring-pictures`."""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from k8s.monitoring.source.dashboards import BOARDS
from k8s.monitoring.source.pictures import Series, draw
from monitoring.prometheus import Prometheus
from monitoring.queries import filled
from monitoring.shop import SYSTEM, Load, serving_shop

IMAGES = Path(__file__).parents[2] / "docs/images"
STEP_S = 2


def main(minutes: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with serving_shop(directory) as shop, Prometheus(directory, shop.jobs) as prometheus:
            begun = time.time()
            for pause_s, share in ((0.05, 0.35), (0.0, 0.35), (0.03, 0.3)):
                with redirect_stdout(StringIO()), Load(shop, pause_s=pause_s):
                    time.sleep(minutes * 60 * share)
                if pause_s == 0:
                    shop.workers[0].kill()
            _draw_all(prometheus, begun, time.time())


def _draw_all(prometheus: Prometheus, begun: float, ended: float) -> None:
    def fetch(expr: str) -> list[Series]:
        query = filled(expr, system=SYSTEM, window="15s")
        found = prometheus.get("query_range", query=query, start=f"{begun}", end=f"{ended}", step=f"{STEP_S}")
        return [
            Series(labels=one["metric"], points=[(time, float(value)) for time, value in one["values"]])
            for one in found["result"]
        ]

    IMAGES.mkdir(exist_ok=True)
    for board in BOARDS:
        draw(board, fetch, IMAGES / f"{board.uid}.png")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3.0)
