"""How long calls take and how they end, as their callers see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from hivewire.exceptions import (
    AgentNotFoundError,
    BrokerUnavailableError,
    DeadlineExceededError,
    OverloadedError,
    StateConflictError,
    WorkerLostError,
)
from hivewire.model.call_limit import CallLimit
from hivewire.model.ids import AgentId
from hivewire.model.remote_errors import decode_error
from hivewire.nats.calls import Calls
from hivewire.nats.chunk_inlet import ChunkInlet
from hivewire.nats.envelope import CallEnvelope, ReplyEnvelope
from hivewire.nats.registry import Registry
from hivewire.telemetry import RuntimeMetrics
from hivewire.telemetry.label_values import OTHER
from hivewire.telemetry.tallies import Distribution

_RESULTS: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (asyncio.CancelledError, "cancelled"),
    (AgentNotFoundError, "not_found"),
    (DeadlineExceededError, "deadline"),
    (WorkerLostError, "worker_lost"),
    (OverloadedError, "overloaded"),
    (StateConflictError, "conflict"),
    (BrokerUnavailableError, "unavailable"),
)


class MeasuredCalls:
    """The calls of one process, measured."""

    def __init__(self, calls: Calls, registry: Registry, metrics: RuntimeMetrics) -> None:
        self._calls = calls
        self._registry = registry
        self._metrics = metrics
        # Most calls go well, and to types that were called before.
        self._went_well: dict[str, Distribution] = {}

    async def call(
        self,
        recipient: AgentId,
        envelope: CallEnvelope,
        *,
        limit: CallLimit,
        inlet: ChunkInlet | None = None,
        call_id: str | None = None,
        on_start: Callable[[], object] | None = None,
    ) -> tuple[ReplyEnvelope, ChunkInlet | None]:
        """Do as `Calls.call`, and measure it if it is a message."""
        if envelope.operation != "message":
            return await self._calls.call(recipient, envelope, limit=limit)
        begun = time.monotonic()
        self._metrics.sizes_out.observe(len(envelope.payload))
        result = "ok"
        try:
            reply, chunks = await self._calls.call(
                recipient, envelope, limit=limit, inlet=inlet, call_id=call_id, on_start=on_start
            )
            if reply.status == "error":
                result = result_of(decode_error(reply.payload))
            return reply, chunks
        except BaseException as error:
            result = result_of(error)
            raise
        finally:
            duration = self._went_well.get(recipient.type) if result == "ok" else None
            if duration is None:
                duration = self._duration(recipient.type, result)
            duration.observe(time.monotonic() - begun)

    def _duration(self, agent_type: str, result: str) -> Distribution:
        record = self._registry.get(agent_type)
        if record is None or record.shape is None:
            # Whoever sends may name types that there are not.
            return self._metrics.calls(OTHER, result)
        duration = self._metrics.calls(agent_type, result)
        if result == "ok":
            self._went_well[agent_type] = duration
        return duration


def result_of(error: BaseException) -> str:
    """Return how a call is counted that ended with an error."""
    return next((result for kind, result in _RESULTS if isinstance(error, kind)), "error")
