"""The session of this process: its entry among the leases, kept alive from a thread of its own.

The thread has its own event loop and its own connection, so a handler that blocks the event loop does not lose the
shards of its process, and its callers still see signs of life. When the event loop has stood still for a minute, the
thread falls silent, and others take over.

A session that was lost, because it could not be renewed in time, is never taken up again: a new one with a new id
follows it. `valid` answers by the monotonic clock of before the last renewal, so it is never true for longer than the
server keeps the entry.
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

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.envelope import ReplyEnvelope, encode_reply
from hivewire.nats.subjects import Subjects

log = logging.getLogger("hivewire.session")

SESSION_TTL_S = 6
RENEW_EVERY_S = 2.0
SIGN_OF_LIFE_S = 2.0
LOOP_STUCK_S = 60.0
_MARGIN_S = 0.5
_MARKER_S = 60

SessionState = Literal["serving", "draining"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """What a process tells the others about itself: who it is, and which types it serves."""

    session: str
    deployment: str
    instance: str
    state: SessionState
    types: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> SessionRecord:
        data: dict[str, Any] = json.loads(payload)
        return cls(
            session=data["session"],
            deployment=data["deployment"],
            instance=data["instance"],
            state=data["state"],
            types=tuple(data.get("types", ())),
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


class SessionKeeper:
    """Holds the session of one runtime. `open`, then `announce` what it serves, then `close`.

    Args:
        on_lost: Called on the event loop that opened it, after a new session has taken the place of a lost one.
    """

    def __init__(
        self, url: str, subjects: Subjects, *, deployment: str, instance: str, on_lost: Callable[[], None]
    ) -> None:
        self._url = url
        self._subjects = subjects
        self._deployment = deployment
        self._instance = instance
        self._on_lost = on_lost
        self._shared = _Shared()
        self._session = ""
        self._valid_until = 0.0
        self._revision = 0
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._main_loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._closing = False
        self._renewed: list[concurrent.futures.Future[None]] = []

    @property
    def id(self) -> str:
        return self._session

    def valid(self) -> bool:
        """Tell whether the session certainly still holds."""
        return time.monotonic() < self._valid_until

    async def open(self, timeout: float = 15.0) -> None:
        """Start the thread and write the first lease.

        Raises:
            BrokerUnavailableError: it could not be written in time.
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
        self._valid_until = 0.0
        self._nudge()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, 5.0)

    def loop_is_alive(self) -> None:
        """To be called by the event loop every second or so."""
        self._shared.loop_seen_at = time.monotonic()

    def call_received(self, reply: str) -> None:
        """Give signs of life to this reply subject until `call_ended`."""
        self._shared.open_calls[reply] = time.monotonic()

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
        broker = Broker(self._url, name=f"hivewire {self._instance} session")
        while True:
            try:
                await broker.open()
                break
            except BrokerUnavailableError as error:
                if self._closing:
                    return
                log.warning("%s", error)
        try:
            bucket = Bucket(broker, self._subjects.leases_bucket)
            self._begin_session()
            renew_at = sign_at = 0.0
            while not self._closing:
                now = time.monotonic()
                if self._wake.is_set() or now >= renew_at:
                    self._wake.clear()
                    renew_at = now + (RENEW_EVERY_S if await self._renew(bucket) else 0.25)
                if now >= sign_at:
                    sign_at = now + SIGN_OF_LIFE_S
                    await self._give_signs(broker)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.01, min(renew_at, sign_at) - time.monotonic())):
                        await self._wake.wait()
            await self._end_session(bucket)
        finally:
            await broker.close()

    def _begin_session(self) -> None:
        self._session = secrets.token_hex(8)
        self._revision = 0
        self._valid_until = 0.0

    async def _renew(self, bucket: Bucket) -> bool:
        begun = time.monotonic()
        if begun - self._shared.loop_seen_at > LOOP_STUCK_S:
            log.error("the event loop has stood still for %g s; the session is not renewed", LOOP_STUCK_S)
            return False
        if self._revision and begun >= self._valid_until:
            self._lose_session("not renewed in time")
        waiting, self._renewed = self._renewed, []
        record = SessionRecord(
            session=self._session,
            deployment=self._deployment,
            instance=self._instance,
            state=self._shared.state,
            types=self._shared.types,
        )
        try:
            self._revision = await bucket.put(
                self._subjects.lease_key(self._deployment, self._session),
                record.to_json(),
                revision=self._revision,
                ttl_s=SESSION_TTL_S,
                timeout=RENEW_EVERY_S,
            )
        except WriteConflictError:
            self._lose_session("its entry is gone")
        except (BrokerUnavailableError, JetStreamError) as error:
            log.warning("renewing the session: %s", error)
        else:
            self._valid_until = begun + SESSION_TTL_S - _MARGIN_S
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            return True
        self._renewed = waiting + self._renewed
        return False

    def _lose_session(self, why: str) -> None:
        log.warning("session %s is lost (%s); a new one follows", self._session, why)
        self._begin_session()
        if self._main_loop is not None:
            self._main_loop.call_soon_threadsafe(self._on_lost)

    async def _give_signs(self, broker: Broker) -> None:
        now = time.monotonic()
        if now - self._shared.loop_seen_at > LOOP_STUCK_S:
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
            key = self._subjects.lease_key(self._deployment, self._session)
            await bucket.delete(key, revision=self._revision, ttl_s=_MARKER_S, timeout=RENEW_EVERY_S)
        except (BrokerUnavailableError, JetStreamError, WriteConflictError) as error:
            log.warning("ending the session: %s", error)
