"""The session of this process: its entry among the leases, kept alive from a thread of its own.

The thread has its own event loop and its own connection, so a handler that blocks the event loop does not lose the
shards of its process, and its callers still see signs of life. When the event loop has stood still for a minute, the
thread falls silent, and others take over.

A session that was lost, because it could not be renewed in time, is never taken up again: a new one with a new id
follows it. How long it holds is decided by its `Lease`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.envelope import ReplyEnvelope, encode_reply
from hivewire.nats.formats import FORMAT, check_format
from hivewire.nats.lease import AGAIN_S, LOOP_STUCK_S, RENEW_EVERY_S, SESSION_TTL_S, Lease, is_stuck
from hivewire.nats.subjects import Subjects

log = logging.getLogger("hivewire.session")

SIGN_OF_LIFE_S = 2.0
_MARKER_S = 60

SessionState = Literal["serving", "draining"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What a process tells the others about itself: who it is, which types it serves, how many direct messages wait or
    run there, and how many it has received since it began."""

    session: str
    deployment: str
    instance: str
    state: SessionState
    types: tuple[str, ...] = ()
    calls: int = 0
    received: int = 0

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> SessionRecord:
        """Read a record.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is not such a record.
        """
        data: dict[str, Any] = json.loads(payload)
        check_format(data, f"the session {data.get('session')}")
        return cls(
            session=data["session"],
            deployment=data["deployment"],
            instance=data["instance"],
            state=data["state"],
            types=tuple(data.get("types", ())),
            calls=int(data.get("calls", 0)),
            received=int(data.get("received", 0)),
        )


def read_session(payload: bytes) -> SessionRecord | None:
    """Read a session's entry; None, and an error in the log, for one that can't be read."""
    try:
        return SessionRecord.from_json(payload)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("a session's entry can't be read: %r", error)
        return None


@dataclass(slots=True)
class _Shared:
    """What the event loop writes and the thread reads. Each field is replaced as a whole, or is a dict that only grows
    and shrinks by single operations."""

    state: SessionState = "serving"
    types: tuple[str, ...] = ()
    open_calls: dict[str, float] = field(default_factory=dict)
    loop_seen_at: float = 0.0
    received: int = 0


