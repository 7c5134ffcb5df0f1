"""Counts and measures what one runtime does.

A message costs microseconds here, so what stands for an agent type is looked up once and kept, and nothing here waits,
locks or fails: what was counted is told to Prometheus by `RuntimeMetrics.tell`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeVar

from hivewire.telemetry import metrics
from hivewire.telemetry.label_values import LabelValues
from hivewire.telemetry.tallies import Distribution, Tallies, Tally

log = logging.getLogger("hivewire.metrics")

MessageKind = Literal["direct", "event"]
MessageResult = Literal["ok", "error", "cancelled", "dropped", "dead_letter", "duplicate"]
LeaseChange = Literal["claimed", "taken_over", "released", "lost"]

StoredT = TypeVar("StoredT")

_RESULTS: Final[tuple[tuple[MessageKind, MessageResult], ...]] = (
    ("direct", "ok"),
    ("direct", "error"),
    ("direct", "cancelled"),
    ("direct", "dropped"),
    ("event", "ok"),
    ("event", "dead_letter"),
    ("event", "dropped"),
    ("event", "duplicate"),
)
_LEASE_CHANGES: Final[tuple[LeaseChange, ...]] = ("claimed", "taken_over", "released", "lost")
_NANOSECONDS: Final = 1_000_000_000

# Of the process, as its runtimes share the metrics.
_message_types = LabelValues(100)
_topics = LabelValues(100)


class TypeMetrics:
    """The instruments of one agent type in one system. All are there from the start: a counter that appears with its
    first value has not grown, as Prometheus sees it."""

    def __init__(self, tallies: Tallies, system: str, agent_type: str) -> None:
        names = system, agent_type
        self._tallies = tallies
        self._names = names
        self._received: dict[str, Tally] = {}
        self.processed = {
            (kind, result): tallies.count(metrics.MESSAGES_PROCESSED, *names, kind, result) for kind, result in _RESULTS
        }
        self.duration = tallies.distribution(metrics.MESSAGE_PROCESS_DURATION, *names)
        self.queue_latency = tallies.distribution(metrics.MESSAGE_QUEUE_LATENCY, *names)
        self.retries = tallies.count(metrics.MESSAGE_RETRIES, *names)
        self.inflight = tallies.level(metrics.INFLIGHT_MESSAGES, *names)
        self.chunks = tallies.count(metrics.STREAM_CHUNKS, *names)
        self.activations = tallies.count(metrics.AGENT_ACTIVATIONS, *names, "ok")
        self.failed_activations = tallies.count(metrics.AGENT_ACTIVATIONS, *names, "error")
        self.passivations = tallies.count(metrics.AGENT_PASSIVATIONS, *names)
        self.active = tallies.level(metrics.AGENTS_ACTIVE, *names)
        self.state_load = tallies.distribution(metrics.STATE_LOAD_DURATION, *names)
        self.state_save = tallies.distribution(metrics.STATE_SAVE_DURATION, *names)
        self.state_conflicts = tallies.count(metrics.STATE_CONFLICTS, *names)
        self.shards_owned = tallies.level(metrics.SHARDS_OWNED, *names)
        self.lease_changes = {reason: tallies.count(metrics.LEASE_CHANGES, *names, reason) for reason in _LEASE_CHANGES}

    def received(self, message_type: str) -> Tally:
        """Return the one for a type of messages."""
        tally = self._received.get(message_type)
        if tally is None:
            label = _message_types.of(message_type)
            tally = self._received.get(label)
            if tally is None:
                tally = self._received[label] = self._tallies.count(metrics.MESSAGES_RECEIVED, *self._names, label)
        return tally


class MessageMeter:
    """Told of the stages of one message on its way through a process that has its agent; counts it once, however often
    it is tried.

    Args:
        stored_at_ns: When the broker stored it, in nanoseconds since 1970; 0 if that says nothing about how long it
            has waited.
    """

    __slots__ = ("_begun", "_finished", "_in", "_kind", "_message_type", "_of_type", "_size_bytes", "_stored_at_ns")

    def __init__(
        self,
        of_type: TypeMetrics,
        sizes_in: Distribution,
        kind: MessageKind,
        message_type: str,
        size_bytes: int,
        stored_at_ns: int,
    ) -> None:
        self._of_type = of_type
        self._in = sizes_in
        self._kind = kind
        self._message_type = message_type
        self._size_bytes = size_bytes
        self._stored_at_ns = stored_at_ns
        self._begun = False
        self._finished = False

    def comes(self) -> None:
        """It is in memory."""
        self._of_type.inflight.value += 1

    def begins(self) -> None:
        """A turn of it begins."""
        if self._begun:
            return
        self._take_in()
        if self._stored_at_ns:
            waited_s = time.time() - self._stored_at_ns / _NANOSECONDS
            self._of_type.queue_latency.observe(max(waited_s, 0.0))

    def retries(self) -> None:
        """It failed and is to be tried again."""
        self._of_type.retries.inc()

    def finished(self, result: MessageResult) -> None:
        """It is done with, for ever. What it is told first counts."""
        if self._finished:
            return
        self._finished = True
        if not self._begun:
            self._take_in()
        self._of_type.processed[self._kind, result].inc()

    def goes(self) -> None:
        """It is not in memory any more."""
        self._of_type.inflight.value -= 1

    def _take_in(self) -> None:
        self._begun = True
        self._of_type.received(self._message_type).inc()
        self._in.observe(self._size_bytes)


class RuntimeMetrics:
    """The instruments of one runtime in a system, which is a Hivewire namespace. `read` is called before each `tell`,
    to look at what is not counted as it happens."""

    def __init__(self, system: str, *, component: str, version: str) -> None:
        self._system = system
        self._build = (component, version)
        self._tallies = Tallies()
        self._failed = False
        self.read: Callable[[], None] = _pass_over
        self._calls: dict[tuple[str, str], Distribution] = {}
        self._published: dict[str, tuple[Tally, Tally]] = {}
        self.types: dict[str, TypeMetrics] = {}
        tallies = self._tallies
        self.sizes_in = tallies.distribution(metrics.MESSAGE_SIZE, system, "in")
        self.sizes_out = tallies.distribution(metrics.MESSAGE_SIZE, system, "out")
        self.publish_duration = tallies.distribution(metrics.PUBLISH_DURATION, system)
        self.slots_used = tallies.level(metrics.HANDLER_SLOTS, system, "used")
        self.slots_available = tallies.level(metrics.HANDLER_SLOTS, system, "available")
        self.nats_connected = tallies.level(metrics.NATS_CONNECTED, system)
        self.nats_reconnects = tallies.count(metrics.NATS_RECONNECTS, system)
        self.nats_slow_consumer = tallies.count(metrics.NATS_SLOW_CONSUMER, system)

    def of_type(self, agent_type: str) -> TypeMetrics:
        """Return those of an agent type, the same ones each time."""
        found = self.types.get(agent_type)
        if found is None:
            found = self.types[agent_type] = TypeMetrics(self._tallies, self._system, agent_type)
        return found

    def message(
        self, agent_type: str, kind: MessageKind, *, message_type: str, size_bytes: int, stored_at_ns: int = 0
    ) -> MessageMeter:
        """Return what is told of the stages of a message to an agent here."""
        return MessageMeter(self.of_type(agent_type), self.sizes_in, kind, message_type, size_bytes, stored_at_ns)

    def calls(self, agent_type: str, result: str) -> Distribution:
        """Return that of the direct messages that were sent and ended so, the same one each time."""
        duration = self._calls.get((agent_type, result))
        if duration is None:
            duration = self._calls[agent_type, result] = self._tallies.distribution(
                metrics.RPC_DURATION, self._system, agent_type, result
            )
        return duration

    async def publishing(self, storing: Awaitable[StoredT], *, topic_type: str, size_bytes: int) -> StoredT:
        """Await the storing of an event, and return or raise what it does."""
        stored, failed = self._publishes_to(topic_type)
        begun = time.monotonic()
        try:
            answer = await storing
        except BaseException:
            failed.inc()
            raise
        self.publish_duration.observe(time.monotonic() - begun)
        self.sizes_out.observe(size_bytes)
        stored.inc()
        return answer

    def tell(self) -> None:
        """Give Prometheus what is new. What goes wrong is logged, once, and tried again with the next."""
        self.read()
        self._tell()

    def end(self) -> None:
        """Do that for the last time: gauges get back what was added to them."""
        self.read()
        self._tallies.end()
        self._tell()

    def _tell(self) -> None:
        try:
            metrics.BUILD_INFO.labels(self._system, *self._build).set(1)
            self._tallies.tell()
        except Exception:
            # A full disk, for instance, where processes share a directory.
            if not self._failed:
                log.exception("the metrics can't be told")
            self._failed = True
        else:
            self._failed = False

    def _publishes_to(self, topic_type: str) -> tuple[Tally, Tally]:
        head, colon, _ = topic_type.partition(":")
        topic = _topics.of(head + colon)
        found = self._published.get(topic)
        if found is None:
            names = self._system, topic
            found = self._published[topic] = (
                self._tallies.count(metrics.MESSAGES_PUBLISHED, *names, "ok"),
                self._tallies.count(metrics.MESSAGES_PUBLISHED, *names, "error"),
            )
        return found


def _pass_over() -> None:
    """There is nothing to look at yet."""
