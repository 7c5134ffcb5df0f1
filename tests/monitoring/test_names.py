"""Dashboards and rules name only metrics and labels that processes export."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from broker.cli.commands import CommandLine
from gateway.processes import GatewayProcess
from hivewire.telemetry import metrics
from hivewire_operator import metrics as operator_metrics
from k8s.monitoring.source.rules import RECORDINGS
from monitoring.nats_exporter import allowed
from monitoring.queries import Located, filled, named, outer_labels, panel_queries, rule_queries, variable_queries
from monitoring.shop import GATEWAY, metrics_port

LABELS_OF_SCRAPES = {"job", "instance", "namespace", "pod"}
"""What Prometheus adds to each series; the last two where it finds its targets in Kubernetes."""
OF_PROMETHEUS = {"up": set(), "ALERTS": {"alertname", "alertstate", "severity"}}
Labels = dict[str, set[str]]
QUERIES = [*panel_queries(), *variable_queries(), *rule_queries()]


@pytest.fixture(scope="module")
def pages(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What a worker and a gateway export."""
    cli = CommandLine(nats_url, "names", tmp_path_factory.mktemp("names"))
    try:
        worker = cli.serve("setup", "--health-port", "0")
        (cli.directory / "gateway.toml").write_text(GATEWAY)
        gateway = GatewayProcess(cli, "--config", "gateway.toml")
        for path in ("topics/people/ada", "agents/greeter/ada"):
            httpx.post(f"{gateway.url}/v1/{path}", json="hello", timeout=20)
        answers = [httpx.get(f"{gateway.url}/openapi.json", timeout=20).status_code for _ in range(2)]
        assert answers == [200, 429]
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port(worker)}/metrics", timeout=5) as answer:
            yield [answer.read().decode(), gateway.metrics()]
    finally:
        cli.kill_all()


@pytest.fixture(scope="module")
def exported(pages: list[str]) -> Labels:
    """The labels of all series that there may be, by name."""
    live: Labels = {}
    for page in pages:
        for family in text_string_to_metric_families(page):
            for name in _series(family.name, family.type):
                live.setdefault(name, set())
            for sample in family.samples:
                live.setdefault(sample.name, set()).update(sample.labels)
    # What has counted nothing yet has no sample that would show its labels.
    declared = _declared(metrics)
    labels = {name: labels | declared.get(name, set()) for name, labels in live.items()}
    recorded = {rule.name: outer_labels(rule.expr) for rule in RECORDINGS}
    return {**labels, **_declared(operator_metrics), **recorded, **allowed(), **OF_PROMETHEUS}


def test_queries_name_only_what_is_exported(exported: Labels) -> None:
    # One test, as tests beside one another would each start processes.
    assert [unknown for query in QUERIES for unknown in _unknown(query, exported)] == []


def test_the_list_of_the_exporter_has_nothing_that_is_not_shown() -> None:
    shown = {name for query in QUERIES for name in named(filled(query.expr)).labels}
    assert allowed().keys() <= shown


def test_a_name_and_a_label_that_nobody_exports_are_found() -> None:
    expr = "sum by (agent) (rate(hivewire_messages_received_total{kind='x'}[5m])) / on (system) hivewire_lag"
    assert list(_unknown(Located(place="here", expr=expr), _declared(metrics))) == [
        "here: hivewire_messages_received_total has no ['agent', 'kind']",
        "here: no process exports hivewire_lag",
    ]


def _unknown(query: Located, exported: Labels) -> Iterator[str]:
    for name, labels in named(filled(query.expr)).labels.items():
        if name not in exported:
            yield f"{query.place}: no process exports {name}"
        elif unknown := labels - exported[name] - LABELS_OF_SCRAPES - _label_of_buckets(name):
            yield f"{query.place}: {name} has no {sorted(unknown)}"


def _series(name: str, kind: str) -> list[str]:
    match kind:
        case "counter":
            return [f"{name}_total"]
        case "histogram":
            return [f"{name}_bucket", f"{name}_count", f"{name}_sum"]
        case _:
            return [name]


def _declared(module: ModuleType) -> Labels:
    """Return the labels of a module's instruments, by the names of their series."""
    instruments = [one for one in vars(module).values() if hasattr(one, "_labelnames")]
    return {name: set(one._labelnames) for one in instruments for name in REGISTRY._collector_to_names[one]}


def _label_of_buckets(name: str) -> set[str]:
    return {"le"} if name.endswith("_bucket") else set()
