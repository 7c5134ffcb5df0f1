"""Requests over a connection to NATS: to peers, to JetStream's API, and into streams.

Whatever is answered comes to one multiplexed inbox, so a request costs no subscription.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError
from hivewire.nats.connection import ASK_FOR_RIGHTS, Connection

MINIMUM_VERSION = (2, 14, 4)
"""The oldest server: earlier ones have faults in the JetStream features that the runtime stands on."""

NO_RESPONDERS = "503"

_ASK_AGAIN_S = 1.0
"""A leader that dies leaves requests without an answer, and while there is none the API says nothing at all."""

_STORE_AGAIN_S = 2.0
_LONGEST_PAUSE_S = 0.5


class JetStreamError(Exception):
    """The JetStream API answered with an error; `code` is its `err_code`."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(f"{description} (JetStream error {code})")
        self.code = code


class UnansweredError(BrokerUnavailableError):
    """A request went out and no answer came: whether it was carried out is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where a stream stored a message. `duplicate`: it was there before, and `sequence` is that one's."""

    sequence: int
    duplicate: bool


class Waiter:
    """Someone who waits on the multiplexed inbox. `on_message` is called for each message to its token."""

    __slots__ = ("on_error", "on_message", "reply", "subject")

    def __init__(self, subject: str, on_message: Callable[[Msg], None], on_error: Callable[[Exception], None]) -> None:
        self.subject = subject
        self.on_message = on_message
        self.on_error = on_error
        self.reply = ""


