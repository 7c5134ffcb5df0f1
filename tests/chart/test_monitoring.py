"""Monitors find the ports of pods, and rules and dashboards arrive as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from chart.conftest import ROOT, Render
from chart.test_rendering import one

ON = {"monitoring": {"enabled": True, "additionalLabels": {"release": "prometheus"}}}


def test_rules_arrive_as_they_are(render: Render) -> None:
    (rule,) = [each for each in render(ON) if each["kind"] == "PrometheusRule"]
    assert rule["spec"] == yaml.safe_load((ROOT / "k8s" / "monitoring" / "rules.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_the_operator_knows_by_which_labels_prometheus_selects(render: Render) -> None:
    def told(values: dict[str, Any]) -> str | None:
        operator = one(render(values), "Deployment", "hivewire-operator")
        env = operator["spec"]["template"]["spec"]["containers"][0]["env"]
        return next((each["value"] for each in env if each["name"] == "HIVEWIRE_MONITOR_LABELS"), None)

    assert told({}) is None
    assert told({"monitoring": {"additionalLabels": {"release": "a", "team": "b"}}}) == "release=a,team=b"


def test_prometheus_takes_the_rules(render: Render, tmp_path: Path) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("there is no promtool: apt-get install prometheus")
    (rule,) = [each for each in render(ON) if each["kind"] == "PrometheusRule"]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    subprocess.run([promtool, "check", "rules", file], check=True, timeout=30, capture_output=True)


def test_dashboards_arrive_as_they_are(render: Render) -> None:
    found = {
        name: json.loads(text)
        for each in render(ON)
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    there = (ROOT / "k8s" / "monitoring" / "dashboards").iterdir()
    assert found == {path.name: json.loads(path.read_text()) for path in there}


def test_a_monitor_finds_the_port_of_its_pods(render: Render) -> None:
    manifests = render(ON)
    monitors = [each for each in manifests if each["kind"] == "PodMonitor"]
    assert len(monitors) == 2
    for monitor in monitors:
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (pods,) = [
            each["spec"]["template"]
            for each in manifests
            if each["kind"] == "Deployment" and wanted <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert endpoint["port"] in {port["name"] for port in pods["spec"]["containers"][0]["ports"]}
