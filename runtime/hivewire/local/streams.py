"""Streams within one process: the handler's end, which is a turn, and the reader's end, which is an iterator.

Between the two lie at most a few chunks. The reader's end holds the handler's, never the other way round, so that a
reader that goes away without a word takes its stream with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from hivewire.local.work import Call, Owner
from hivewire.model.streams import MessageStream

if TYPE_CHECKING:
    from hivewire.model.cancellation import CancellationToken
    from hivewire.model.ids import AgentId

__all__ = ["LocalStream", "StreamCall", "wake"]

_WINDOW_CHUNKS: Final = 16
"""How many chunks may wait for their reader before the handler waits for it."""


class StreamCall(Call):
    """A direct message whose answer is read in chunks. Its future is the end of it.

    `unread_since` is since when, on the loop's clock, the handler has been waiting for the reader.
    """

    __slots__ = ("_arrival", "_chunks", "_closed", "_handler_ended", "_room", "unread_since")

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
        self.unread_since: float | None = None
        self._chunks: deque[Any] = deque()
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._closed = False
        self._handler_ended = False
        future.add_done_callback(self._settled)

    async def push(self, chunk: Any) -> None:
        """Give a chunk to the reader. Returns when there is room for another, or nobody reads on."""
        if self.future.done():
            return
        self._chunks.append(chunk)
        wake(self._arrival)
        if len(self._chunks) < _WINDOW_CHUNKS:
            return
        loop = self.future.get_loop()
        self.unread_since = loop.time()
        try:
            while len(self._chunks) >= _WINDOW_CHUNKS and not self.future.done():
                self._room = loop.create_future()
                await self._room
        finally:
            self._room = self.unread_since = None

    async def pull(self) -> Any:
        """Return the next chunk.

        Raises:
            StopAsyncIteration: there are no more.
            BaseException: what ended the stream.
        """
        if self.future.cancelled() and not self._handler_ended:
            self._chunks.clear()
        while not self._chunks:
            if self._closed:
                raise StopAsyncIteration
            if self.future.done():
                if self.future.cancelled():
                    raise asyncio.CancelledError(f"The stream of {self} was cancelled")
                self.future.result()
                raise StopAsyncIteration
            self._arrival = self.future.get_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        chunk = self._chunks.popleft()
        wake(self._room)
        return chunk

    def answer(self, result: Any) -> None:
        self._handler_ended = True
        if not self.yielded and result is not None and not self.future.done():
            self._chunks.append(result)
        super().answer(None)

    def refuse(self, error: BaseException) -> None:
        self._handler_ended = True
        super().refuse(error)

    def abandon(self) -> None:
        self._chunks.clear()
        super().abandon()

    def close(self) -> None:
        """Note that nobody reads on."""
        self._closed = True
        if self.future.done():
            self._chunks.clear()
        else:
            self.future.cancel()
            self.abandon()

    def _settled(self, future: asyncio.Future[Any]) -> None:
        self.unlink()
        if future.cancelled():
            if not self._handler_ended:
                self.abandon()
        else:
            # Nobody may come to read it, which is no reason for asyncio to complain.
            future.exception()
        wake(self._arrival)
        wake(self._room)


class LocalStream(MessageStream):
    """The reader's end. `send` sends the message."""

    def __init__(self, recipient: AgentId, send: Callable[[], StreamCall]) -> None:
        self._recipient = recipient
        self._send: Callable[[], StreamCall] | None = send
        self._call: StreamCall | None = None
        self._position = 0

    def __repr__(self) -> str:
        state = "open" if self._call is not None else "ended" if self._send is None else "not started"
        return f"<MessageStream of {self._recipient}, {state}, {self._position} chunks taken>"

    def __del__(self) -> None:
        call = getattr(self, "_call", None)
        if call is None or call.future.done():
            return
        loop = call.future.get_loop()
        if not loop.is_closed():
            # The garbage collector may run anywhere, also in another thread.
            loop.call_soon_threadsafe(call.close)

    @property
    def position(self) -> int:
        return self._position

    async def start(self) -> None:
        if self._send is not None:
            send, self._send = self._send, None
            self._call = send()

    async def aclose(self) -> None:
        call, self._call, self._send = self._call, None, None
        if call is not None:
            call.close()

    async def _next(self) -> Any:
        if self._call is None:
            raise StopAsyncIteration
        chunk = await self._call.pull()
        self._position += 1
        return chunk


def wake(waiter: asyncio.Future[None] | None) -> None:
    """Let whoever awaits this go on."""
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
