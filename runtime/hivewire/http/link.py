"""The connection to the gateway, made anew whenever it ends."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Final, Protocol

from hivewire.exceptions import BrokerUnavailableError, HivewireError, RuntimeStateError
from hivewire.http.channel import Channel, ChannelClosedError, IncomingRequest
from hivewire.http.dialling import ClientSocket, dial, socket_url
from hivewire.http.frames import Header
from hivewire.http.options import Token

__all__ = ["Link", "LinkUser"]

log = logging.getLogger("hivewire.http")

_FIRST_PAUSE_S: Final = 0.1
_LAST_PAUSE_S: Final = 5.0


class LinkUser(Protocol):
    """Who a link is for."""

    async def greet(self, channel: Channel) -> None:
        """Say who this is, and register everything, at the beginning of a connection."""
        ...

    async def serve(self, channel: Channel, request: IncomingRequest) -> tuple[Header, bytes]:
        """Answer a request of the gateway."""
        ...

    async def forget(self, channel: Channel) -> None:
        """Drop what a connection that has ended has left behind."""
        ...


class Link:
    """Connects, and connects again with growing pauses, until it is closed."""

    def __init__(self, url: str, user: LinkUser, *, token: Token | None) -> None:
        self._url = socket_url(url)
        self._user = user
        self._token = token
        self._usable = asyncio.Event()
        self._channel: Channel | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._closing = False
        self.trouble = ""

    @property
    def connected(self) -> bool:
        return self._usable.is_set()

    @property
    def current(self) -> Channel | None:
        """The connection that there is, also one that is about to end."""
        return self._channel

    async def open(self) -> None:
        """Connect for the first time, and keep connected from then on.

        Raises:
            AccessDeniedError: the gateway refuses the token, or what is registered.
            BrokerUnavailableError: no gateway answers there.
            ValueError: what is registered does not fit what is registered elsewhere.
        """
        channel, running = await self._connect()
        self._use(channel)
        self._keeping = asyncio.create_task(self._keep(channel, running), name="hivewire: link to the gateway")

    async def channel(self, timeout: float) -> Channel:
        """Return the connection, waiting for one if there is none.

        Raises:
            BrokerUnavailableError: there is none within `timeout` seconds.
            RuntimeStateError: it is closed.
        """
        if self._channel is not None and self._channel.closed is not None:
            # What follows when a connection has ended is under way.
            self._usable.clear()
        if not self._usable.is_set():
            try:
                async with asyncio.timeout(max(timeout, 0)):
                    await self._usable.wait()
            except TimeoutError:
                raise BrokerUnavailableError(
                    f"There was no connection to the gateway at {self._url} for {timeout:.3g} s: {self.trouble}"
                ) from None
        if self._channel is None:
            raise RuntimeStateError("The runtime stopped, or stops, and has left the gateway")
        return self._channel

    def leave(self, channel: Channel) -> None:
        """Begin nothing more on this connection: the gateway is about to end it."""
        channel.is_leaving = True
        if channel is self._channel:
            self.trouble = "it ends, and another one is looked for"
            self._usable.clear()

    def stay_away(self) -> None:
        """Connect no more once the present connection ends."""
        self._closing = True

    async def close(self) -> None:
        """End the connection. Who waits for one gets a `RuntimeStateError`."""
        self._closing = True
        channel, self._channel = self._channel, None
        self._usable.set()
        if channel is not None:
            channel.close("the runtime stopped")
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._connections:
            await asyncio.wait(list(self._connections))

    async def _connect(self) -> tuple[Channel, asyncio.Task[None]]:
        socket = await dial(self._url, self._token)
        channel = Channel(socket, lambda request: self._user.serve(channel, request))
        running = asyncio.create_task(self._carry(channel, socket), name="hivewire: connection to the gateway")
        self._connections.add(running)
        running.add_done_callback(self._connections.discard)
        try:
            await self._user.greet(channel)
        except BaseException as error:
            channel.close("it was refused")
            await socket.close()
            await asyncio.wait([running])
            if isinstance(error, ChannelClosedError):
                raise BrokerUnavailableError(f"The gateway at {self._url} went away: {error}") from error
            raise
        return channel, running

    async def _carry(self, channel: Channel, socket: ClientSocket) -> None:
        try:
            await channel.run()
        finally:
            await socket.close()

    def _use(self, channel: Channel) -> None:
        self._channel, self.trouble = channel, ""
        self._usable.set()

    async def _keep(self, channel: Channel, running: asyncio.Task[None]) -> None:
        while True:
            self._use(channel)
            await asyncio.wait([running])
            self._channel = None
            self._usable.clear()
            self.trouble = channel.closed.reason if channel.closed is not None else "it has ended"
            await self._user.forget(channel)
            if self._closing:
                self._usable.set()
                return
            log.warning("the connection to the gateway has ended: %s", self.trouble)
            channel, running = await self._connect_again()
            log.info("connected to the gateway again")

    async def _connect_again(self) -> tuple[Channel, asyncio.Task[None]]:
        pause = _FIRST_PAUSE_S
        while True:
            # Many workers lose a gateway at once, and must not come to the next one at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            try:
                return await self._connect()
            except (HivewireError, ValueError, OSError) as error:
                self.trouble = str(error)
                log.warning("%s; trying again", error)
            pause = min(pause * 2, _LAST_PAUSE_S)
