"""The answer of a handler that yields: chunks, one after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from types import TracebackType
from typing import Any, Self, TypeGuard

__all__ = ["MessageStream", "check_position", "close_stream", "is_stream", "is_stream_class"]


class MessageStream(ABC, AsyncIterator[Any]):
    """Iterate over the chunks of one handler, in the order in which it yields them.

    The message is sent with the first chunk that is asked for, or when the stream is entered with `async with`. Chunks
    are values like any answer. The handler is never more than a few chunks ahead of its reader: one that reads slowly
    slows it down. An error of the handler is raised where its next chunk would be. Whoever stops early closes the
    stream, which cancels the handler: `aclose`, the end of `async with`, a cancelled reader, or letting go of the
    iterator. None of these waits for the handler. One task at a time reads a stream.

    What `send_message` may raise comes out of the iteration. A deadline or a cancelled token ends it at once; any other
    error comes after the chunks before it. After an error or the end there are no more chunks.

    A resumable stream is kept for a while, so that others may read it too, at the same time or later, from any chunk
    on: `resume_stream` of the runtime. It waits for no reader, and who closes it only stops reading: its handler is
    cancelled by `cancel`, by the token and the timeout that the message was sent with.
    """

    _is_being_read = False

    @property
    def id(self) -> str | None:
        """What a resumable stream is found by again, as soon as it has started. None: it is not resumable."""
        return None

    @property
    @abstractmethod
    def position(self) -> int:
        """The number of the last chunk that was taken. They count from 1."""

    @abstractmethod
    async def start(self) -> None:
        """Send the message now, without waiting for a chunk. A second time it does nothing."""

    @abstractmethod
    async def _next(self) -> Any:
        """Return the next chunk.

        Raises:
            StopAsyncIteration: there are no more.
        """

    async def __anext__(self) -> Any:
        if self._is_being_read:
            raise RuntimeError(f"{self!r} is being read already: one task at a time may read a stream")
        self._is_being_read = True
        try:
            await self.start()
            return await self._next()
        except BaseException:
            await self.aclose()
            raise
        finally:
            self._is_being_read = False

    @abstractmethod
    async def aclose(self) -> None:
        """Take no more chunks; a handler that still runs is cancelled. May be called again, and after the end."""

    async def cancel(self) -> None:
        """Cancel the handler. Of a resumable stream it may be called by whoever reads it; what the handler has yielded
        by then can still be read.

        Raises:
            BrokerUnavailableError: it can't be told.
        """
        await self.aclose()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def check_position(after: int) -> None:
    """Refuse what is not the number of a chunk to resume a stream after.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(after, int) or after < 0:
        raise ValueError(f"A stream is resumed after the number of one of its chunks, or after 0, and not {after!r}")


async def close_stream(chunks: AsyncIterator[Any]) -> None:
    """Let a handler know that nothing more of what it yields is wanted."""
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()


def is_stream(answer: object) -> TypeGuard[AsyncIterator[Any]]:
    """Tell whether what a handler answers with is to be iterated over."""
    return is_stream_class(type(answer))


def _derives_from_iterator(cls: type) -> bool:
    return issubclass(cls, AsyncIterator)


is_stream_class: Callable[[type], bool] = lru_cache(maxsize=1024)(_derives_from_iterator)
"""Tell the same by the class of an answer. Asked for each one, while an abstract class takes its time to find out."""
