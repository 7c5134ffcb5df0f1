"""What one process exports of the whole system, and takes back."""

import pytest
from prometheus_client import REGISTRY

from hivewire.telemetry.system_metrics import SystemMetrics, SystemReading

LAG, SESSIONS, ERRORS = "hivewire_shard_lag_messages", "hivewire_sessions", "hivewire_lag_read_errors_total"


def lag(system: str, agent_type: str) -> float | None:
    return REGISTRY.get_sample_value(LAG, {"system": system, "agent_type": agent_type})


def errors(system: str) -> float | None:
    return REGISTRY.get_sample_value(ERRORS, {"system": system})


def test_exactly_what_is_shown_is_exported(namespace: str) -> None:
    metrics = SystemMetrics(namespace)
    assert (lag(namespace, "a"), errors(namespace)) == (None, None)
    metrics.show(SystemReading(lag_messages={"a": 1, "b": 2}, sessions={("d", "serving"): 3}))
    assert (lag(namespace, "a"), lag(namespace, "b"), errors(namespace)) == (1, 2, 0)
    labels = {"system": namespace, "deployment": "d", "state": "serving"}
    assert REGISTRY.get_sample_value(SESSIONS, labels) == 3
    metrics.show(SystemReading(lag_messages={"a": 5}))
    assert (lag(namespace, "a"), lag(namespace, "b")) == (5, None)
    assert REGISTRY.get_sample_value(SESSIONS, labels) is None
    metrics.count_error()
    assert (lag(namespace, "a"), errors(namespace)) == (5, 1)
    metrics.withdraw()
    assert (lag(namespace, "a"), errors(namespace)) == (None, None)
    metrics.withdraw()


def test_in_a_shared_directory_what_is_taken_back_becomes_nothing(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = SystemMetrics(namespace)
    metrics.show(SystemReading(lag_messages={"a": 1}))
    with monkeypatch.context() as patched:
        patched.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
        metrics.withdraw()
    assert lag(namespace, "a") == 0
