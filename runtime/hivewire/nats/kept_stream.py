"""A resumable stream, as one of its readers has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hivewire.exceptions import DeadlineExceededError
from hivewire.model.call_limit import CallLimit
from hivewire.model.contexts import current_turn
from hivewire.model.remote_errors import decode_error
from hivewire.model.streams import MessageStream
from hivewire.nats.envelope import ReplyEnvelope
from hivewire.nats.stream_follower import ReadingStopped, StreamFollower


class KeptMessageStream(MessageStream):
    """A stream that is read from where it is kept.

    Args:
        start: Starts the handler, or finds the stream, and begins to follow it; returns how long that may take.
        decode: Makes a value of a chunk.
        cancel: Tells whoever runs the handler to cancel it.
    """

    def __init__(
        self,
        stream_id: str,
        follower: StreamFollower,
        *,
        after: int,
        start: Callable[[], Awaitable[CallLimit | None]],
        decode: Callable[[ReplyEnvelope], Any],
        cancel: Callable[[], Awaitable[None]],
    ) -> None:
        self._id = stream_id
        self._follower = follower
        self._position = after
        self._start = start
        self._decode = decode
        self._cancel = cancel
        self._limit: CallLimit | None = None
        self._deadline: float | None = None
        self._error: BaseException | None = None
        self._started = False
        self._closed = False

    @property
    def id(self) -> str:
        return self._id

    @property
    def position(self) -> int:
        return self._position

    async def start(self) -> None:
        if self._started or self._closed:
            return
        self._started = True
        try:
            limit = await self._start()
            if limit is not None:
                self._limit = limit
                self._deadline = asyncio.get_running_loop().time() + limit.seconds
        except Exception as error:
            self._error = error
        except BaseException:
            self._closed = True
            raise

    async def aclose(self) -> None:
        self._closed = True
        self._follower.stop()

    async def cancel(self) -> None:
        if self._started:
            await self._cancel()
        else:
            await self.aclose()

    def __del__(self) -> None:
        self._follower.abandon()

    async def _next(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        if self._error is not None:
            raise self._error
        try:
            record = await self._awaited()
        except ReadingStopped:
            raise StopAsyncIteration from None
        match record.status:
            case "value":
                self._position += 1
                return self._decode(record)
            case "error":
                raise decode_error(record.payload)
            case _:
                raise StopAsyncIteration

    async def _awaited(self) -> ReplyEnvelope:
        turn = current_turn()
        nested = turn.nested if turn is not None else None
        if nested is None or self._follower.is_ready:
            return await self._in_time()
        # Others go on in this process meanwhile, those among them that the stream waits for.
        nested.step_out()
        try:
            return await self._in_time()
        finally:
            await nested.step_in()

    async def _in_time(self) -> ReplyEnvelope:
        try:
            return await self._follower.next(self._deadline)
        except TimeoutError as error:
            if isinstance(error, DeadlineExceededError):
                raise
            raise DeadlineExceededError(f"Reading the stream {self._id} took longer than {self._limit}") from None
