"""A client of the NATS library that comes back, whatever happens to it.

It adds what the library lacks: errors of the server as Hivewire's own, a size check that counts the headers, and a new
client when the library has closed the old one for good. Subscriptions are remembered here and made anew with it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    MaxPayloadError,
    OutboundBufferLimitError,
    SlowConsumerError,
)
from nats.errors import Error as NatsError

from hivewire.exceptions import BrokerUnavailableError, MessageTooLargeError
from hivewire.nats.embedded import EmbeddedServer

log = logging.getLogger("hivewire.broker")

CONNECT_TIMEOUT_S = 5.0
_FLUSH_TIMEOUT_S = 10.0
_DRAIN_TIMEOUT_S = 5.0
_NEVER_S = 1_000_000
_DROP_LOG_EVERY_S = 1.0
_HEADER_SLACK_BYTES = 1024
_CREDENTIALS = re.compile(r"(?<=//)[^/]*@|^[^/]*@")
_PERMISSION = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)

MessageHandler = Callable[[Msg], Awaitable[None]]


class Connection:
    """A connection that comes back. Make one with `open`, end it with `close`.

    `on_reconnect` and `on_disconnect` are called on the event loop each time. While `connected` is not set, nothing can
    be sent; nothing is buffered to be sent later. `dropped` counts the messages that came faster than they were taken.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._stack = AsyncExitStack()
        self._client = _Client()
        self._closing = False
        self._subscriptions: set[BrokerSubscription] = set()
        self._uncancellable: set[asyncio.Task[None]] = set()
        self._last_error: Exception | None = None
        self._rebuilding: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()
        self._drop_logged_at = float("-inf")
        self.reconnects = 0
        self.dropped = 0
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []
        self.server_url = ""

    @property
    def address(self) -> str:
        """The server's address as texts may show it: without user and password."""
        return _without_credentials(self.server_url)

    async def open(self) -> None:
        """Connect.

        Raises:
            ValueError: the URL's scheme is unknown.
            BrokerUnavailableError: nobody answers there, or the login is refused.
        """
        if self._url == "embedded":
            server = await self._stack.enter_async_context(EmbeddedServer())
            self.server_url = server.url
        else:
            self.server_url = checked_url(self._url)
        try:
            await self._connect()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Send what is still in the output buffer and disconnect."""
        self._closing = True
        if self._rebuilding is not None:
            self._rebuilding.cancel()
        if self._client.is_connected:
            try:
                await self._client.flush(2)
            except (NatsError, TimeoutError) as error:
                log.debug("flushing at close: %s", error)
        if not self._client.is_connected:
            self._drop_output()
        await self._client.close_safely()
        for task in list(self._uncancellable):
            task.cancel()
        await asyncio.gather(*self._uncancellable, return_exceptions=True)
        self.connected.clear()
        await self._stack.aclose()

    async def subscribe(self, subject: str, handler: MessageHandler, *, queue: str = "") -> BrokerSubscription:
        """Subscribe; the server knows of it after the next `flush`."""
        subscription = BrokerSubscription(self, subject, queue, handler)
        self._subscriptions.add(subscription)
        # What is made while the library reconnects, it makes again with all others. A new client makes all.
        if self._client.is_connected or self._client.is_reconnecting:
            await subscription._make(self._client)
        return subscription

    async def flush(self) -> None:
        """Return when the server has taken everything that was sent before.

        Raises:
            BrokerUnavailableError: it did not within 10 s.
        """
        # A flush of the library that is cancelled or times out ends its read loop when the late answer comes. So it is
        # never cancelled, and has no deadline of its own.
        flushing = asyncio.create_task(self._client.flush(_NEVER_S), name="hivewire: flush")
        self._uncancellable.add(flushing)
        flushing.add_done_callback(self._uncancellable.discard)
        done, _ = await asyncio.wait([flushing], timeout=_FLUSH_TIMEOUT_S)
        error = next(iter(done)).exception() if done else TimeoutError("no answer")
        if error is not None:
            raise BrokerUnavailableError(f"NATS at {self.address} did not answer a ping: {error}") from error

    async def wait_connected(self, deadline: float) -> None:
        """Wait for the connection until `deadline` of the event loop's clock.

        Raises:
            BrokerUnavailableError: it passed.
        """
        try:
            async with asyncio.timeout_at(deadline):
                await self.connected.wait()
        except TimeoutError:
            raise BrokerUnavailableError(
                f"There is no connection to NATS at {self.address}: check that the server runs; the runtime keeps "
                "trying to reconnect"
            ) from None

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Hand one message to the connection.

        Raises:
            MessageTooLargeError: payload and headers together are over the server's limit.
            BrokerUnavailableError: the connection is down at this moment.
        """
        client = self._client
        if len(payload) + sum(map(len, (headers or {}).values())) + _HEADER_SLACK_BYTES > client.max_payload:
            self._check_size(subject, payload, headers, client.max_payload)
        try:
            await client.publish(subject, payload, reply, headers)
        except (OutboundBufferLimitError, ConnectionClosedError, ConnectionDrainingError) as error:
            raise BrokerUnavailableError(f"The connection to NATS at {self.address} is down") from error
        except MaxPayloadError as error:
            raise MessageTooLargeError(str(error)) from error

    async def _connect(self) -> None:
        client = _Client()
        options: dict[str, Any] = {
            "servers": self.server_url.split(","),
            "name": self._name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "connect_timeout": 3,
            # A server that stands still is found when the third ping is due.
            "ping_interval": 9,
            "max_outstanding_pings": 2,
            # What can't be sent at once is refused: a message from a buffer could run long after its deadline.
            "pending_size": 0,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnect,
            "reconnected_cb": self._on_reconnect,
            "closed_cb": self._on_closed,
        }
        self._last_error = None
        try:
            # The library tries for ever; at the start a wrong address should be told soon.
            await _within(CONNECT_TIMEOUT_S, client.connect(**options))
        except (TimeoutError, NatsError, OSError) as error:
            reason = self._last_error or error
            await client.close_safely()
            raise BrokerUnavailableError(
                f"Can't connect to NATS at {self.address} ({str(reason) or type(reason).__name__}): check the "
                "address and credentials, and that nats-server runs there with JetStream (nats-server -js)"
            ) from reason
        self._client = client
        self.connected.set()
        for subscription in list(self._subscriptions):
            await subscription._make(client)
        await self.flush()

    def _on_denied(self, operation: str, subject: str) -> None:
        """Told when the server refused a publish or a subscription; it gives the subject in lower case."""

    async def _on_error(self, error: Exception) -> None:
        # What the server said tells more than how the connection ended then.
        if not (isinstance(self._last_error, NatsError) and isinstance(error, OSError)):
            self._last_error = error
        if isinstance(error, SlowConsumerError):
            self._count_dropped(error.subject)
            return
        denied = _PERMISSION.search(str(error))
        if denied is None:
            log.info("NATS: %s", str(error) or type(error).__name__)
            return
        log.error("NATS refused a %s to %s", denied[1].lower(), denied[2])
        self._on_denied(denied[1].lower(), denied[2])

    def _count_dropped(self, subject: str) -> None:
        self.dropped += 1
        now = asyncio.get_running_loop().time()
        if now - self._drop_logged_at >= _DROP_LOG_EVERY_S:
            self._drop_logged_at = now
            log.error(
                "a message on %s was dropped, %d in all: this process does not take them as fast as they come",
                subject,
                self.dropped,
            )

    def _drop_output(self) -> None:
        # What the library had not written yet, it would write to the next connection, however late that comes; and it
        # fails to close a broken one with something left.
        self._client._pending = []
        self._client._pending_data_size = 0

    async def _on_disconnect(self) -> None:
        self._drop_output()
        if self.connected.is_set() and not self._closing:
            log.warning("The connection to NATS at %s broke; reconnecting", self.address)
            self.connected.clear()
            for listener in self.on_disconnect:
                listener()

    async def _on_reconnect(self) -> None:
        self.reconnects += 1
        self.connected.set()
        log.warning("Reconnected to NATS at %s", self.address)
        for listener in self.on_reconnect:
            listener()

    async def _on_closed(self) -> None:
        # After most protocol errors the library closes for good, whatever its reconnect settings say.
        if not self._closing and self._rebuilding is None and self._client.is_closed:
            await self._on_disconnect()
            self._rebuilding = asyncio.create_task(self._rebuild(), name="hivewire: new NATS client")

    async def _rebuild(self) -> None:
        while True:
            try:
                await self._connect()
            except BrokerUnavailableError as error:
                log.warning("%s", error)
                await asyncio.sleep(0.5)
            else:
                self._rebuilding = None
                await self._on_reconnect()
                return

    def _check_size(self, subject: str, payload: bytes, headers: dict[str, str] | None, limit: int) -> None:
        header_bytes = sum(len(name) + len(value.encode()) + 4 for name, value in (headers or {}).items()) + 14
        # Over the limit the server would close the connection, with everything that is under way on it.
        if len(payload) + header_bytes > limit:
            raise MessageTooLargeError(
                f"A message to {subject} has {len(payload)} bytes and {header_bytes} bytes of headers; the broker "
                f"takes {limit} bytes in all: send a reference to the data, or raise max_payload of nats-server"
            )