class SessionKeeper:
    """Holds the session of one runtime. `open`, then `announce` what it serves, then `close`.

    Args:
        on_lost: Called on the event loop that opened it, after a new session has taken the place of a lost one.
    """

    def __init__(
        self,
        url: str,
        subjects: Subjects,
        *,
        deployment: str,
        instance: str,
        on_lost: Callable[[], None],
        credentials: str | None = None,
    ) -> None:
        self._url = url
        self._credentials = credentials
        self._subjects = subjects
        self._deployment = deployment
        self._instance = instance
        self._on_lost = on_lost
        self._shared = _Shared()
        # Replaced as a whole, so what is new is not taken for what was valid.
        self._lease = Lease("")
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._renewed: list[concurrent.futures.Future[None]] = []

    @property
    def id(self) -> str:
        return self._lease.session

    def valid(self) -> bool:
        """Tell whether the session certainly still holds."""
        return not self._closing and self._lease.valid(time.monotonic())

    async def open(self, timeout: float = 15.0) -> None:
        """Start the thread and write the first lease.

        Raises:
            BrokerUnavailableError: it could not be written in time.
            AccessDeniedError: it may not be written.
        """
        self._main_loop = asyncio.get_running_loop()
        self.loop_is_alive()
        self._thread = threading.Thread(target=self._run_thread, name="hivewire-session", daemon=True)
        written = self._await_renewal()
        self._thread.start()
        await self._wait(written, timeout)

    async def announce(self, *, types: tuple[str, ...], state: SessionState = "serving", timeout: float = 15.0) -> None:
        """Write what this process serves now; others see it once this returns.

        Raises:
            BrokerUnavailableError: it could not be written in time.
        """
        self._shared.types = types
        self._shared.state = state
        written = self._await_renewal()
        self._nudge()
        await self._wait(written, timeout)

    async def close(self) -> None:
        """Delete the lease and end the thread, within a few seconds."""
        self._closing = True
        self._nudge()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 5.0)

    def loop_is_alive(self) -> None:
        """To be called by the event loop every second or so."""
        self._shared.loop_seen_at = time.monotonic()

    def call_received(self, reply: str) -> None:
        """Give signs of life to this reply subject until `call_ended`."""
        self._shared.open_calls[reply] = time.monotonic()
        self._shared.received += 1

    def call_ended(self, reply: str) -> None:
        self._shared.open_calls.pop(reply, None)

    def _await_renewal(self) -> concurrent.futures.Future[None]:
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._renewed.append(future)
        return future

    async def _wait(self, written: concurrent.futures.Future[None], timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await asyncio.wrap_future(written)
        except TimeoutError:
            raise BrokerUnavailableError(f"The session could not be written to NATS within {timeout:g} s") from None

    def _nudge(self) -> None:
        loop = self._thread_loop
        if loop is not None:
            # The thread may have ended between the two lines.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._wake.set)

    # In the thread

    def _run_thread(self) -> None:
        try:
            asyncio.run(self._keep())
        except Exception:
            log.exception("the session thread ended; this process will lose its shards")

    async def _keep(self) -> None:
        self._thread_loop = asyncio.get_running_loop()
        broker = Broker(
            self._url,
            name=f"hivewire {self._instance} session",
            credentials=self._credentials,
            inbox=self._subjects.replies(self._deployment),
        )
        while True:
            try:
                await broker.open()
                break
            except BrokerUnavailableError as error:
                if self._closing:
                    return
                log.warning("%s", error)
        try:
            # A new leader soon expires what is overdue, so who was there all the time has to be heard by then.
            bucket = Bucket(broker, self._subjects.leases_bucket, longest_pause_s=AGAIN_S)
            self._begin_session()
            sign_at = 0.0
            while not self._closing:
                now = time.monotonic()
                if self._wake.is_set() or now >= self._lease.renew_at:
                    self._wake.clear()
                    await self._renew(bucket)
                if now >= sign_at:
                    sign_at = now + SIGN_OF_LIFE_S
                    await self._give_signs(broker)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.01, min(self._lease.renew_at, sign_at) - time.monotonic())):
                        await self._wake.wait()
            await self._end_session(bucket)
        finally:
            await broker.close()

    def _begin_session(self) -> None:
        # The least id of all is that of the oldest process, so what only that one does is not for ever a newcomer's.
        self._lease = Lease(f"{int(time.time()):08x}{secrets.token_hex(8)}")

    async def _renew(self, bucket: Bucket) -> None:
        begun = time.monotonic()
        if is_stuck(begun, loop_seen_at=self._shared.loop_seen_at):
            log.error("the event loop has stood still for %g s; the session is not renewed", LOOP_STUCK_S)
            self._lease.unanswered(begun)
            return
        if self._lease.lost(begun):
            self._lose_session("not renewed in time")
        lease = self._lease
        waiting, self._renewed = self._renewed, []
        record = SessionRecord(
            session=lease.session,
            deployment=self._deployment,
            instance=self._instance,
            state=self._shared.state,
            types=self._shared.types,
            calls=len(self._shared.open_calls),
            received=self._shared.received,
        )
        lease.sent(begun)
        try:
            revision = await bucket.put(
                self._subjects.lease_key(self._deployment, lease.session),
                record.to_json(),
                revision=lease.revision,
                ttl_s=SESSION_TTL_S,
                timeout=RENEW_EVERY_S,
            )
        except WriteConflictError:
            lease.refused()
            self._lose_session("its entry is gone")
            self._lease.unanswered(time.monotonic())
        except (BrokerUnavailableError, JetStreamError) as error:
            log.warning("renewing the session: %s", error)
            lease.unanswered(time.monotonic())
        except AccessDeniedError as error:
            log.error("renewing the session: %s", error)
            lease.unanswered(time.monotonic())
            for future in waiting:
                if not future.done():
                    future.set_exception(error)
            waiting = []
        else:
            lease.acknowledged(time.monotonic(), revision=revision)
            if lease.valid(time.monotonic()):
                for future in waiting:
                    if not future.done():
                        future.set_result(None)
                return
        self._renewed = waiting + self._renewed

    def _lose_session(self, why: str) -> None:
        lost = self._lease
        self._begin_session()
        if not lost.was_valid:
            # Nobody here has taken anything in its name.
            return
        log.warning("session %s is lost (%s); a new one follows", lost.session, why)
        if self._main_loop is not None:
            self._main_loop.call_soon_threadsafe(self._on_lost)

    async def _give_signs(self, broker: Broker) -> None:
        now = time.monotonic()
        if is_stuck(now, loop_seen_at=self._shared.loop_seen_at):
            return
        headers, payload = encode_reply(ReplyEnvelope(status="alive"))
        for reply, received_at in list(self._shared.open_calls.items()):
            if now - received_at >= SIGN_OF_LIFE_S:
                try:
                    await broker.publish(reply, payload, headers=headers)
                except BrokerUnavailableError:
                    return

    async def _end_session(self, bucket: Bucket) -> None:
        try:
            key = self._subjects.lease_key(self._deployment, self._lease.session)
            await bucket.delete(key, revision=self._lease.revision, ttl_s=_MARKER_S, timeout=RENEW_EVERY_S)
        except (BrokerUnavailableError, AccessDeniedError, JetStreamError, WriteConflictError) as error:
            log.warning("ending the session: %s", error)