class _Request(Waiter):
    """Waits for one answer, and no longer than for the end of the connection."""

    __slots__ = ("future",)

    def __init__(self, subject: str) -> None:
        super().__init__(subject, self._on_message, self._on_error)
        self.future: asyncio.Future[Msg]
        self.renew()

    def renew(self) -> None:
        """Wait on, after a wait that was broken off."""
        self.future = asyncio.get_running_loop().create_future()

    def _on_message(self, message: Msg) -> None:
        if not self.future.done():
            self.future.set_result(message)

    def _on_error(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Broker(Connection):
    """A connection with requests on it. A request that the connection can't take waits for it until its deadline.

    `on_stray` is called with each message to a reply subject that nobody listens to any more.

    Args:
        inbox: What its reply subjects begin with, see `Subjects.replies`.
    """

    def __init__(self, url: str, *, name: str, credentials: str | None = None, inbox: str = "_INBOX") -> None:
        super().__init__(url, name=name, credentials=credentials)
        self.on_stray: Callable[[Msg], None] = _pass_over
        self._waiters: dict[str, Waiter] = {}
        self._inbox = f"{inbox}.{secrets.token_hex(8)}."
        self._numbers = iter(range(1, 1 << 62))
        self._id = secrets.token_hex(6)
        self.on_disconnect.append(self._end_requests)

    async def open(self) -> None:
        """Connect, start to listen on the inbox, and check the server.

        Raises:
            ValueError: the URL's scheme is unknown.
            BrokerUnavailableError: nobody answers there, the login is refused, the credentials file is unusable, or the
                server is too old or has no JetStream.
            AccessDeniedError: it may not listen on its inbox.
        """
        await super().open()
        try:
            await self.subscribe(f"{self._inbox}*.*", self._on_inbox)
            await self.flush()
            self._check_subscribed()
            await self._check_server()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect. Open requests end with `BrokerUnavailableError`."""
        await super().close()
        for waiter in list(self._waiters.values()):
            waiter.on_error(UnansweredError("The connection to NATS was closed"))

    def new_token(self) -> str:
        """Return a new last token of a reply subject, unique over all processes."""
        return f"{self._id}-{next(self._numbers):x}"

    def listen(self, token: str, waiter: Waiter) -> str:
        """Hand messages to this token's reply subject, which is returned, to a waiter, until `forget`."""
        self._waiters[token] = waiter
        # A message that comes twice must not be taken for one to the next waiter of the same token.
        waiter.reply = f"{self._inbox}{next(self._numbers):x}.{token}"
        return waiter.reply

    def new_inbox(self) -> str:
        """Return a subject for a subscription of its own, for messages that come under the subject they were stored
        with."""
        return f"{self._inbox}stream.own.{self.new_token()}"

    def forget(self, token: str) -> None:
        self._waiters.pop(token, None)

    async def request(
        self,
        subject: str,
        payload: bytes,
        *,
        timeout: float,
        headers: dict[str, str] | None = None,
        again_after: float | None = None,
    ) -> Msg:
        """Send a request and return the first answer, a status message included. With `again_after`, it is sent again
        whenever so many seconds have passed without an answer.

        Raises:
            TimeoutError: no answer within `timeout` seconds.
            BrokerUnavailableError: the connection is down; an `UnansweredError` if it broke before the answer.
            AccessDeniedError: the server refused the subject.
        """
        waiting = _Request(subject)
        token = self.new_token()
        reply = self.listen(token, waiting)
        sent = False
        try:
            async with asyncio.timeout(timeout):
                while True:
                    try:
                        await self.publish(subject, payload, reply=reply, headers=headers)
                    except BrokerUnavailableError as error:
                        raise (UnansweredError(str(error)) if sent else error) from error
                    sent = True
                    if again_after is None:
                        return await waiting.future
                    try:
                        async with asyncio.timeout(again_after):
                            return await waiting.future
                    except TimeoutError:
                        waiting.renew()
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
        message = await self._persist(f"$JS.API.{operation}", payload, None, timeout, _ASK_AGAIN_S)
        answer: dict[str, Any] = json.loads(message.data)
        error = answer.get("error")
        if error:
            raise JetStreamError(int(error.get("err_code", 0)), str(error.get("description", error)))
        return answer

    async def ask(self, subject: str, *, timeout: float = 5.0) -> Msg:
        """Send an empty request, again and again while nobody answers, for at most `timeout` seconds.

        The answer may be a status, though not that nobody listens.

        Raises:
            BrokerUnavailableError: nobody answered in time.
        """
        return await self._persist(subject, b"", None, timeout, _ASK_AGAIN_S)

    async def store(
        self,
        subject: str,
        payload: bytes,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = 30.0,
        longest_pause_s: float = _LONGEST_PAUSE_S,
    ) -> Stored:
        """Publish into a stream and return when it is stored, trying again for at most `timeout` seconds.

        While the stream has no leader, it is tried again after `longest_pause_s` at the latest. Safe to repeat only
        with a `Nats-Msg-Id` or an expected sequence among the headers.

        Raises:
            JetStreamError: the stream refused, for instance because the expected sequence is another.
            BrokerUnavailableError: it is not stored, as no stream could be reached in time.
            UnansweredError: it was not acknowledged in time; whether it is stored is unknown.
            MessageTooLargeError, AccessDeniedError: it can't be stored at all.
        """
        message = await self._persist(subject, payload, headers, timeout, _STORE_AGAIN_S, longest_pause_s)
        try:
            answer = json.loads(message.data)
            error = answer.get("error")
            if not error:
                return Stored(sequence=int(answer["seq"]), duplicate=bool(answer.get("duplicate")))
        except (ValueError, KeyError, AttributeError) as fault:
            raise BrokerUnavailableError(f"{subject} is not captured by a stream: check the provisioning") from fault
        raise JetStreamError(int(error.get("err_code", 0)), str(error.get("description", error)))

    async def _persist(
        self,
        subject: str,
        payload: bytes,
        headers: dict[str, str] | None,
        timeout: float,
        again_after: float,
        longest_pause_s: float = _LONGEST_PAUSE_S,
    ) -> Msg:
        """Request until somebody answers: an election takes seconds, and a server that restarts too."""
        deadline = asyncio.get_running_loop().time() + timeout
        pause = 0.02
        failure: type[BrokerUnavailableError] = BrokerUnavailableError
        while True:
            try:
                await self.wait_connected(deadline)
            except BrokerUnavailableError as error:
                raise failure(str(error)) from error
            remaining = deadline - asyncio.get_running_loop().time()
            why = "no stream leader answers"
            try:
                message = await self.request(
                    subject,
                    payload,
                    headers=headers,
                    timeout=min(5.0, max(remaining, 0.001)),
                    again_after=again_after,
                )
                if not is_status(message, NO_RESPONDERS):
                    return message
            except TimeoutError:
                why, failure = "no answer", UnansweredError
            except BrokerUnavailableError as error:
                why = str(error)
                if isinstance(error, UnansweredError):
                    failure = UnansweredError
            pause = min(pause * 2, longest_pause_s)
            if asyncio.get_running_loop().time() + pause >= deadline:
                raise failure(f"NATS did not accept {subject} within {timeout:g} s: {why}")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _check_server(self) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor, version.patch) < MINIMUM_VERSION:
            wanted = ".".join(map(str, MINIMUM_VERSION))
            raise BrokerUnavailableError(
                f"nats-server at {self.address} is version {version.major}.{version.minor}.{version.patch}; "
                f"Hivewire needs {wanted} or later: upgrade the server"
            )
        try:
            message = await self.request("$JS.API.INFO", b"", timeout=5)
            answer = {} if is_status(message, NO_RESPONDERS) else json.loads(message.data)
        except TimeoutError:
            answer = {}
        if "error" in answer or not answer:
            raise BrokerUnavailableError(
                f"nats-server at {self.address} has no JetStream for this account: start it with -js, or enable "
                "JetStream in its configuration"
            )

    async def _on_inbox(self, message: Msg) -> None:
        waiter = self._waiters.get(message.subject.rpartition(".")[2])
        if waiter is not None and waiter.reply == message.subject:
            waiter.on_message(message)
        else:
            self.on_stray(message)

    def _end_requests(self) -> None:
        # An answer that was on its way is lost with the connection.
        for waiter in list(self._waiters.values()):
            if isinstance(waiter, _Request):
                waiter.on_error(UnansweredError("The connection to NATS broke before the answer"))

    def _on_denied(self, operation: str, subject: str) -> None:
        # Who asked is not told.
        for waiter in list(self._waiters.values()):
            if operation == "publish" and waiter.subject.lower() == subject.lower():
                waiter.on_error(AccessDeniedError(f"NATS refused to publish to {waiter.subject}: {ASK_FOR_RIGHTS}"))


def _pass_over(message: Msg) -> None:
    """Most often an answer that came twice or too late."""


def is_status(message: Msg, status: str) -> bool:
    """Tell whether the server, not a peer, answered with this status."""
    return not message.data and message.headers is not None and message.headers.get("Status") == status
