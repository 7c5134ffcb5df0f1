"""Looks at a namespace for several who ask, who share what was just seen."""

from __future__ import annotations

import asyncio
from typing import Final

from hivewire.nats.observation import Observation
from hivewire.nats.observer import Observer

_RECENT_S: Final = 0.9


class RecentObserver:
    """An observer that gives what was seen within the last second."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._looking = asyncio.Lock()
        self._seen: Observation | None = None
        self._seen_at = 0.0

    async def observe(self, *, timeout: float) -> Observation:
        """As `Observer.observe`."""
        async with self._looking:
            now = asyncio.get_running_loop().time()
            if self._seen is None or now - self._seen_at > _RECENT_S:
                self._seen = await self._observer.observe(timeout=timeout)
                self._seen_at = now
            return self._seen
