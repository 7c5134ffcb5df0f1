"""What a worker tells Prometheus, as it serves real messages."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from broker.cli.commands import CommandLine, eventually, get, health_of
from hivewire import (
    AgentId,
    CancellationToken,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TopicId,
    rpc,
)
from hivewire.exceptions import AgentNotFoundError, DeadlineExceededError
from hivewire.telemetry import metrics

AGENTS = """
import asyncio
from collections.abc import AsyncIterator

from hivewire import AgentId, MessageContext, RetryPolicy, RoutedAgent, TopicId, event, rpc, type_subscription

failed = set()


@type_subscription("orders")
class Clerk(RoutedAgent):
    "Keeps what it saw."

    retry_policy = RetryPolicy(attempts=2, first_delay_s=0.01)

    def __init__(self) -> None:
        super().__init__("a clerk")
        self.seen = 0

    @event
    async def on_order(self, message: dict, ctx: MessageContext) -> None:
        if message["text"] == "poison" or (message["text"] == "fragile" and self.id not in failed):
            failed.add(self.id)
            raise ValueError(message["text"])
        self.seen += 1

    @rpc
    async def on_question(self, message: str, ctx: MessageContext) -> str:
        if message == "fail":
            raise ValueError(message)
        if message == "sleep":
            await asyncio.sleep(60)
        if message == "publish":
            await self.publish_message({"text": "done"}, TopicId("reports:daily", "secret-source"))
        if message == "ask":
            return await self.send_message("echo", AgentId("clerk", "secret-other"))
        return message

    @rpc
    async def on_number(self, message: int, ctx: MessageContext) -> AsyncIterator[int]:
        for number in range(message):
            yield number

    async def save_state(self):
        return {"seen": self.seen}

    async def load_state(self, state):
        self.seen = state["seen"]


async def setup(runtime):
    await Clerk.register(runtime, "clerk", Clerk)
"""

OF_THE_SYSTEM = {
    metrics.SHARD_LAG_MESSAGES,
    metrics.SHARD_OLDEST_EVENT,
    metrics.SHARDS_WITHOUT_OWNER,
    metrics.EVENTS_EXPIRED,
    metrics.DEAD_LETTERS,
    metrics.SESSIONS,
    metrics.LAG_READ_ERRORS,
}


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Page:
    """A worker's metrics."""

    health: str
    system: str

    def text(self) -> str:
        status, text = get(f"{self.health}/metrics")
        assert status == 200
        return text

    def samples(self) -> Samples:
        """Return those of the system, by name without prefix and labels without the system."""
        own = {("system", self.system)}
        return {
            (sample.name.removeprefix("hivewire_"), frozenset(sample.labels.items() - own)): sample.value
            for family in text_string_to_metric_families(self.text())
            for sample in family.samples
            if sample.labels.get("system") == self.system
        }

    def shows(self, expected: float, name: str, **labels: str) -> None:
        """Wait until a sample has a value."""
        key = name, frozenset(labels.items())
        eventually(lambda: self.samples().get(key) == expected, f"{key} does not become {expected}")


