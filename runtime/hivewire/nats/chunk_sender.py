"""Streamed answers on their way from their worker to their reader."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import NestedCalls
from hivewire.nats.broker import Broker, Waiter
from hivewire.nats.envelope import ReplyEnvelope, encode_reply
from hivewire.nats.outbox import Outbox
from hivewire.nats.stream_credit import Receipt, SendWindow

log = logging.getLogger("hivewire.streams")

REPEAT_S: Final = 2.0
"""After so long without a word of the reader it is asked for one, by the last message that it may not have."""

LINGER_S: Final = 15.0
"""How long the end of a stream is repeated to a reader that does not confirm it."""

_RECONNECT_WAIT_S = 30.0

_Message = tuple[dict[str, str], bytes]
_QUESTION: Final[_Message] = encode_reply(ReplyEnvelope(status="alive", number=0))


class ChunkSender:
    """Sends the chunks of one answer, not further ahead of the reader than its window lets it."""

    def __init__(self, broker: Broker, outbox: Outbox, reply: str) -> None:
        self._broker = broker
        self._outbox = outbox
        self._reply = reply
        self._window: SendWindow[_Message] = SendWindow()
        self._token = broker.new_token()
        self._credit = broker.listen(self._token, Waiter(reply, self._on_receipt, self._on_error))
        self._room: asyncio.Future[None] | None = None
        self._heard_at = time.monotonic()
        self._ends_at: float | None = None

    async def send(self, chunk: ReplyEnvelope, token: CancellationToken, nested: NestedCalls | None) -> None:
        """Send a chunk once there is room for it. A turn gives up its slot while it waits for that.

        Raises:
            MessageTooLargeError: it exceeds the broker's limit.
            BrokerUnavailableError: there is no connection, for long.
            asyncio.CancelledError: the token was cancelled: nobody reads on.
        """
        if not self._window.is_open:
            if nested is not None:
                nested.step_out()
            try:
                await self._wait_for_room(token)
            finally:
                if nested is not None:
                    await nested.step_in()
        if token.is_cancelled:
            raise asyncio.CancelledError("Nobody reads the stream any more")
        await self._send(chunk)

    async def finish(self, outcome: ReplyEnvelope) -> None:
        """Send the end of the stream, or the error that ends it. It is repeated until the reader has it: see `tick`.

        Raises:
            as `send`.
        """
        self._ends_at = time.monotonic() + LINGER_S
        await self._send(outcome)

    def tick(self) -> bool:
        """Repeat what may be lost; to be called every second or so. False: there is nothing left to do, and the sender
        is closed."""
        now = time.monotonic()
        newest = self._window.newest_unreceived
        if self._ends_at is not None and (newest is None or now > self._ends_at):
            self.close()
            return False
        if self._window.waits and now - self._heard_at >= REPEAT_S:
            self._heard_at = now
            headers, payload = newest or _QUESTION
            self._outbox.post(self._reply, payload, reply=self._credit, headers=headers)
        return True

    def close(self) -> None:
        self._broker.forget(self._token)

    async def _send(self, envelope: ReplyEnvelope) -> None:
        envelope.number = self._window.last + 1
        headers, payload = encode_reply(envelope)
        self._broker.check_size(self._reply, payload, headers, reserve=0)
        if not self._window.waits:
            self._heard_at = time.monotonic()
        self._window.send((headers, payload), len(payload))
        try:
            await self._broker.publish(self._reply, payload, reply=self._credit, headers=headers)
        except BrokerUnavailableError:
            # The reader asks for what it misses.
            await self._broker.wait_connected(asyncio.get_running_loop().time() + _RECONNECT_WAIT_S)

    async def _wait_for_room(self, token: CancellationToken) -> None:
        while not self._window.is_open:
            self._room = asyncio.get_running_loop().create_future()
            await token.link_future(self._room)

    def _on_receipt(self, message: Msg) -> None:
        if message.headers:
            # From the server: the reader is away, for the moment or for good.
            return
        try:
            receipt = Receipt.decode(message.data)
        except ValueError as error:
            log.warning("a receipt for %s is passed over: %s", self._reply, error)
            return
        self._heard_at = time.monotonic()
        for headers, payload in self._window.receive(receipt):
            self._outbox.post(self._reply, payload, reply=self._credit, headers=headers)
        if self._window.is_open and self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _on_error(self, error: Exception) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_exception(error)
