"""A subscription to a subject of core NATS, as the user of a connection has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from hivewire.nats.client import BrokerClient

log = logging.getLogger("hivewire.broker")

MessageHandler = Callable[[Msg], Awaitable[None]]
Run = Callable[[Coroutine[Any, Any, None]], Awaitable[object]]


class BrokerSubscription:
    """A subscription that outlives the client it was made with.

    `drain` and `unsubscribe` are for its user, `make` and `leave` for the connection. While one client takes over from
    another, both have it.

    Args:
        forget: Told that it has ended.
        run: Runs a drain to its end, whatever happens to who waits for it; not for ever.
    """

    def __init__(
        self,
        subject: str,
        queue: str,
        handler: MessageHandler,
        *,
        forget: Callable[[BrokerSubscription], None],
        run: Run,
    ) -> None:
        self._subject = subject
        self._queue = queue
        self._handler = handler
        self._forget = forget
        self._run = run
        self._live: dict[BrokerClient, Subscription] = {}
        self._ended = False
        # Who ends it waits for one that is just being made with a new client.
        self._making = asyncio.Lock()

    async def drain(self) -> None:
        """End interest, and return once everything that the server had sent was handed to the handler."""
        for live in await self._end():
            await self._run(self._drain(live))

    async def unsubscribe(self) -> None:
        """End interest at once."""
        for live in await self._end():
            try:
                await live.unsubscribe()
            except NatsError as error:
                log.debug("unsubscribing %s: %s", self._subject, error)

    async def make(self, client: BrokerClient) -> None:
        """Subscribe with a client too, unless it has ended."""
        async with self._making:
            if not self._ended and client not in self._live:
                self._live[client] = await client.subscribe(self._subject, self._queue, cb=self._handler)

    async def leave(self, client: BrokerClient) -> None:
        """End it with one client; with one that is connected, once all that it got was handed to the handler."""
        live = self._live.pop(client, None)
        if live is not None and client.is_connected:
            await self._drain(live)

    async def _end(self) -> list[Subscription]:
        self._ended = True
        self._forget(self)
        async with self._making:
            return list(self._live.values())

    async def _drain(self, live: Subscription) -> None:
        try:
            await live.drain()  # type: ignore[no-untyped-call]
        except (NatsError, TimeoutError) as error:
            log.debug("draining %s: %s", self._subject, error)
