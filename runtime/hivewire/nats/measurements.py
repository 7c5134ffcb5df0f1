"""Reads once a second what is only a number at a time, and tells Prometheus all that a runtime counts."""

from __future__ import annotations

import asyncio

from hivewire.agents.catalog import AgentCatalog
from hivewire.nats.broker import Broker
from hivewire.nats.serving import Serving
from hivewire.telemetry import RuntimeMetrics

_PERIOD_S = 1.0


class Measurements:
    """Those of one runtime, while `run` runs, until `end`."""

    def __init__(self, metrics: RuntimeMetrics, broker: Broker, catalog: AgentCatalog, serving: Serving) -> None:
        self._metrics = metrics
        self._broker = broker
        self._catalog = catalog
        self._serving = serving
        metrics.read = self._read

    async def run(self) -> None:
        while True:
            self._metrics.tell()
            await asyncio.sleep(_PERIOD_S)

    def end(self) -> None:
        """Tell what came since, and that nothing goes on here any more."""
        self._metrics.end()

    def _read(self) -> None:
        metrics, serving = self._metrics, self._serving
        metrics.nats_connected.value = int(self._broker.connected.is_set())
        metrics.nats_reconnects.count = self._broker.reconnects
        metrics.nats_slow_consumer.count = self._broker.dropped
        if serving.types:
            metrics.slots_used.value = serving.turns.slots.running
            metrics.slots_available.value = serving.turns.slots.free
        owned = serving.shards_owned()
        for agent_type, of_type in metrics.types.items():
            of_type.active.value = self._catalog.population[agent_type]
            of_type.shards_owned.value = owned[agent_type]
