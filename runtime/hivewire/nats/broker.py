"""One connection to NATS, and the only place that knows the client library.

It adds what the runtime needs and the library lacks: one multiplexed inbox for everything that is answered, errors of
the server as Hivewire's own, a size check that counts the headers, requests that end when the connection does, and a
new client when the library has closed the old one for good. Subscriptions are remembered here and made anew with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
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
)
from nats.errors import Error as NatsError

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError, MessageTooLargeError
from hivewire.nats.embedded import EmbeddedServer

log = logging.getLogger("hivewire.broker")

MINIMUM_VERSION = (2, 14, 4)
"""The oldest server: earlier ones have faults in the JetStream features that the runtime stands on."""

NO_RESPONDERS = "503"
_HEADER_SLACK_BYTES = 1024
CONNECT_TIMEOUT_S = 5.0
_FLUSH_TIMEOUT_S = 10.0
_DRAIN_TIMEOUT_S = 5.0
_NEVER_S = 1_000_000
_PERMISSION = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]+)\"", re.IGNORECASE)

MessageHandler = Callable[[Msg], Awaitable[None]]


class JetStreamError(Exception):
    """The JetStream API answered with an error; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} (JetStream error {code})")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where a stream stored a message. `duplicate`: it was there before, and `sequence` is that one's."""

    sequence: int
    duplicate: bool


class Waiter:
    """Someone who waits on the multiplexed inbox. `on_message` is called for each message to its token."""

    __slots__ = ("on_error", "on_message", "subject")

    def __init__(self, subject: str, on_message: Callable[[Msg], None], on_error: Callable[[Exception], None]) -> None:
        self.subject = subject
        self.on_message = on_message
        self.on_error = on_error


class BrokerSubscription:
    """A subscription that outlives the client it was made with."""

    def __init__(self, broker: Broker, subject: str, queue: str, handler: MessageHandler) -> None:
        self._broker = broker
        self._subject = subject
        self._queue = queue
        self._handler = handler
        self._live: Subscription | None = None

    async def _make(self, client: Client) -> None:
        self._live = await client.subscribe(self._subject, self._queue, cb=self._handler)

    async def drain(self) -> None:
        """End interest, and return once everything that the server had sent was handed to the handler."""
        self._broker._subscriptions.discard(self)
        if self._live is not None:
            draining = asyncio.create_task(self._drain(self._live), name="hivewire: drain")
            self._broker._uncancellable.add(draining)
            draining.add_done_callback(self._broker._uncancellable.discard)
            await asyncio.wait([draining], timeout=_DRAIN_TIMEOUT_S)

    async def _drain(self, live: Subscription) -> None:
        try:
            await live.drain()  # type: ignore[no-untyped-call]
        except (NatsError, TimeoutError) as error:
            log.debug("draining %s: %s", self._subject, error)

    async def unsubscribe(self) -> None:
        """End interest at once."""
        self._broker._subscriptions.discard(self)
        if self._live is not None:
            try:
                await self._live.unsubscribe()
            except NatsError as error:
                log.debug("unsubscribing %s: %s", self._subject, error)


