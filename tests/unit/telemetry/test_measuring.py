"""What a runtime counts of its messages."""

import time
from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from hivewire.telemetry import RuntimeMetrics
from hivewire.telemetry import metrics as declared


@pytest.fixture
def metrics(request: pytest.FixtureRequest) -> RuntimeMetrics:
    return RuntimeMetrics(request.node.name, component="worker", version="0")


@pytest.fixture
def value(metrics: RuntimeMetrics, request: pytest.FixtureRequest) -> Callable[..., float | None]:
    """Reads a sample of this test's system, after telling."""

    def read(name: str, **labels: str) -> float | None:
        metrics.tell()
        return REGISTRY.get_sample_value(f"hivewire_{name}", {"system": request.node.name, **labels})

    return read


def test_a_message_is_counted_once_however_often_it_is_tried(
    metrics: RuntimeMetrics, value: Callable[..., float | None]
) -> None:
    meter = metrics.message("a", "event", message_type="M", size_bytes=100, stored_at_ns=time.time_ns())
    meter.comes()
    assert value("inflight_messages", agent_type="a") == 1
    for _ in range(3):
        meter.begins()
        meter.retries()
    meter.finished("dead_letter")
    meter.finished("ok")
    meter.goes()
    assert value("messages_received_total", agent_type="a", message_type="M") == 1
    assert value("message_retries_total", agent_type="a") == 3
    assert value("message_queue_latency_seconds_count", agent_type="a") == 1
    assert value("messages_processed_total", agent_type="a", kind="event", result="dead_letter") == 1
    assert value("messages_processed_total", agent_type="a", kind="event", result="ok") == 0
    assert value("message_size_bytes_sum", direction="in") == 100
    assert value("inflight_messages", agent_type="a") == 0


def test_one_that_is_given_up_before_its_turn_was_received_and_waited_for_nothing(
    metrics: RuntimeMetrics, value: Callable[..., float | None]
) -> None:
    metrics.message("a", "event", message_type="M", size_bytes=1, stored_at_ns=1).finished("dead_letter")
    assert value("messages_received_total", agent_type="a", message_type="M") == 1
    assert value("message_queue_latency_seconds_count", agent_type="a") == 0


def test_a_clock_that_is_ahead_makes_no_negative_latency(
    metrics: RuntimeMetrics, value: Callable[..., float | None]
) -> None:
    metrics.message("a", "event", message_type="M", size_bytes=1, stored_at_ns=time.time_ns() + 60_000_000_000).begins()
    assert value("message_queue_latency_seconds_sum", agent_type="a") == 0


async def test_publishes_are_counted_by_the_head_of_their_topic(
    metrics: RuntimeMetrics, value: Callable[..., float | None]
) -> None:
    async def store() -> int:
        return 7

    async def fail() -> int:
        raise ValueError

    for topic in ("agent:rpc_request=a", "agent:rpc_request=b"):
        assert await metrics.publishing(store(), topic_type=topic, size_bytes=10) == 7
    with pytest.raises(ValueError):
        await metrics.publishing(fail(), topic_type="agent", size_bytes=10)
    assert value("messages_published_total", topic="agent:", result="ok") == 2
    assert value("messages_published_total", topic="agent", result="error") == 1
    assert value("publish_duration_seconds_count") == 2
    assert value("message_size_bytes_sum", direction="out") == 20


async def test_a_directory_that_is_gone_breaks_nothing_but_the_metrics(
    metrics: RuntimeMetrics, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*labels: str) -> None:
        raise FileNotFoundError("the directory is gone")

    monkeypatch.setattr(declared.MESSAGES_RECEIVED, "labels", fail)
    meter = metrics.message("a", "direct", message_type="M", size_bytes=1)
    meter.comes()
    meter.begins()
    meter.finished("ok")
    meter.goes()
    metrics.tell()
    metrics.end()
    assert [record.message for record in caplog.records] == ["the metrics can't be told"]
