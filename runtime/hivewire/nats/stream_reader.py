"""Reads a stream in order through an ephemeral consumer, and makes it anew whenever something may have been lost.

Without acknowledgements the server forgets a message once it is sent. So the reader trusts nothing: after a reconnect,
a status other than a heartbeat, a heartbeat that did not come, or a gap in the consumer's own numbering, it leaves that
consumer behind and makes another one at the sequence that its user names. The user therefore gets every message at
least once, in the order of the stream, and recognises by the sequence what it has seen.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.subscription import BrokerSubscription

log = logging.getLogger("hivewire.reader")

PULL_BATCH = 100
PULL_EXPIRES_S = 30.0
HEARTBEAT_S = 2.0
_SHORT_LIFE_S = 0.1
_SILENCE_S = HEARTBEAT_S * 2.2
_INACTIVE_THRESHOLD_S = 30.0
_NANOSECONDS = 1_000_000_000
_OTHER_FILTERS = "other filters"


@dataclass(frozen=True, slots=True)
class StreamMessage:
    """One stored message. `pending` counts those that match the reader's filters after it, `reply` takes its
    acknowledgement. `delivery` counts how often the consumer has sent it, `stored_at_ns` are nanoseconds since 1970 by
    the server's clock."""

    subject: str
    sequence: int
    headers: dict[str, str]
    payload: bytes
    pending: int
    reply: str
    delivery: int = 1
    stored_at_ns: int = 0

    @property
    def stored_at(self) -> datetime:
        """When it was stored, which the subject of its acknowledgement tells: that ends in the time and a count."""
        parts = self.reply.split(".")
        # The longer form with domain and account ends in one token more.
        nanoseconds = int(parts[7 if len(parts) == 9 else 9])
        return datetime.fromtimestamp(nanoseconds / 1e9, UTC)


