"""Exports what is seen of the whole system, from the one process of a namespace that does what one of all has to do."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from hivewire.exceptions import HivewireError
from hivewire.nats.broker import JetStreamError
from hivewire.nats.observation import Observation
from hivewire.telemetry.system_metrics import SystemMetrics, SystemReading

log = logging.getLogger("hivewire.observer")

EVERY_S = 10.0
TIMEOUT_S = 20.0
"""Longer than the pause, so that a system that is too big for it is looked at less often, and not never."""
_LOOK_S = 1.0
_TELL_EVERY = 30


class Observing(Protocol):
    """What looks at a namespace."""

    async def observe(self, *, timeout: float) -> Observation:
        """As `hivewire.nats.observer.Observer.observe`."""
        ...


class SystemWatch:
    """Looks every ten seconds while `run` runs and this process is the one to do it."""

    def __init__(self, observer: Observing, metrics: SystemMetrics) -> None:
        self._observer = observer
        self._metrics = metrics
        self._failures = 0

    async def run(self, elected: Callable[[], bool], *, has_session: Callable[[], bool]) -> None:
        """Watch until cancelled.

        Args:
            elected: Tells whether this process is the one.
            has_session: Tells whether that can be told at all. When it can't, as the broker is away, the process stays
                what it was: its values stay, and the failures are counted.
        """
        loop = asyncio.get_running_loop()
        watches, next_look = False, 0.0
        try:
            while True:
                if elected():
                    watches = True
                elif watches and has_session():
                    watches, next_look = False, 0.0
                    self._metrics.withdraw()
                if watches and loop.time() >= next_look:
                    next_look = loop.time() + EVERY_S
                    await self.look()
                await asyncio.sleep(_LOOK_S)
        finally:
            self._metrics.withdraw()

    async def look(self) -> None:
        """Look once and export what is seen; when that fails, count it."""
        try:
            observation = await self._observer.observe(timeout=TIMEOUT_S)
        except (HivewireError, JetStreamError, TimeoutError) as error:
            self._count(str(error) or "no answer in time")
        except Exception:
            # Whatever is wrong here, messages go on.
            if not self._failures:
                log.exception("the system can't be read")
            self._count("a fault of this process")
        else:
            self._failures = 0
            self._metrics.show(reading_of(observation))

    def _count(self, why: str) -> None:
        if self._failures % _TELL_EVERY == 0:
            log.warning("the system can't be read, and its metrics stay as they were: %s", why)
        self._failures += 1
        self._metrics.count_error()


def reading_of(observation: Observation) -> SystemReading:
    """Return what is exported of an observation. All types have all values, except that only sharded ones have
    shards."""
    types = observation.types
    states: dict[tuple[str, str], int] = {
        (session.deployment, state): 0 for session in observation.sessions for state in ("serving", "draining")
    }
    states |= Counter((session.deployment, session.state) for session in observation.sessions)
    return SystemReading(
        lag_messages={each.name: each.lag_messages for each in types},
        oldest_event_s={each.name: each.oldest_event_s or 0.0 for each in types},
        shards_without_owner={
            each.name: each.shards_without_owner for each in types if each.shards_without_owner is not None
        },
        dead_letters={each.name: 0 for each in types} | dict(observation.dead_letters),
        sessions=states,
    )
