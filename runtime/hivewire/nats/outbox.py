"""Messages that are sent from where nothing can be awaited."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from hivewire.exceptions import HivewireError
from hivewire.nats.broker import Broker

log = logging.getLogger("hivewire.outbox")


class Outbox:
    """Sends what was posted, in order, as long as `run` runs. What can't be sent at once is dropped, so only what may
    be lost, or is repeated, belongs here."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: deque[tuple[str, bytes, str, dict[str, str] | None]] = deque()
        self._posted = asyncio.Event()

    def post(self, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None) -> None:
        self._waiting.append((subject, payload, reply, headers))
        self._posted.set()

    async def run(self) -> None:
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._waiting:
                subject, payload, reply, headers = self._waiting.popleft()
                try:
                    await self._broker.publish(subject, payload, reply=reply, headers=headers)
                except HivewireError as error:
                    log.debug("a message to %s is dropped: %s", subject, error)
