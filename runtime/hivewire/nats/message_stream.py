"""The stream of one handler's chunks, as its reader in this process has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hivewire.exceptions import DeadlineExceededError
from hivewire.model import grace
from hivewire.model.contexts import current_turn
from hivewire.model.remote_errors import decode_error
from hivewire.model.streams import MessageStream
from hivewire.nats.chunk_inlet import ChunkInlet
from hivewire.nats.envelope import NONE_TYPE_NAME, ReplyEnvelope
from hivewire.nats.task_scope import TaskScope

OpenCall = Callable[[ChunkInlet], Coroutine[Any, Any, ReplyEnvelope]]


class _Reading:
    """The call behind a stream. It knows nothing of the stream, so that one that nobody holds any more can go."""

    __slots__ = ("error", "inlet", "outcome", "task")

    def __init__(self, inlet: ChunkInlet) -> None:
        self.inlet = inlet
        self.task: asyncio.Task[None] | None = None
        self.outcome: ReplyEnvelope | None = None
        self.error: BaseException | None = None

    @property
    def is_over(self) -> bool:
        return self.outcome is not None or self.error is not None

    async def run(self, call: OpenCall) -> None:
        try:
            self.outcome = await call(self.inlet)
        except BaseException as error:
            self.error = error
        finally:
            self.inlet.changed.set()


class NatsMessageStream(MessageStream):
    """A stream whose handler may run in any process.

    Args:
        call: Sends the message and returns the outcome, while chunks come to the inlet.
        decode: Makes a value of a chunk.
    """

    def __init__(
        self, inlet: ChunkInlet, tasks: TaskScope, call: OpenCall, decode: Callable[[ReplyEnvelope], Any]
    ) -> None:
        self._reading = _Reading(inlet)
        self._tasks = tasks
        self._call = call
        self._decode = decode
        self._closed = False

    @property
    def position(self) -> int:
        return self._reading.inlet.taken

    async def start(self) -> None:
        reading = self._reading
        if reading.task is None and not self._closed:
            reading.task = self._tasks.start(reading.run(self._call), name="hivewire: stream")

    async def aclose(self) -> None:
        self._closed = True
        task = self._reading.task
        if task is not None and not task.done():
            task.cancel()
            # For the cancel to be sent, and not for the handler.
            await asyncio.wait([task], timeout=grace.GRACE_S)

    def __del__(self) -> None:
        task = self._reading.task
        if task is not None and not task.done():
            loop = task.get_loop()
            if not loop.is_closed():
                loop.call_soon_threadsafe(task.cancel)

    async def _next(self) -> Any:
        chunk = await self._taken()
        if chunk is None:
            raise StopAsyncIteration
        return self._decode(chunk)

    async def _taken(self) -> ReplyEnvelope | None:
        reading = self._reading
        inlet = reading.inlet
        if not self._closed and not inlet.chunks and not reading.is_over:
            await self._wait()
        if self._closed:
            return None
        if isinstance(reading.error, DeadlineExceededError | asyncio.CancelledError):
            # Nobody waits any more for what has come.
            raise reading.error
        if inlet.chunks:
            return inlet.take()
        if reading.error is not None:
            raise reading.error
        outcome = reading.outcome
        if outcome is not None and outcome.status == "error":
            raise decode_error(outcome.payload)
        if outcome is not None and outcome.status == "value" and outcome.type_name != NONE_TYPE_NAME:
            # The handler does not yield: its answer is all there is.
            reading.outcome = ReplyEnvelope(status="end")
            return outcome
        return None

    async def _wait(self) -> None:
        reading, turn = self._reading, current_turn()
        nested = turn.nested if turn is not None else None
        if nested is not None:
            # Others go on in this process meanwhile, those among them that the stream waits for.
            nested.step_out()
        try:
            while not reading.inlet.chunks and not reading.is_over:
                reading.inlet.changed.clear()
                await reading.inlet.changed.wait()
        finally:
            if nested is not None:
                await nested.step_in()
