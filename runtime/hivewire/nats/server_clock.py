"""The server's clock: all due times are by it, and no process's own can be trusted to agree with it."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta

from hivewire.nats.broker import Broker

_TRUSTED_S = 10.0


class ServerClock:
    """Tells the time of the server that leads a stream. It is asked now and then; in between, the monotonic clock of
    this process counts."""

    def __init__(self, broker: Broker, stream: str) -> None:
        self._broker = broker
        self._stream = stream
        self._told: datetime | None = None
        self._told_at = 0.0
        self._asking = asyncio.Lock()
        broker.on_reconnect.append(self._forget)

    async def now(self) -> datetime:
        """Return the time, which is behind by no more than a request to the server takes.

        Raises:
            JetStreamError: there is no such stream.
            BrokerUnavailableError: nobody answers.
        """
        async with self._asking:
            if self._told is None or time.monotonic() - self._told_at > _TRUSTED_S:
                info = await self._broker.api(f"STREAM.INFO.{self._stream}")
                self._told, self._told_at = datetime.fromisoformat(info["ts"]), time.monotonic()
            return self._told + timedelta(seconds=time.monotonic() - self._told_at)

    def _forget(self) -> None:
        self._told = None