class BrokerSubscription:
    """A subscription that outlives the client it was made with."""

    def __init__(self, connection: Connection, subject: str, queue: str, handler: MessageHandler) -> None:
        self._connection = connection
        self._subject = subject
        self._queue = queue
        self._handler = handler
        self._live: Subscription | None = None

    async def _make(self, client: Client) -> None:
        self._live = await client.subscribe(self._subject, self._queue, cb=self._handler)

    async def drain(self) -> None:
        """End interest, and return once everything that the server had sent was handed to the handler."""
        self._connection._subscriptions.discard(self)
        if self._live is not None:
            draining = asyncio.create_task(self._drain(self._live), name="hivewire: drain")
            self._connection._uncancellable.add(draining)
            draining.add_done_callback(self._connection._uncancellable.discard)
            await asyncio.wait([draining], timeout=_DRAIN_TIMEOUT_S)

    async def _drain(self, live: Subscription) -> None:
        try:
            await live.drain()  # type: ignore[no-untyped-call]
        except (NatsError, TimeoutError) as error:
            log.debug("draining %s: %s", self._subject, error)

    async def unsubscribe(self) -> None:
        """End interest at once."""
        self._connection._subscriptions.discard(self)
        if self._live is not None:
            try:
                await self._live.unsubscribe()
            except NatsError as error:
                log.debug("unsubscribing %s: %s", self._subject, error)


