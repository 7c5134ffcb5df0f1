"""The resumable streams of one process, as their readers have them: opened here, or found by their ids."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from hivewire.exceptions import (
    AgentNotFoundError,
    BrokerUnavailableError,
    DeadlineExceededError,
    HivewireError,
    MessageTooLargeError,
    OverloadedError,
    WorkerLostError,
)
from hivewire.model.call_limit import CallLimit, limit_of
from hivewire.model.cancellation import call_on
from hivewire.model.contexts import TurnContext, current_turn
from hivewire.model.remote_errors import decode_error, encode_error
from hivewire.nats.broker import Broker
from hivewire.nats.envelope import ReplyEnvelope, encode_reply
from hivewire.nats.kept_stream import KeptMessageStream
from hivewire.nats.stream_follower import StreamFollower
from hivewire.nats.stream_pulse import answer_for
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope

log = logging.getLogger("hivewire.streams")

Call = Callable[[Callable[[], object]], Awaitable[ReplyEnvelope]]
Prepare = Callable[[str], Awaitable[Call]]
Decode = Callable[[ReplyEnvelope], Any]

_CANCEL_WAIT_S = 10.0
_NOT_EXECUTED = (AgentNotFoundError, OverloadedError, MessageTooLargeError)


class KeptStreams:
    """Makes resumable streams.

    Args:
        store_timeout: How many seconds the begin of one may take to be stored.
    """

    def __init__(self, broker: Broker, subjects: Subjects, tasks: TaskScope, *, store_timeout: float) -> None:
        self._broker = broker
        self._subjects = subjects
        self._tasks = tasks
        self._store_timeout = store_timeout

    def open(self, prepare: Prepare, decode: Decode, *, stream_id: str | None = None) -> KeptMessageStream:
        """Return a new stream. `prepare` gets its id and returns the call that starts its handler, and takes
        what to do once that has happened."""
        # Whoever knows it may read and cancel the stream, so it must not be one that can be guessed.
        stream_id = stream_id or secrets.token_hex(16)
        follower = StreamFollower(self._broker, self._subjects, self._tasks, stream_id, after=0)
        start = partial(self._start, stream_id, follower, prepare)
        return self._stream(stream_id, follower, 0, start, decode)

    def resume(self, stream_id: str, decode: Decode, *, after: int, timeout: float | None) -> KeptMessageStream:
        """Return a stream that others have opened, after one of its chunks."""
        follower = StreamFollower(self._broker, self._subjects, self._tasks, stream_id, after=after)
        return self._stream(stream_id, follower, after, partial(self._find, follower, timeout), decode)

    def _stream(
        self,
        stream_id: str,
        follower: StreamFollower,
        after: int,
        start: Callable[[], Awaitable[CallLimit | None]],
        decode: Decode,
    ) -> KeptMessageStream:
        cancel = partial(self.cancel, stream_id)
        return KeptMessageStream(stream_id, follower, after=after, start=start, decode=decode, cancel=cancel)

    async def _start(self, stream_id: str, follower: StreamFollower, prepare: Prepare) -> None:
        call = await prepare(stream_id)
        pulse = await answer_for(self._broker, self._subjects.pulse(stream_id), "calling")
        try:
            stored = await self._store(stream_id, ReplyEnvelope(status="alive", number=0))
            follower.follow(stored)
            self._tasks.start(
                self._run(stream_id, follower, call, pulse.unsubscribe), name="hivewire: call of a kept stream"
            )
        except BaseException:
            await pulse.unsubscribe()
            raise

    async def _run(
        self, stream_id: str, follower: StreamFollower, call: Call, end_pulse: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        """Wait for the outcome of the call, whether or not somebody still reads here."""
        started = False

        def on_start() -> None:
            # Its worker answers now who asks for it, and this process knows no better.
            nonlocal started
            started = True
            if not self._tasks.closing:
                self._tasks.start(end_pulse(), name="hivewire: pulse of a kept stream")

        try:
            reply = await call(on_start)
            if reply.status == "error":
                follower.call_failed(decode_error(reply.payload))
        except _NOT_EXECUTED as error:
            # There is nobody else who could tell it to other readers.
            await self._refuse(stream_id, error)
            follower.call_failed(error)
        except DeadlineExceededError as error:
            follower.break_off(error)
            if not started:
                await self._refuse(stream_id, error)
        except asyncio.CancelledError as error:
            follower.break_off(error)
            if self._tasks.closing:
                raise
        except (WorkerLostError, BrokerUnavailableError) as error:
            follower.call_lost(error)
            if not started and isinstance(error, WorkerLostError):
                # It ends the stream for everybody, even if a worker was only slow to begin.
                await self._refuse(stream_id, error)
        except Exception as error:
            follower.call_failed(error)
        finally:
            await end_pulse()

    async def _refuse(self, stream_id: str, error: Exception) -> None:
        outcome = ReplyEnvelope(status="error", payload=encode_error(error, agent=""), number=1)
        try:
            await self._store(stream_id, outcome)
        except HivewireError as why:
            log.warning("other readers of the stream %s are not told that it did not start: %s", stream_id, why)

    async def _find(self, follower: StreamFollower, timeout: float | None) -> CallLimit:
        limit = limit_of(math.inf if timeout is None else timeout, None, current_turn(), time.monotonic())
        await follower.find()
        if limit.turn is not None:
            end = partial(_end_with_turn, follower, limit, limit.turn)
            limit.turn.token._link(follower, partial(call_on, asyncio.get_running_loop(), end))
        follower.follow()
        return limit

    async def _store(self, stream_id: str, record: ReplyEnvelope) -> int:
        """Store a message of a stream, perhaps more than once."""
        headers, payload = encode_reply(record)
        subject = self._subjects.chunk(stream_id)
        stored = await self._broker.store(subject, payload, headers=headers, timeout=self._store_timeout)
        return stored.sequence

    async def cancel(self, stream_id: str) -> None:
        """Tell whoever runs the handler of a stream to cancel it.

        Raises:
            BrokerUnavailableError: there is no connection, for long.
        """
        await self._broker.wait_connected(asyncio.get_running_loop().time() + _CANCEL_WAIT_S)
        await self._broker.publish(self._subjects.cancel(stream_id), b"")


def _end_with_turn(follower: StreamFollower, limit: CallLimit, turn: TurnContext) -> None:
    turn.token._noticed = True
    if asyncio.get_running_loop().time() >= turn.deadline:
        follower.break_off(DeadlineExceededError(f"Reading a resumable stream took longer than {limit}"))
    else:
        follower.break_off(asyncio.CancelledError("The turn that reads the stream was cancelled"))
