"""A real Prometheus scrapes a system under load, and every panel of every dashboard has something to show."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.prometheus import Prometheus, needs_prometheus
from monitoring.queries import Located, filled, panel_queries, rule_queries, variable_queries
from monitoring.shop import SYSTEM, Load, serving_shop

pytestmark = [needs_prometheus, pytest.mark.slow]
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    with serving_shop(directory) as shop, Load(shop) as load, Prometheus(directory, shop.jobs) as server:
        yield server
        assert load.errors == []


def test_every_panel_has_data_and_every_rule_is_evaluated(prometheus: Prometheus) -> None:
    # One test, as tests beside one another would each start the system.
    deadline = time.monotonic() + DEADLINE_S
    empty = panel_queries()
    while empty := [query for query in empty if not _has_data(query, prometheus)]:
        assert time.monotonic() < deadline, "no data: " + "; ".join(f"{query.place}: {query.expr}" for query in empty)
        time.sleep(0.5)
    assert [query for query in variable_queries() if not prometheus.query(filled(query.expr))] == []
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == len(rule_queries())
    assert [rule for rule in rules if rule["health"] != "ok"] == []
    _see_that_alerts_say_what_they_mean(prometheus.get("alerts")["alerts"])


def _has_data(query: Located, prometheus: Prometheus) -> bool:
    series = prometheus.query(filled(query.expr, system=SYSTEM))
    return any(one["value"][1] != "NaN" for one in series)


def _see_that_alerts_say_what_they_mean(alerts: list[Any]) -> None:
    (dead_letters,) = (alert for alert in alerts if alert["labels"]["alertname"] == "HivewireDeadLetters")
    assert dead_letters["annotations"]["summary"] == f"cart in {SYSTEM} gave up messages"
    assert "<" not in "".join(dead_letters["annotations"].values()), "a template went wrong"