class _Client(Client):
    """The library's client, which reads the headers of every message in half the time, sends no password in the clear
    where TLS was asked for, pings after what it was to send before, and can be closed in every state."""

    async def close_safely(self) -> None:
        # Before its first attempt to connect it has nothing to close, and fails.
        if self._flush_queue is not None:
            try:
                await self.close()
            except OSError as error:
                log.debug("closing a connection that broke: %s", error)

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        # The library writes the ping past what waits in its buffer: a flush would miss the subscriptions before it.
        if self._pending and self._transport is not None:
            self._transport.writelines(self._pending)
            self._pending = []
            self._pending_data_size = 0
        await super()._send_ping(future)

    def _connect_command(self) -> bytes:
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise NatsError("the server does not ask for TLS: use nats:// to go without, or set up TLS in the server")
        return super()._connect_command()

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers = {}
        for line in raw.decode(errors="replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers


async def _within(timeout_s: float, work: Coroutine[Any, Any, None]) -> None:
    """Run what may swallow a cancellation, and so outlive `asyncio.timeout`, for so long at the most."""
    task = asyncio.create_task(work, name="hivewire: connect")
    try:
        await asyncio.wait([task], timeout=timeout_s)
    finally:
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=0.1)
    if task.cancelled():
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    task.result()


def checked_url(url: str) -> str:
    """Return the address to connect to.

    Raises:
        ValueError: the scheme is unknown.
    """
    addresses = []
    for address in url.split(","):
        parts = urlsplit(address.strip())
        if parts.scheme == "grpc":
            shown = _without_credentials(parts.netloc)
            log.warning("grpc://%s is taken as the address of a NATS server: use nats://%s", shown, shown)
            addresses.append(f"nats://{parts.netloc}")
        elif parts.scheme in ("nats", "tls", "ws", "wss") and parts.hostname:
            addresses.append(address.strip())
        else:
            raise ValueError(
                f"{_without_credentials(address)!r} is not a broker address: use nats://host:4222 or tls://host:4222 "
                "(several separated by commas), or 'embedded' for a server of its own"
            )
    return ",".join(addresses)


def _without_credentials(url: str) -> str:
    return ",".join(_CREDENTIALS.sub("", address) for address in url.split(","))
