"""A client of the NATS library that comes back, whatever happens to it.

It adds what the library lacks: errors of the server as Hivewire's own, a size check that counts the headers, and a new
client when the library has closed the old one for good, or when the credentials have changed. Subscriptions are
remembered here and made anew with it.

A client with new credentials takes over while the old one still works: it subscribes the same, in the same queue
groups, and only then the old one is drained. So of a queue group's messages none is lost and none comes twice. Messages
of other subscriptions may come twice in that moment, once over each client.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

from nats.errors import (
    ConnectionClosedError,
    ConnectionDrainingError,
    MaxPayloadError,
    OutboundBufferLimitError,
    SlowConsumerError,
)
from nats.errors import Error as NatsError

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError, MessageTooLargeError
from hivewire.nats.addresses import checked_url, without_password
from hivewire.nats.client import BrokerClient
from hivewire.nats.credentials import CredentialsFile
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.subscription import BrokerSubscription, MessageHandler
from hivewire.nats.trust import trusted

log = logging.getLogger("hivewire.broker")

CONNECT_TIMEOUT_S = 5.0
_FLUSH_TIMEOUT_S = 10.0
_DRAIN_TIMEOUT_S = 5.0
_NEVER_S = 1_000_000
_WATCH_EVERY_S = 1.0
_REBUILD_PAUSE_S = 0.5
_REFUSED_PAUSE_S = 5.0
_DROP_LOG_EVERY_S = 1.0
_HEADER_SLACK_BYTES = 1024
ASK_FOR_RIGHTS = (
    "the credentials don't allow it; what the user of a worker, a gateway or an operator needs is in "
    "docs/guides/connections.md, and on Kubernetes an AgentDeployment or the AgentSystem has to name the agent types"
)
_LONG_LOGIN_BYTES = 3_500
"""The server takes no line above 4096 bytes, unless its `max_control_line` says otherwise."""

_PERMISSION = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)


class Connection:
    """A connection that comes back. Make one with `open`, end it with `close`.

    `on_reconnect` and `on_disconnect` are called on the event loop each time; `on_reconnect` also when a client with
    new credentials took over, without a disconnect before. While `connected` is not set, nothing can be sent; nothing
    is buffered to be sent later. `login_trouble` tells why new credentials are not used yet. `dropped` counts the
    messages that came faster than they were taken.

    Args:
        credentials: The path of a NATS credentials file. It is read at every connect, and watched. An embedded server
            wants none.

    The environment's NATS_CA names a file of certificates that are trusted beside the system's.
    """

    def __init__(self, url: str, *, name: str, credentials: str | None = None) -> None:
        self._url = url
        self._name = name
        self._credentials = CredentialsFile(credentials) if credentials and url != "embedded" else None
        self._stack = AsyncExitStack()
        self._client = BrokerClient()
        self._closing = False
        self._subscriptions: set[BrokerSubscription] = set()
        self._uncancellable: set[asyncio.Task[None]] = set()
        self._last_error: Exception | None = None
        self._file_trouble = ""
        self.login_trouble = ""
        self._refused: set[str] = set()
        self._closed_for_good = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None
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
        return without_password(self.server_url)

    @property
    def credentials(self) -> str | None:
        """The path of the credentials file that is used."""
        return self._credentials.path if self._credentials is not None else None

    @property
    def max_payload(self) -> int:
        """How many bytes of payload and headers the server takes at once."""
        return int(self._client.max_payload)

    @property
    def trouble(self) -> str:
        """Why there is no connection; empty when there is one."""
        if self.connected.is_set():
            return ""
        reason = (self._credentials.trouble() if self._credentials is not None else "") or _text(self._last_error)
        return f"there is no connection to NATS at {self.address}{reason and f' ({reason})'}"

    async def open(self) -> None:
        """Connect.

        Raises:
            ValueError: the URL's scheme is unknown.
            BrokerUnavailableError: nobody answers there, the login is refused, or the file of credentials or of
                certificates is unusable.
        """
        if self._url == "embedded":
            server = await self._stack.enter_async_context(EmbeddedServer())
            self.server_url = server.url
        else:
            self.server_url = checked_url(self._url)
        try:
            self._client = await self._new_client()
        except BaseException:
            await self.close()
            raise
        self.connected.set()
        self._keeping = asyncio.create_task(self._keep(), name="hivewire: NATS client")

    async def close(self) -> None:
        """Send what is still in the output buffer and disconnect."""
        self._closing = True
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._client.is_connected:
            try:
                await self._client.flush(2)
            except (NatsError, TimeoutError) as error:
                log.debug("flushing at close: %s", error)
        if not self._client.is_connected:
            self._client.drop_output()
        await self._client.close_safely()
        for task in list(self._uncancellable):
            task.cancel()
        await asyncio.gather(*self._uncancellable, return_exceptions=True)
        self.connected.clear()
        await self._stack.aclose()

    async def subscribe(
        self, subject: str, handler: MessageHandler, *, queue: str = "", lasting: bool = True
    ) -> BrokerSubscription:
        """Subscribe; the server knows of it after the next `flush`.

        Without a queue group the handler may get a message twice when new credentials come. A subscription that is not
        `lasting` ends with its client: it is made anew by its user, who is told by `on_reconnect`.
        """
        subscription = BrokerSubscription(
            subject,
            queue,
            handler,
            forget=self._subscriptions.discard,
            run=partial(self._uncancelled, timeout_s=_DRAIN_TIMEOUT_S, name="hivewire: drain"),
        )
        if lasting:
            self._subscriptions.add(subscription)
        # What is made while the library reconnects, it makes again with all others. A new client makes all.
        if self._client.is_connected or self._client.is_reconnecting:
            await subscription.make(self._client)
        return subscription

    async def flush(self) -> None:
        """Return when the server has taken everything that was sent before.

        Raises:
            BrokerUnavailableError: it did not within 10 s.
        """
        await self._flush(self._client)

    def _check_subscribed(self) -> None:
        """Look, after a flush, whether the server refused a subscription.

        Raises:
            AccessDeniedError: it did.
        """
        if self._refused:
            raise AccessDeniedError(f"NATS refused a subscription to {min(self._refused)}: {ASK_FOR_RIGHTS}")

    async def _flush(self, client: BrokerClient) -> None:
        # A flush of the library that is cancelled or times out ends its read loop when the late answer comes. So it is
        # never cancelled, and has no deadline of its own.
        flushing = await self._uncancelled(client.flush(_NEVER_S), timeout_s=_FLUSH_TIMEOUT_S, name="hivewire: flush")
        error = flushing.exception() if flushing.done() else TimeoutError("no answer")
        if error is not None:
            raise BrokerUnavailableError(f"NATS at {self.address} did not answer a ping: {error}") from error

    async def _uncancelled(self, work: Coroutine[Any, Any, None], *, timeout_s: float, name: str) -> asyncio.Task[None]:
        """Wait for work that goes on when the time is up or the caller is cancelled; `close` ends it."""
        task = asyncio.create_task(work, name=name)
        self._uncancellable.add(task)
        task.add_done_callback(self._uncancellable.discard)
        await asyncio.wait([task], timeout=timeout_s)
        return task

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

    async def _new_client(self) -> BrokerClient:
        if self._credentials is not None:
            self._credentials.read()
        client = BrokerClient(self._credentials)
        options: dict[str, Any] = {
            "servers": self.server_url.split(","),
            "name": self._name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "connect_timeout": 3,
            # A server that stands still is found when the third ping is due, within 24 s.
            "ping_interval": 8,
            "max_outstanding_pings": 2,
            # What can't be sent at once is refused: a message from a buffer could run long after its deadline.
            "pending_size": 0,
            "error_cb": self._on_error,
            "disconnected_cb": partial(self._on_disconnect, client),
            "reconnected_cb": partial(self._on_reconnect, client),
            "closed_cb": partial(self._on_closed, client),
            "tls": trusted(),
        }
        self._last_error = None
        try:
            # The library tries for ever; at the start a wrong address should be told soon.
            await _within(CONNECT_TIMEOUT_S, client.connect(**options))
        except (TimeoutError, NatsError, OSError) as error:
            reason = self._last_error or error
            await client.close_safely()
            hint = (self._credentials.trouble() if self._credentials is not None else "") or (
                "check the address and credentials, and that nats-server runs there with JetStream (nats-server -js)"
            )
            if client.login is not None and len(client.login.jwt) > _LONG_LOGIN_BYTES:
                hint += f", with a max_control_line above the {len(client.login.jwt)} bytes of the login"
            raise BrokerUnavailableError(
                f"Can't connect to NATS at {self.address} ({_text(reason)}): {hint}"
            ) from reason
        except BaseException:
            await client.close_safely()
            raise
        return client

    async def _keep(self) -> None:
        """Replace the client when the library has closed it for good, or when there are new credentials."""
        pause = _WATCH_EVERY_S
        while True:
            self._closed_for_good.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._closed_for_good.wait()
            pause = _WATCH_EVERY_S
            lost = self._client.is_closed
            try:
                if lost or self._has_new_credentials():
                    await self._replace_client()
            except BrokerUnavailableError as error:
                if lost:
                    log.warning("%s", error)
                    pause = _REBUILD_PAUSE_S
                else:
                    self.login_trouble = str(error)
                    log.error("The new credentials don't work, so the old connection stays: %s", error)
                    pause = _REFUSED_PAUSE_S
            except Exception:
                log.exception("replacing the NATS client failed; it is tried again")

    def _has_new_credentials(self) -> bool:
        if self._credentials is None or not self._client.is_connected:
            # A client that reconnects reads them by itself.
            return False
        trouble = self._credentials.trouble()
        if trouble and trouble != self._file_trouble:
            log.warning("The connection to NATS goes on with the old credentials: %s", trouble)
        self._file_trouble = trouble
        if trouble or self._credentials.read() != self._client.login:
            return not trouble
        self.login_trouble = ""
        return False

    async def _replace_client(self) -> None:
        """Let a new client take over, then end the old one.

        Raises:
            BrokerUnavailableError: there can't be one now; the old one is as it was.
        """
        old, new = self._client, await self._new_client()
        try:
            await self._subscribe_all(new)
        except BaseException:
            await new.close_safely()
            raise
        self._client = new
        try:
            if self.connected.is_set():
                log.info("Connected to NATS at %s with new credentials", self.address)
                for listener in self.on_reconnect:
                    listener()
            else:
                await self._on_reconnect(new)
            await self._uncancelled(self._drain(old), timeout_s=_DRAIN_TIMEOUT_S, name="hivewire: old NATS client")
        finally:
            if not old.is_connected:
                old.drop_output()
            await old.close_safely()

    async def _subscribe_all(self, client: BrokerClient) -> None:
        made: set[BrokerSubscription] = set()
        before, self._refused = self._refused, set()
        try:
            # Others may be added meanwhile.
            while missing := self._subscriptions - made:
                for subscription in missing:
                    await subscription.make(client)
                made |= missing
                await self._flush(client)
        except (NatsError, OSError) as error:
            raise BrokerUnavailableError(f"Can't subscribe at {self.address}: {_text(error)}") from error
        if not client.is_connected:
            raise BrokerUnavailableError(f"The new connection to NATS at {self.address} broke at once")
        if (lost := self._refused - before) and self._client.is_connected:
            self._refused = before
            raise BrokerUnavailableError(f"NATS refuses them a subscription to {min(lost)}, unlike the old ones")

    async def _drain(self, client: BrokerClient) -> None:
        await asyncio.gather(*(subscription.leave(client) for subscription in self._subscriptions))
        # What is left are subscriptions that end with the client; their users have begun to drain them.
        try:
            if client.is_connected:
                await client.drain()
        except (NatsError, OSError, TimeoutError) as error:
            log.debug("draining the old client: %s", error)

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
        log.error("NATS refused a %s to %s: %s", denied[1].lower(), denied[2], ASK_FOR_RIGHTS)
        if denied[1].lower() == "subscription":
            self._refused.add(denied[2])
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

    async def _on_disconnect(self, client: BrokerClient) -> None:
        client.drop_output()
        if client is not self._client:
            return
        # The library keeps to itself what made it close for good.
        self._last_error = client.last_error or self._last_error
        if self.connected.is_set() and not self._closing:
            log.warning("The connection to NATS at %s broke (%s); reconnecting", self.address, _text(self._last_error))
            self.connected.clear()
            for listener in self.on_disconnect:
                listener()

    async def _on_reconnect(self, client: BrokerClient) -> None:
        if client is not self._client:
            return
        self.reconnects += 1
        self._last_error = None
        self.connected.set()
        log.warning("Reconnected to NATS at %s", self.address)
        for listener in self.on_reconnect:
            listener()

    async def _on_closed(self, client: BrokerClient) -> None:
        # After most protocol errors, and when the login expires, the library closes for good, whatever its reconnect
        # settings say.
        if client is self._client and not self._closing:
            await self._on_disconnect(client)
            self._closed_for_good.set()

    def check_size(self, subject: str, payload: bytes, headers: dict[str, str], *, reserve: int) -> None:
        """Refuse a message that leaves less than `reserve` bytes of what the server takes.

        Raises:
            MessageTooLargeError: it does.
        """
        limit = self._client.max_payload - reserve
        if len(payload) + sum(map(len, headers.values())) + _HEADER_SLACK_BYTES > limit:
            self._check_size(subject, payload, headers, limit)

    def _check_size(self, subject: str, payload: bytes, headers: dict[str, str] | None, limit: int) -> None:
        header_bytes = sum(len(name) + len(value.encode()) + 4 for name, value in (headers or {}).items()) + 14
        # Over the limit the server would close the connection, with everything that is under way on it.
        if len(payload) + header_bytes > limit:
            kept = self._client.max_payload - limit
            less = f", less {kept} that are kept for what its dead letter may have to add" if kept else ""
            raise MessageTooLargeError(
                f"A message to {subject} has {len(payload)} bytes and {header_bytes} bytes of headers; the broker "
                f"takes {self._client.max_payload} bytes in all{less}: send a reference to the data, or raise "
                "max_payload of nats-server"
            )


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


def _text(error: BaseException | None) -> str:
    return "" if error is None else str(error) or type(error).__name__