@pytest.fixture
def worker(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[Page]:
    """A process that serves the agents."""
    (tmp_path / "measured.py").write_text(AGENTS)
    line = CommandLine(nats_url, namespace, tmp_path)
    served = line.start("run", "measured:setup", "--health-port", "0")
    served.shows("is served")
    yield Page(health_of(served), namespace)
    line.kill_all()


async def send_all_kinds(caller: NatsAgentRuntime) -> None:
    """4 calls that are answered, of which one publishes and one asks another agent; one that fails, one that is
    cancelled, and a stream. 5 good events, one that is handled at the second attempt, and one that is given up."""
    clerk = AgentId("clerk", "secret-key")
    for text in ("hello", "publish", "ask"):
        await caller.send_message(text, clerk, message_id=f"secret-{text}")
    with pytest.raises(ValueError):
        await caller.send_message("fail", clerk)
    async with caller.stream_message(3, clerk) as stream:
        assert [number async for number in stream] == [0, 1, 2]
    token = CancellationToken()
    asking = asyncio.create_task(caller.send_message("sleep", clerk, cancellation_token=token))
    await asyncio.sleep(0.1)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    for number in range(5):
        await caller.publish_message({"text": "good"}, TopicId("orders", f"secret-{number}"))
    for text in ("fragile", "poison"):
        await caller.publish_message({"text": text}, TopicId("orders", f"secret-{text}"))


async def test_a_worker_counts_all_that_it_does(worker: Page, new_runtime: Callable[..., NatsAgentRuntime]) -> None:
    caller = new_runtime()
    await caller.connect()
    await send_all_kinds(caller)
    await asyncio.to_thread(check_counts, worker)
    shown = {
        family.name for family in text_string_to_metric_families(await asyncio.to_thread(worker.text)) if family.samples
    }
    declared = {each for each in vars(metrics).values() if isinstance(each, Counter | Gauge | Histogram)}
    assert {each._name for each in declared - OF_THE_SYSTEM} <= shown


def check_counts(worker: Page) -> None:
    clerk = {"agent_type": "clerk"}
    worker.shows(1, "messages_processed_total", **clerk, kind="event", result="dead_letter")
    worker.shows(1, "messages_processed_total", **clerk, kind="direct", result="cancelled")
    samples = worker.samples()

    def value(name: str, **labels: str) -> float:
        return samples[name, frozenset(labels.items())]

    results = [("direct", "ok"), ("direct", "error"), ("direct", "dropped"), ("event", "ok"), ("event", "duplicate")]
    processed = [value("messages_processed_total", **clerk, kind=kind, result=result) for kind, result in results]
    assert processed == [5, 1, 0, 6, 0]
    assert value("messages_received_total", **clerk, message_type="str") == 6
    assert value("messages_received_total", **clerk, message_type="int") == 1
    assert value("messages_received_total", **clerk, message_type="dict") == 7
    assert value("message_process_duration_seconds_count", **clerk) == 7 + 7 + 2
    assert value("message_queue_latency_seconds_count", **clerk) == 7
    assert value("message_retries_total", **clerk) == 1 + 1
    assert value("message_size_bytes_count", direction="in") == 14
    assert value("message_size_bytes_count", direction="out") == 1 + 1
    assert value("inflight_messages", **clerk) == 0
    assert value("handler_slots", state="used") == 0
    assert value("handler_slots", state="available") == 1000
    assert value("stream_chunks_total", **clerk) == 3
    assert value("messages_published_total", topic="reports:", result="ok") == 1
    assert value("messages_published_total", topic="reports:", result="error") == 0
    assert value("publish_duration_seconds_count") == 1
    assert value("rpc_duration_seconds_count", **clerk, result="ok") == 1
    assert value("agents_active", **clerk) == value("agent_activations_total", **clerk, result="ok") - value(
        "agent_passivations_total", **clerk
    )
    assert value("agent_activations_total", **clerk, result="error") == 0
    assert value("state_load_duration_seconds_count", **clerk) >= value("agent_activations_total", **clerk, result="ok")
    assert value("state_save_duration_seconds_count", **clerk) >= 7
    assert value("state_conflicts_total", **clerk) == 0
    assert value("shards_owned", **clerk) == value("lease_changes_total", **clerk, reason="claimed") == 16
    assert value("nats_connected") == 1
    assert value("nats_reconnects_total") == value("nats_slow_consumer_total") == 0
    assert "secret" not in worker.text()


class Sleeper(RoutedAgent):
    @rpc
    async def sleep(self, message: float, ctx: MessageContext) -> None:
        await asyncio.sleep(message)


async def test_callers_count_how_their_calls_end_and_runtimes_leave_no_levels_behind(
    new_runtime: Callable[..., NatsAgentRuntime], namespace: str
) -> None:
    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"hivewire_{name}", {"system": namespace, **labels})

    async def shows(expected: float, name: str, **labels: str) -> None:
        async with asyncio.timeout(15):
            while value(name, **labels) != expected:
                await asyncio.sleep(0.02)

    worker, caller = new_runtime(), new_runtime()
    await Sleeper.register(worker, "sleeper", lambda: Sleeper("sleeps"))
    await worker.start()
    await caller.connect()
    sleeper = AgentId("sleeper", "a")
    await caller.send_message(0.0, sleeper)
    with pytest.raises(DeadlineExceededError):
        await caller.send_message(60.0, sleeper, timeout=0.2)
    with pytest.raises(AgentNotFoundError):
        await caller.send_message(0.0, AgentId("stranger", "a"), timeout=0.2)
    for result in ("ok", "deadline"):
        await shows(1, "rpc_duration_seconds_count", agent_type="sleeper", result=result)
    await shows(1, "rpc_duration_seconds_count", agent_type="other", result="not_found")
    await shows(2, "nats_connected")
    await shows(1, "agents_active", agent_type="sleeper")
    asking = asyncio.create_task(caller.send_message(0.5, sleeper))
    await shows(1, "inflight_messages", agent_type="sleeper")
    await shows(1, "handler_slots", state="used")
    await asking
    await asyncio.gather(worker.stop(), caller.stop())
    assert value("lease_changes_total", agent_type="sleeper", reason="released") == 16
    gauges = [
        sample
        for family in REGISTRY.collect()
        for sample in family.samples
        if family.type == "gauge" and sample.labels.get("system") == namespace
    ]
    assert {sample.name for sample in gauges if sample.value} == {"hivewire_build_info"}
