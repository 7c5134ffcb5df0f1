"""Streamed answers, as their readers in this process have them."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from hivewire.exceptions import BrokerUnavailableError, DeadlineExceededError, RuntimeStateError, WorkerLostError
from hivewire.http.channel import ITEM_WINDOW, Answer, Channel, ChannelClosedError, OutgoingRequest
from hivewire.http.frames import Header
from hivewire.http.requests import Requests, check_not_cancelled, link_tokens, sent_seconds
from hivewire.model.cancellation import CancellationToken
from hivewire.model.streams import MessageStream

__all__ = ["HttpMessageStream", "StreamRequest"]

Prepare = Callable[[], Awaitable[tuple[str, Header, bytes]]]


class StreamRequest:
    """How a stream is asked for.

    Args:
        prepare: Returns the request: its name, header and payload.
        timeout: Seconds that the whole stream may take.
        reconnect_timeout: How long a connection is waited for.
    """

    def __init__(
        self,
        requests: Requests,
        prepare: Prepare,
        *,
        timeout: float | None,
        token: CancellationToken | None,
        reconnect_timeout: float,
    ) -> None:
        self._requests = requests
        self._prepare = prepare
        self._timeout = timeout
        self._token = token
        self._reconnect_timeout = reconnect_timeout
        self._unlink: Callable[[], None] = lambda: None

    @property
    def is_stopping(self) -> bool:
        return self._requests.stopping

    @property
    def is_of_a_turn(self) -> bool:
        """Whether it is read by a turn, which ends with its connection."""
        return self._requests.own_turn() is not None

    def told(self, error: BaseException) -> BaseException:
        """Note that the reader learns of an error, and return it."""
        turn = self._requests.own_turn()
        if turn is not None:
            turn.learn()
        return error

    async def open(self) -> OutgoingRequest:
        """Send it.

        Raises:
            BrokerUnavailableError: there is no connection for long.
            Exception: what an intervention handler raised.
        """
        begun = time.monotonic()
        limit = self._requests.limit(math.inf if self._timeout is None else self._timeout, self._token)
        op, header, payload = await self._prepare()
        while True:
            check_not_cancelled(limit)
            channel = await self._requests.channel(min(limit.seconds, self._reconnect_timeout))
            left = limit.seconds - (time.monotonic() - begun)
            if left <= 0:
                limit.pass_by()
                raise DeadlineExceededError(f"The stream was not asked for: nothing is left of {limit}")
            timed = {**header, "credit": ITEM_WINDOW, "timeout": sent_seconds(limit, left)}
            try:
                request = await self._requests.begin(channel, op, timed, payload)
            except ChannelClosedError:
                if self._requests.own_turn() is not None:
                    raise
                continue
            self._unlink = link_tokens(request, limit)
            if self._token is not None and "stream" in header and op == "stream":
                # The handler goes on without its reader, and still ends with the token.
                self._token.add_callback(partial(_cancel_handler, channel, header["stream"]))
            return request

    async def reopen(self, stream_id: str, *, after: int) -> OutgoingRequest:
        """Go on with a resumable stream over another connection."""
        channel = await self._requests.channel(self._reconnect_timeout)
        header = {"stream": stream_id, "after": after, "credit": ITEM_WINDOW}
        return await self._requests.begin(channel, "resume", header, b"")

    async def cancel(self, stream_id: str) -> None:
        """Have the handler of a resumable stream cancelled."""
        await self._requests.ask("cancel_stream", {"stream": stream_id})

    def end(self) -> None:
        """Take note that the stream has ended."""
        self._unlink()


class HttpMessageStream(MessageStream):
    """A stream whose chunks come from the gateway.

    Args:
        announced: Whether its first item says that others find it now, as that of a new resumable one does.
    """

    def __init__(
        self,
        asked: StreamRequest,
        decode: Callable[[Answer], Any],
        *,
        after: int = 0,
        id: str | None = None,
        announced: bool = False,
    ) -> None:
        self._asked = asked
        self._decode = decode
        self._position = after
        self._request: OutgoingRequest | None = None
        self._error: BaseException | None = None
        self._id = id
        self._announced = announced
        self._started = False
        self._closed = False

    @property
    def id(self) -> str | None:
        return self._id

    @property
    def position(self) -> int:
        return self._position

    async def start(self) -> None:
        if self._started or self._closed:
            return
        self._started = True
        try:
            self._request = await self._asked.open()
            if self._announced:
                # Without one there is an outcome, which the reader gets.
                await self._request.next_item()
        except Exception as error:
            self._error = error
        except BaseException:
            self._closed = True
            self._let_go()
            raise

    async def aclose(self) -> None:
        self._closed = True
        self._let_go()

    async def cancel(self) -> None:
        if self._id is None or not self._started:
            await self.aclose()
        else:
            await self._asked.cancel(self._id)

    def __del__(self) -> None:
        request = self._request
        if request is not None and not request.answer.done():
            loop = request.answer.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(request.break_off, asyncio.CancelledError())

    async def _next(self) -> Any:
        while True:
            if self._closed:
                raise StopAsyncIteration
            if self._error is not None:
                raise self._asked.told(self._error)
            request = self._request
            assert request is not None
            item = await request.next_item()
            if self._closed:
                raise StopAsyncIteration
            answer = request.answer.result() if request.answer.done() else None
            error = None if answer is None else answer.error
            if answer is not None and error is not None and answer.is_urgent:
                raise self._asked.told(error)
            if item is not None:
                self._position += 1
                return self._decode(item)
            if error is None:
                raise StopAsyncIteration
            if isinstance(error, ChannelClosedError):
                await self._go_on(error)
            else:
                raise error

    async def _go_on(self, lost: ChannelClosedError) -> None:
        """Read on after the connection broke, if the stream is kept."""
        if self._asked.is_stopping:
            raise RuntimeStateError("The runtime stopped while the stream was read") from lost
        if self._id is None or self._asked.is_of_a_turn:
            raise WorkerLostError(
                f"The connection to the gateway broke while a stream was read: {lost.reason}"
            ) from lost
        try:
            self._request = await self._asked.reopen(self._id, after=self._position)
        except ChannelClosedError as error:
            raise BrokerUnavailableError(f"The connection to the gateway breaks again and again: {error}") from error

    def _let_go(self) -> None:
        self._asked.end()
        if self._request is not None and not self._request.answer.done():
            self._request.break_off(asyncio.CancelledError("The stream is closed"))


def _cancel_handler(channel: Channel, stream_id: str | None) -> None:
    if stream_id is not None:
        channel.tell("cancel_stream", {"stream": stream_id})