class Broker:
    """A connection that comes back. Make one with `open`, end it with `close`.

    `on_reconnect` and `on_disconnect` are called on the event loop each time. While `connected` is not set, requests
    wait for it until their deadline; nothing is buffered to be sent later.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._url = url
        self._name = name
        self._stack = AsyncExitStack()
        self._client = Client()
        self._closing = False
        self._subscriptions: set[BrokerSubscription] = set()
        self._uncancellable: set[asyncio.Task[None]] = set()
        self._waiters: dict[str, Waiter] = {}
        self._last_error: Exception | None = None
        self._rebuilding: asyncio.Task[None] | None = None
        self._inbox = f"_INBOX.{secrets.token_hex(8)}."
        self._numbers = iter(range(1, 1 << 62))
        self._id = secrets.token_hex(6)
        self.connected = asyncio.Event()
        self.reconnects = 0
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_disconnect: list[Callable[[], None]] = []
        self.server_url = ""

    async def open(self) -> None:
        """Connect, check the server, and start to listen on the inbox.

        Raises:
            ValueError: the URL's scheme is unknown.
            BrokerUnavailableError: nobody answers there, the login is refused, or the server is too old or has no
                JetStream.
        """
        if self._url == "embedded":
            server = await self._stack.enter_async_context(EmbeddedServer())
            self.server_url = server.url
        else:
            self.server_url = checked_url(self._url)
        try:
            await self._connect()
            await self._check_server()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Send what is still in the output buffer and disconnect. Open requests end with `BrokerUnavailableError`."""
        self._closing = True
        if self._rebuilding is not None:
            self._rebuilding.cancel()
        if self._client.is_connected:
            try:
                await self._client.flush(2)
            except (NatsError, TimeoutError) as error:
                log.debug("flushing at close: %s", error)
        await self._client.close()
        for task in list(self._uncancellable):
            task.cancel()
        await asyncio.gather(*self._uncancellable, return_exceptions=True)
        self.connected.clear()
        self._fail_waiters(BrokerUnavailableError("The connection to NATS was closed"))
        await self._stack.aclose()

    async def subscribe(self, subject: str, handler: MessageHandler, *, queue: str = "") -> BrokerSubscription:
        """Subscribe; the server knows of it after the next `flush`."""
        subscription = BrokerSubscription(self, subject, queue, handler)
        self._subscriptions.add(subscription)
        if self._client.is_connected:
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
            raise BrokerUnavailableError(f"NATS at {self.server_url} did not answer a ping: {error}") from error

    # Requests

    def new_token(self) -> str:
        """Return a new last token of a reply subject, unique over all processes."""
        return f"{self._id}-{next(self._numbers):x}"

    def listen(self, token: str, waiter: Waiter) -> str:
        """Hand messages to this token's reply subject, which is returned, to a waiter, until `forget`."""
        self._waiters[token] = waiter
        return self._inbox + token

    def new_inbox(self) -> str:
        """Return a subject for a subscription of its own, for messages that come under the subject they were stored
        with."""
        return f"{self._inbox}own.{self.new_token()}"

    def forget(self, token: str) -> None:
        self._waiters.pop(token, None)

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
                f"There is no connection to NATS at {self.server_url}: check that the server runs; the runtime keeps "
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
            raise BrokerUnavailableError(f"The connection to NATS at {self.server_url} is down") from error
        except MaxPayloadError as error:
            raise MessageTooLargeError(str(error)) from error

    async def request(
        self, subject: str, payload: bytes, *, timeout: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Send a request and return the first answer, a status message included.

        Raises:
            TimeoutError: no answer within `timeout` seconds.
            BrokerUnavailableError: the connection is down, or broke before the answer.
            AccessDeniedError: the server refused the subject.
        """
        future: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        token = self.new_token()
        reply = self.listen(
            token,
            Waiter(
                subject,
                lambda msg: None if future.done() else future.set_result(msg),
                lambda error: None if future.done() else future.set_exception(error),
            ),
        )
        try:
            async with asyncio.timeout(timeout):
                await self.publish(subject, payload, reply=reply, headers=headers)
                return await future
        finally:
            self.forget(token)

    async def api(
        self, operation: str, body: Mapping[str, Any] | None = None, *, timeout: float = 5.0
    ) -> dict[str, Any]:
        """Call the JetStream API, again and again while no leader answers, for at most `timeout` seconds.

        Raises:
            JetStreamError: the API refused.
            BrokerUnavailableError: nobody answered in time.
        """
        payload = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        message = await self._persist(f"$JS.API.{operation}", payload, None, timeout)
        answer: dict[str, Any] = json.loads(message.data)
        error = answer.get("error")
        if error:
            raise JetStreamError(int(error.get("err_code", 0)), str(error.get("description", error)))
        return answer

    async def store(
        self, subject: str, payload: bytes, *, headers: dict[str, str] | None = None, timeout: float = 30.0
    ) -> Stored:
        """Publish into a stream and return when it is stored, trying again for at most `timeout` seconds.

        Safe to repeat only with a `Nats-Msg-Id` or an expected sequence among the headers.

        Raises:
            JetStreamError: the stream refused, for instance because the expected sequence is another.
            BrokerUnavailableError: it was not acknowledged in time; whether it is stored is unknown.
            MessageTooLargeError, AccessDeniedError: it can't be stored at all.
        """
        message = await self._persist(subject, payload, headers, timeout)
        try:
            answer = json.loads(message.data)
            error = answer.get("error")
            if not error:
                return Stored(sequence=int(answer["seq"]), duplicate=bool(answer.get("duplicate")))
        except (ValueError, KeyError, AttributeError) as fault:
            raise BrokerUnavailableError(f"{subject} is not captured by a stream: check the provisioning") from fault
        raise JetStreamError(int(error.get("err_code", 0)), str(error.get("description", error)))

    async def _persist(self, subject: str, payload: bytes, headers: dict[str, str] | None, timeout: float) -> Msg:
        """Request until somebody answers: an election takes seconds, and a server that restarts too."""
        deadline = asyncio.get_running_loop().time() + timeout
        pause = 0.02
        while True:
            await self.wait_connected(deadline)
            remaining = deadline - asyncio.get_running_loop().time()
            why = "no stream leader answers"
            try:
                message = await self.request(subject, payload, headers=headers, timeout=min(5.0, max(remaining, 0.001)))
                if not is_status(message, NO_RESPONDERS):
                    return message
            except TimeoutError:
                why = "no answer"
            except BrokerUnavailableError as error:
                why = str(error)
            pause = min(pause * 2, 0.5)
            if asyncio.get_running_loop().time() + pause >= deadline:
                raise BrokerUnavailableError(f"NATS did not accept {subject} within {timeout:g} s: {why}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    # The connection

    async def _connect(self) -> None:
        client = Client()
        options: dict[str, Any] = {
            "servers": self.server_url.split(","),
            "name": self._name,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "connect_timeout": 3,
            "ping_interval": 10,
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
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(**options)
        except (TimeoutError, NatsError, OSError) as error:
            reason = self._last_error or error
            raise BrokerUnavailableError(
                f"Can't connect to NATS at {self.server_url} ({str(reason) or type(reason).__name__}): check the "
                "address and credentials, and that nats-server runs there with JetStream (nats-server -js)"
            ) from reason
        self._client = client
        self.connected.set()
        inbox = BrokerSubscription(self, f"{self._inbox}*", "", self._on_inbox)
        await inbox._make(client)
        for subscription in list(self._subscriptions):
            await subscription._make(client)
        await self.flush()

    async def _check_server(self) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor, version.patch) < MINIMUM_VERSION:
            wanted = ".".join(map(str, MINIMUM_VERSION))
            raise BrokerUnavailableError(
                f"nats-server at {self.server_url} is version {version.major}.{version.minor}.{version.patch}; "
                f"Hivewire needs {wanted} or later: upgrade the server"
            )
        try:
            message = await self.request("$JS.API.INFO", b"", timeout=5)
            answer = {} if is_status(message, NO_RESPONDERS) else json.loads(message.data)
        except TimeoutError:
            answer = {}
        if "error" in answer or not answer:
            raise BrokerUnavailableError(
                f"nats-server at {self.server_url} has no JetStream for this account: start it with -js, or enable "
                "JetStream in its configuration"
            )

    async def _on_inbox(self, message: Msg) -> None:
        waiter = self._waiters.get(message.subject[len(self._inbox) :])
        if waiter is not None:
            waiter.on_message(message)

    async def _on_error(self, error: Exception) -> None:
        self._last_error = error
        denied = _PERMISSION.search(str(error))
        if denied is None:
            log.info("NATS: %s", str(error) or type(error).__name__)
            return
        operation, subject = denied[1].lower(), denied[2]
        log.error("NATS refused a %s to %s", operation, subject)
        # The server tells the subject in another case than it was sent, and not who asked.
        for waiter in list(self._waiters.values()):
            if operation == "publish" and waiter.subject.lower() == subject.lower():
                waiter.on_error(
                    AccessDeniedError(f"NATS refused to publish to {waiter.subject}: the credentials don't allow it")
                )

    async def _on_disconnect(self) -> None:
        if self.connected.is_set() and not self._closing:
            log.warning("The connection to NATS at %s broke; reconnecting", self.server_url)
            self.connected.clear()
            for listener in self.on_disconnect:
                listener()

    async def _on_reconnect(self) -> None:
        self.reconnects += 1
        self.connected.set()
        log.warning("Reconnected to NATS at %s", self.server_url)
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

    def _fail_waiters(self, error: Exception) -> None:
        for waiter in list(self._waiters.values()):
            waiter.on_error(error)

    def _check_size(self, subject: str, payload: bytes, headers: dict[str, str] | None, limit: int) -> None:
        header_bytes = sum(len(name) + len(value.encode()) + 4 for name, value in (headers or {}).items()) + 14
        # Over the limit the server would close the connection, with everything that is under way on it.
        if len(payload) + header_bytes > limit:
            raise MessageTooLargeError(
                f"A message to {subject} has {len(payload)} bytes and {header_bytes} bytes of headers; the broker "
                f"takes {limit} bytes in all: send a reference to the data, or raise max_payload of nats-server"
            )


def checked_url(url: str) -> str:
    """Return the address to connect to.

    Raises:
        ValueError: the scheme is unknown.
    """
    addresses = []
    for address in url.split(","):
        parts = urlsplit(address.strip())
        if parts.scheme == "grpc":
            log.warning("%s is taken as the address of a NATS server: use nats://%s", address, parts.netloc)
            addresses.append(f"nats://{parts.netloc}")
        elif parts.scheme in ("nats", "tls", "ws", "wss") and parts.hostname:
            addresses.append(address.strip())
        else:
            raise ValueError(
                f"{address!r} is not a broker address: use nats://host:4222 or tls://host:4222 (several separated by "
                "commas), or 'embedded' for a server of its own"
            )
    return ",".join(addresses)


def is_status(message: Msg, status: str) -> bool:
    """Tell whether the server, not a peer, answered with this status."""
    return not message.data and message.headers is not None and message.headers.get("Status") == status