class StreamReader:
    """Hands the messages of a stream to `on_message`, one by one, while `run` runs.

    Args:
        filters: Asked for the subjects each time a consumer is made.
        start: Asked for the first sequence each time a consumer is made; None stands for the last message
            of each subject.
        on_message: Called on the event loop in the order of the stream.
        room: How many messages more `on_message` would take now; call `wake` when it has grown.
        on_made: Called with the number of messages that wait, each time a consumer was made.
        verify: Awaited after a consumer was made, before anything is fetched; what it raises is as if none was made.
        on_failed: Called with the error each time none could be made.
        durable: Read through this consumer, which others share and which wants acknowledgements, and make none.
        tidy: Delete each consumer that is left behind, which takes a right of its own. Else the server does so after
            half a minute.
        headers_only: Fetch no payloads; the size of each is in the header `Nats-Msg-Size`.
        batch: How many messages are asked for at once.
    """

    def __init__(
        self,
        broker: Broker,
        stream: str,
        *,
        filters: Callable[[], Sequence[str]],
        start: Callable[[], int | None],
        on_message: Callable[[StreamMessage], None],
        room: Callable[[], int],
        on_made: Callable[[int], None] | None = None,
        verify: Callable[[], Awaitable[None]] | None = None,
        on_failed: Callable[[Exception], None] | None = None,
        durable: str | None = None,
        tidy: bool = False,
        headers_only: bool = False,
        batch: int = PULL_BATCH,
    ) -> None:
        self._broker = broker
        self._stream = stream
        self._filters = filters
        self._start = start
        self._on_message = on_message
        self._room = room
        self._on_made = on_made
        self._verify = verify
        self._on_failed = on_failed
        self._durable = durable
        self._tidy = tidy
        self._headers_only = headers_only
        self._batch = batch
        self._consumer_name = ""
        self._wake = asyncio.Event()
        self._why_broken = ""
        self._outstanding = 0
        self._starved = False
        self._next_number = 1
        self._heard_at = 0.0
        self._finish_by: float | None = None
        self._subscription: BrokerSubscription | None = None

    async def run(self) -> None:
        """Read until cancelled, or finished."""
        self._broker.on_reconnect.append(self._on_reconnect)
        pause = 0.0
        try:
            while self._finish_by is None:
                begun = asyncio.get_running_loop().time()
                try:
                    await self._read_with_one_consumer()
                    log.debug("reader of %s is made anew: %s", self._stream, self._why_broken)
                    lived = asyncio.get_running_loop().time() - begun
                    at_once = lived > _SHORT_LIFE_S or self._why_broken == _OTHER_FILTERS
                    pause = 0.0 if at_once else min(max(pause * 2, 0.005), 0.25)
                except (JetStreamError, BrokerUnavailableError, AccessDeniedError) as error:
                    log.warning("reader of %s: %s", self._stream, error)
                    if self._on_failed is not None:
                        self._on_failed(error)
                    pause = min(max(pause * 2, 0.05), 2.0)
                await self._stop_listening()
                await asyncio.sleep(pause)
        finally:
            await self._stop_listening()
            self._broker.on_reconnect.remove(self._on_reconnect)

    @property
    def starved(self) -> bool:
        """Whether nothing is asked for, as there was no room."""
        return self._starved

    def wake(self) -> None:
        """Look at the room again."""
        self._wake.set()

    def finish(self, within_s: float) -> None:
        """Fetch no more: `run` returns once what the server had promised is handed over, or when the time is up."""
        self._finish_by = asyncio.get_running_loop().time() + within_s
        self._wake.set()

    def remake(self) -> None:
        """Drop what is fetched but not handed over, and go on with a new consumer."""
        self._break("asked to")

    def change_filters(self) -> None:
        """Do the same without a pause, however often: other filters hold from here on."""
        self._break(_OTHER_FILTERS)

    async def is_drained(self) -> bool:
        """Ask the server whether everything that matches is handed over."""
        name = self._consumer_name
        if not name or self._why_broken:
            return False
        try:
            info = await self._broker.api(f"CONSUMER.INFO.{self._stream}.{name}")
        except JetStreamError:
            return False
        if self._why_broken or self._consumer_name != name:
            # Another consumer took its place meanwhile, perhaps with other filters.
            return False
        if self._durable is not None:
            return int(info["num_pending"]) + int(info["num_ack_pending"]) == 0
        delivered = int(info["delivered"]["consumer_seq"])
        return int(info["num_pending"]) == 0 and delivered == self._next_number - 1

    async def _read_with_one_consumer(self) -> None:
        self._why_broken = ""
        self._outstanding = 0
        self._next_number = 1
        name = self._consumer_name = self._durable or secrets.token_hex(8)
        inbox = self._broker.new_inbox()
        self._subscription = await self._broker.subscribe(inbox, self._on_inbox, lasting=False)
        if self._durable is None:
            made = await self._broker.api(f"CONSUMER.CREATE.{self._stream}.{name}", self._consumer(name), timeout=10.0)
            if self._on_made is not None:
                self._on_made(int(made.get("num_pending", 0)))
            if self._verify is not None:
                await self._verify()
        loop = asyncio.get_running_loop()
        self._heard_at = loop.time()
        while not self._why_broken and not self._is_finished(loop.time()):
            self._wake.clear()
            await self._pull(name, inbox)
            until = self._heard_at + _SILENCE_S if self._outstanding else None
            try:
                async with asyncio.timeout_at(until if self._finish_by is None else self._finish_by):
                    await self._wake.wait()
            except TimeoutError:
                if loop.time() - self._heard_at >= _SILENCE_S:
                    self._break("no heartbeat")

    def _is_finished(self, now: float) -> bool:
        return self._finish_by is not None and (self._outstanding <= 0 or now >= self._finish_by)

    def _consumer(self, name: str) -> dict[str, Any]:
        start = self._start()
        where: dict[str, Any] = (
            {"deliver_policy": "last_per_subject"}
            if start is None
            else {"deliver_policy": "by_start_sequence", "opt_start_seq": max(start, 1)}
        )
        config = {
            "name": name,
            "ack_policy": "none",
            "filter_subjects": list(self._filters()),
            "num_replicas": 1,
            "mem_storage": True,
            "inactive_threshold": int(_INACTIVE_THRESHOLD_S * _NANOSECONDS),
            **({"headers_only": True} if self._headers_only else {}),
            **where,
        }
        return {"stream_name": self._stream, "config": config, "action": "create"}

    async def _pull(self, name: str, inbox: str) -> None:
        room = min(self._room() - self._outstanding, self._batch)
        self._starved = room <= 0 and self._outstanding <= 0
        if self._finish_by is not None or room <= 0 or self._outstanding > self._batch // 2:
            return
        self._outstanding += room
        self._heard_at = asyncio.get_running_loop().time()
        body = b'{"batch":%d,"expires":%d,"idle_heartbeat":%d}' % (
            room,
            int(PULL_EXPIRES_S * _NANOSECONDS),
            int(HEARTBEAT_S * _NANOSECONDS),
        )
        await self._broker.publish(f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{name}", body, reply=inbox)

    async def _on_inbox(self, message: Msg) -> None:
        if self._why_broken and self._durable is None:
            return
        self._heard_at = asyncio.get_running_loop().time()
        headers = message.headers or {}
        parts = message.reply.split(".")
        # A stored message without a payload may have such a header too.
        if "Status" in headers and not message.data and len(parts) < 9:
            self._on_status(headers)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>, or the longer form with
        # domain and account hash before the stream and one token more at the end.
        offset = 0 if len(parts) == 9 else 2
        sequence, number, pending = int(parts[5 + offset]), int(parts[6 + offset]), int(parts[8 + offset])
        if number != self._next_number and self._durable is None:
            self._break(f"gap: message {number} after {self._next_number - 1}")
            return
        self._next_number += 1
        self._outstanding -= 1
        if self._outstanding <= self._batch // 2:
            self._wake.set()
        delivery, stored_at_ns = int(parts[4 + offset]), int(parts[7 + offset])
        self._on_message(
            StreamMessage(
                message.subject, sequence, headers, message.data, pending, message.reply, delivery, stored_at_ns
            )
        )

    def _on_status(self, headers: dict[str, str]) -> None:
        match headers["Status"]:
            case "100":
                pass
            case "408":
                self._outstanding -= int(headers.get("Nats-Pending-Messages", self._outstanding))
                self._wake.set()
            case status:
                self._break(f"{status} {headers.get('Description', '')}")

    def _on_reconnect(self) -> None:
        self._break("reconnected")

    def _break(self, why: str) -> None:
        self._why_broken = self._why_broken or why
        self._wake.set()

    async def _stop_listening(self) -> None:
        if self._tidy and self._consumer_name and self._broker.connected.is_set():
            name, self._consumer_name = self._consumer_name, ""
            try:
                await self._broker.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{name}", b"")
            except (BrokerUnavailableError, AccessDeniedError):
                pass  # The server deletes it by itself.
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            # What a shared consumer has sent here, it sends to nobody else until the acknowledgement is overdue.
            if self._durable is not None and self._broker.connected.is_set():
                await subscription.drain()
            else:
                await subscription.unsubscribe()
