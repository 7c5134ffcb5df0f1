"""Resumable streams within one process: their chunks are kept in memory, and each reader goes its own way over them.

The handler waits for no reader, and its stream belongs to none. What has ended is forgotten after a while.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from hivewire.exceptions import DeadlineExceededError, StreamNotFoundError
from hivewire.local.streams import StreamCall, wake
from hivewire.local.work import Owner, Turn, current_work
from hivewire.model.cancellation import call_on
from hivewire.model.streams import MessageStream

if TYPE_CHECKING:
    from hivewire.model.cancellation import CancellationToken
    from hivewire.model.ids import AgentId

__all__ = ["KEPT_ENDED_STREAMS", "KEPT_S", "KeptChunks", "KeptStreamCall", "KeptStreams", "LocalKeptStream"]

KEPT_S: Final = 3_600.0
"""How long a stream is kept after its end."""

KEPT_ENDED_STREAMS: Final = 1_000
"""How many streams are kept after their end: above that, the one that ended first is forgotten."""


class KeptChunks:
    """What a handler has yielded so far. `end` is done once there will be no more, with what ended it."""

    __slots__ = ("_waiting", "chunks", "end")

    def __init__(self, end: asyncio.Future[Any]) -> None:
        self.chunks: list[Any] = []
        self.end = end
        self._waiting: set[asyncio.Future[None]] = set()
        end.add_done_callback(self._wake)

    def add(self, chunk: Any) -> None:
        """Take in the next one."""
        self.chunks.append(chunk)
        self._wake()

    async def changed(self, waiter: asyncio.Future[None]) -> None:
        """Await `waiter`, which is done at the latest with one more chunk, or with the end."""
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def _wake(self, _: object = None) -> None:
        for waiter in self._waiting:
            wake(waiter)


class KeptStreamCall(StreamCall):
    """A direct message whose answer is kept, for whoever reads it."""

    __slots__ = ("kept",)

    def __init__(
        self,
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str,
        owner: Owner,
        future: asyncio.Future[Any],
    ) -> None:
        super().__init__(message, recipient, sender, token, message_id, owner, future)
        self.kept = KeptChunks(future)

    async def push(self, chunk: Any) -> None:
        """Keep a chunk."""
        if not self.future.done():
            self.kept.add(chunk)

    def answer(self, result: Any) -> None:
        if not self.yielded and result is not None and not self.future.done():
            self.kept.add(result)
        super().answer(None)


class KeptStreams:
    """The resumable streams of one runtime, those that run and those that ended not long ago."""

    def __init__(self) -> None:
        self._kept: dict[str, KeptChunks] = {}
        self._calls: dict[str, KeptStreamCall] = {}
        self._ended: OrderedDict[str, asyncio.TimerHandle] = OrderedDict()

    def open(self, stream_id: str, send: Callable[[], KeptStreamCall]) -> KeptChunks:
        """Send the message of a new stream. A message that can't be sent makes a stream that has ended with the
        error."""
        try:
            call = send()
        except Exception as error:
            end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            end.set_exception(error)
            end.exception()
            kept = KeptChunks(end)
        else:
            kept, self._calls[stream_id] = call.kept, call
        self._kept[stream_id] = kept
        kept.end.add_done_callback(partial(self._has_ended, stream_id))
        return kept

    def find(self, stream_id: str, *, after: int) -> KeptChunks:
        """Find a stream that others have opened, and that has a chunk of that number.

        Raises:
            StreamNotFoundError: it is not kept.
            ValueError: it has fewer chunks.
        """
        kept = self._kept.get(stream_id)
        if kept is None:
            raise StreamNotFoundError(
                f"Stream not found: {stream_id}: no resumable stream has this id, it has not started, or is no longer "
                "kept"
            )
        if after > len(kept.chunks):
            raise ValueError(
                f"The stream {stream_id} can't be read after chunk {after}: it has no chunk of that number"
            )
        return kept

    def cancel(self, stream_id: str) -> None:
        """Cancel the handler of a stream, if it runs."""
        call = self._calls.get(stream_id)
        if call is not None:
            call.close()

    def clear(self) -> None:
        """Forget all."""
        for timer in self._ended.values():
            timer.cancel()
        self._ended.clear()
        self._kept.clear()
        self._calls.clear()

    def _has_ended(self, stream_id: str, end: asyncio.Future[Any]) -> None:
        if self._kept.get(stream_id) is None:
            return
        self._calls.pop(stream_id, None)
        self._ended[stream_id] = end.get_loop().call_later(KEPT_S, self._forget, stream_id)
        if len(self._ended) > KEPT_ENDED_STREAMS:
            self._forget(next(iter(self._ended)))

    def _forget(self, stream_id: str) -> None:
        self._ended.pop(stream_id).cancel()
        del self._kept[stream_id]


class LocalKeptStream(MessageStream):
    """One reader's way over a stream.

    Args:
        start: Sends the message, or finds the stream.
        cancel: Cancels the handler.
        copy: Makes a chunk the reader's own.
    """

    def __init__(
        self,
        stream_id: str,
        start: Callable[[], KeptChunks],
        cancel: Callable[[str], None],
        copy: Callable[[Any], Any] | None,
        *,
        after: int = 0,
        timeout_s: float | None = None,
    ) -> None:
        self._id = stream_id
        self._start: Callable[[], KeptChunks] | None = start
        self._cancel = cancel
        self._copy = copy
        self._position = after
        self._timeout_s = timeout_s
        self._deadline: float | None = None
        self._turn: Turn | None = None
        self._kept: KeptChunks | None = None
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        state = "open" if self._kept is not None else "ended" if self._start is None else "not started"
        return f"<MessageStream {self._id}, {state}, {self._position} chunks taken>"

    def __del__(self) -> None:
        turn = getattr(self, "_turn", None)
        if turn is not None:
            turn.token._unlink(id(self))

    @property
    def id(self) -> str:
        return self._id

    @property
    def position(self) -> int:
        return self._position

    async def start(self) -> None:
        start, self._start = self._start, None
        if start is None:
            return
        try:
            self._kept = start()
        except Exception as error:
            self._error = error
            return
        if self._timeout_s is not None:
            self._deadline = asyncio.get_running_loop().time() + self._timeout_s
        turn = current_work.get()
        if isinstance(turn, Turn) and not turn.finished and not turn.token._noticed:
            self._turn = turn
            reader = weakref.ref(self)
            loop = asyncio.get_running_loop()
            turn.token._link(id(self), lambda: call_on(loop, partial(_break_off, reader)))

    async def aclose(self) -> None:
        self._start = self._kept = self._error = None
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.token._unlink(id(self))
        wake(self._waiter)

    async def cancel(self) -> None:
        if self._start is None:
            self._cancel(self._id)
        else:
            await self.aclose()

    async def _next(self) -> Any:
        while True:
            if self._error is not None:
                raise self._error
            kept = self._kept
            if kept is None:
                raise StopAsyncIteration
            if self._position < len(kept.chunks):
                chunk = kept.chunks[self._position]
                self._position += 1
                return chunk if self._copy is None else self._copy(chunk)
            if kept.end.cancelled():
                raise asyncio.CancelledError(f"The handler of the stream {self._id} was cancelled")
            if kept.end.done():
                kept.end.result()
                raise StopAsyncIteration
            await self._changed(kept)

    async def _changed(self, kept: KeptChunks) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(self._deadline):
                await kept.changed(waiter)
        except TimeoutError:
            raise DeadlineExceededError(
                f"Reading the stream {self._id} took longer than its timeout of {self._timeout_s:g} s"
            ) from None
        finally:
            self._waiter = None

    def _end_with_turn(self) -> None:
        turn = self._turn
        if turn is None or turn.finished:
            # A task that its handler left behind goes on by itself.
            return
        turn.token._noticed = True
        if turn.expiry is None:
            self._error = asyncio.CancelledError(f"The turn that reads the stream {self._id} was cancelled")
        else:
            self._error = DeadlineExceededError(f"The {turn.expiry} passed; it had begun to read the stream {self._id}")
        wake(self._waiter)


def _break_off(reader: weakref.ref[LocalKeptStream]) -> None:
    stream = reader()
    if stream is not None:
        stream._end_with_turn()
