"""Sees that the event stream is there, and that it is the one that this process works with.

A stream that was deleted is made again. The new one, made here or elsewhere, has the old one's name and begins anew, so
whatever was known by sequences is void.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hivewire.exceptions import HivewireError
from hivewire.nats.broker import JetStreamError
from hivewire.nats.event_stream import STREAM_NOT_FOUND, EventStream

log = logging.getLogger("hivewire.streams")

WATCH_EVERY_S = 3.0
_PAUSE_S = 0.2


class StreamWatch:
    """Watches the event stream while `run` runs.

    Args:
        provision: Makes the stream; several processes may do so at once.
        begin_anew: Called when `created` of the stream has changed, again until it has returned without an error.
    """

    def __init__(
        self,
        stream: EventStream,
        *,
        provision: Callable[[], Awaitable[object]],
        begin_anew: Callable[[], Awaitable[None]],
    ) -> None:
        self._stream = stream
        self._provision = provision
        self._begin_anew = begin_anew
        self._begun = stream.created

    async def run(self) -> None:
        """Look every few seconds, and when somebody doubts that the stream is the same, until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            try:
                async with asyncio.timeout(WATCH_EVERY_S):
                    await self._stream.doubted.wait()
            except TimeoutError:
                pass
            try:
                await self.step()
            except (HivewireError, JetStreamError) as error:
                log.warning("watching the event stream: %s", error)

    async def step(self) -> None:
        """Look once, and do what there is to do.

        Raises:
            HivewireError, JetStreamError: it has to be done again.
        """
        stream = self._stream
        stream.doubted.clear()
        try:
            state = await stream.look()
        except JetStreamError as error:
            if error.code != STREAM_NOT_FOUND:
                raise
            log.error("the event stream %s was deleted, with all events that nobody had handled yet", stream.name)
            await self._provision()
            state = await stream.look()
        stream.created = state.created
        if state.created != self._begun:
            log.error("%s is another stream since %s; all types begin in it anew", stream.name, state.created)
            await self._begin_anew()
            self._begun = state.created
