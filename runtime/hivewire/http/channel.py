"""Requests and their answers over one connection, in both directions at once.

Each side numbers its requests. A request ends with exactly one answer; before that, items may come, no more than the
one who asks has granted; and it can be cancelled. When the connection ends, every open request ends with
`ChannelClosedError`, which tells whether the request can have reached the other side.

What waits to be sent is bounded: who has more to say waits, in order, and a peer that takes nothing for a while is
left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Final, Protocol

from hivewire.exceptions import DeadlineExceededError, OverloadedError
from hivewire.http.frames import FrameError, Header, decode_frame, encode_frame
from hivewire.model import grace
from hivewire.model.remote_errors import decode_error, encode_error, is_passed_on

__all__ = ["ITEM_WINDOW", "Answer", "Channel", "ChannelClosedError", "IncomingRequest", "OutgoingRequest", "Transport"]

log = logging.getLogger("hivewire.http")

ITEM_WINDOW: Final = 8
"""How many items the one who answers may be ahead of the one who asked."""

SEND_TIMEOUT_S: Final = 20.0
"""A peer that takes nothing for so long is left."""

_QUEUED_BYTES = 1024 * 1024
_MAX_REQUESTS = 10_000
_MAX_REQUEST_BYTES = 256 * 1024 * 1024


class ChannelClosedError(Exception):
    """The connection has ended. `sent`: the request can have reached the other side."""

    def __init__(self, reason: str, *, sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class Transport(Protocol):
    """A connection that carries frames in order. Both methods raise `ChannelClosedError` once it has ended."""

    async def send(self, frame: bytes) -> None: ...

    async def receive(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """How a request ended."""

    header: Header
    payload: bytes = b""
    lost: BaseException | None = None

    @property
    def error(self) -> BaseException | None:
        """The error that it ended with, anew each time that it is asked for."""
        if self.lost is not None:
            return self.lost
        return decode_error(self.payload) if self.header.get("error") else None

    @property
    def is_urgent(self) -> bool:
        """Whether it is the end of the request itself, by its deadline or as it was cancelled, rather than of what was
        asked for: then nobody waits for the items that have come before."""
        if self.lost is None and not self.header.get("here"):
            return False
        return isinstance(self.error, DeadlineExceededError | asyncio.CancelledError)

    def checked(self) -> Answer:
        """Return it, or raise the error that it is."""
        error = self.error
        if error is not None:
            raise error
        return self


class OutgoingRequest:
    """A request of this side. Iterate over its items, if it has some, and await its `answer`."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel = channel
        self._number = number
        self._items: deque[Answer] = deque()
        self._changed = asyncio.Event()
        self._taken = 0
        self.answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.sent = False

    async def next_item(self) -> Answer | None:
        """Return the next item; None: there are no more, and the answer is there. Items that came first come first."""
        while not self._items:
            if self.answer.done():
                return None
            self._changed.clear()
            await self._changed.wait()
        item = self._items.popleft()
        self._taken += 1
        if self._taken * 2 >= ITEM_WINDOW and not self.answer.done():
            self._channel.post({"id": self._number, "credit": self._taken})
            self._taken = 0
        return item

    def cancel(self, kind: str = "abort") -> None:
        """Tell the other side that the answer is not wanted any more: `abort` cancels its task, another kind is what
        the two have agreed on."""
        if not self.answer.done() or self.answer.cancelled():
            self._channel.post({"id": self._number, "cancel": kind})

    def break_off(self, error: BaseException) -> None:
        """End it with an error of this side, and cancel it on the other."""
        self.cancel()
        self._end(Answer({}, lost=error))

    def items(self) -> list[Answer]:
        """Return the items that have come and were not taken."""
        return list(self._items)

    def _add(self, item: Answer) -> None:
        self._items.append(item)
        self._changed.set()

    def _end(self, answer: Answer) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)
        self._changed.set()


class IncomingRequest:
    """A request of the other side. `on_cancel` is called with the kind of a cancel; `early` is the kind of one that
    came before it was set."""

    __slots__ = (
        "_channel",
        "_credit",
        "_granted",
        "_number",
        "_refusal",
        "early",
        "header",
        "on_cancel",
        "op",
        "payload",
        "task",
    )

    def __init__(self, channel: Channel, header: Header, payload: bytes) -> None:
        self._channel = channel
        self._number = header.get("id")
        self._credit = int(header.get("credit", 0))
        self._granted = asyncio.Event()
        self._refusal: BaseException | None = None
        self.op = str(header.get("op"))
        self.header = header
        self.payload = payload
        self.on_cancel: Callable[[str], object] | None = None
        self.early: str | None = None
        self.task: asyncio.Task[None] | None = None

    async def give(self, header: Header, payload: bytes) -> None:
        """Send an item, once there is leave for it."""
        while self._credit <= 0 and self._refusal is None:
            self._granted.clear()
            await self._granted.wait()
        if self._refusal is not None:
            raise self._refusal
        self._credit -= 1
        await self._channel.say({"re": self._number, "item": 1, **header}, payload)

    def refuse_items(self, error: BaseException) -> None:
        """Let nothing more be given: `give` raises this error from now on."""
        self._refusal = error
        self._granted.set()

    def _grant(self, credit: int) -> None:
        self._credit += credit
        self._granted.set()

    def _cancelled(self, kind: str) -> None:
        if self.on_cancel is not None:
            self.on_cancel(kind)
        else:
            self.early = kind
        if kind == "abort" and self.task is not None:
            self.task.cancel()


Serve = Callable[[IncomingRequest], Awaitable[tuple[Header, bytes]]]


class Channel:
    """One side of a connection: `ask` the other side, and `serve` what it asks, while `run` runs. `is_leaving`: the
    other side has said that it is about to end it.

    Args:
        serve: Answers a request: what it raises becomes the answer too.
        context_of: Says what context the task of a request runs in; None is for that of `run`.
    """

    def __init__(
        self,
        transport: Transport,
        serve: Serve,
        *,
        context_of: Callable[[IncomingRequest], Context | None] = lambda request: None,
    ) -> None:
        self._transport = transport
        self._serve = serve
        self._context_of = context_of
        self._numbers = 0
        self._asked: dict[int, OutgoingRequest] = {}
        self._asking: dict[int, IncomingRequest] = {}
        self._asking_bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._queue: deque[tuple[bytes, OutgoingRequest | None]] = deque()
        self._queued_bytes = 0
        self._posted = asyncio.Event()
        self._written = asyncio.Event()
        self._gate = asyncio.Lock()
        self._end = asyncio.Event()
        self.closed: ChannelClosedError | None = None
        self.is_leaving = False

    async def ask(self, op: str, header: Header | None = None, payload: bytes = b"") -> OutgoingRequest:
        """Send a request.

        Raises:
            ChannelClosedError: the connection has ended; it was not sent.
            ValueError: its header is too long.
        """
        self._numbers += 1
        number = self._numbers
        frame = encode_frame({"id": number, "op": op, **(header or {})}, payload)
        request = OutgoingRequest(self, number)
        async with self._room():
            self._asked[number] = request
            self._put(frame, request)
        return request

    def tell(self, op: str, header: Header) -> None:
        """Send a request whose answer does not matter. After the end it does nothing."""
        self._numbers += 1
        self.post({"id": self._numbers, "op": op, **header})

    async def answer_to(self, op: str, header: Header | None = None, payload: bytes = b"") -> Answer:
        """Send a request and return its answer. Cancelled, it cancels the request.

        Raises:
            ChannelClosedError: the connection has ended.
            Exception: the error that the other side answers with.
        """
        request = await self.ask(op, header, payload)
        try:
            return (await request.answer).checked()
        finally:
            request.cancel()

    async def say(self, header: Header, payload: bytes = b"") -> None:
        """Send a frame in its turn, which may have to be waited for.

        Raises:
            ChannelClosedError: the connection has ended.
        """
        frame = encode_frame(header, payload)
        async with self._room():
            self._put(frame, None)

    def post(self, header: Header) -> None:
        """Send a small frame. After the end it does nothing."""
        if self.closed is None:
            self._put(encode_frame(header), None)

    async def run(self) -> None:
        """Carry frames until the connection ends; the reason is in `closed` then."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(), name="hivewire: channel writer")
                group.create_task(self._read(), name="hivewire: channel reader")
                group.create_task(self._until_closed(), name="hivewire: channel")
        except* ChannelClosedError as errors:
            self.close(str(errors.exceptions[0]))
        finally:
            self.close("the connection was closed")
            await self._end_tasks()

    def close(self, reason: str) -> None:
        """End everything that is open, and `run`. The transport is its owner's to close."""
        if self.closed is not None:
            return
        self.closed = ChannelClosedError(reason)
        self._end.set()
        self._queue.clear()
        self._written.set()
        for request in self._asked.values():
            request._end(Answer({}, lost=ChannelClosedError(reason, sent=request.sent)))
        self._asked.clear()
        for task in self._tasks:
            task.cancel()

    async def _until_closed(self) -> None:
        await self._end.wait()
        assert self.closed is not None
        raise ChannelClosedError(self.closed.reason)

    # Writing

    @contextlib.asynccontextmanager
    async def _room(self) -> AsyncIterator[None]:
        async with self._gate:
            while self._queued_bytes > _QUEUED_BYTES and self.closed is None:
                self._written.clear()
                await self._written.wait()
            if self.closed is not None:
                raise ChannelClosedError(self.closed.reason)
            yield

    def _put(self, frame: bytes, request: OutgoingRequest | None) -> None:
        self._queue.append((frame, request))
        self._queued_bytes += len(frame)
        self._posted.set()

    async def _write(self) -> None:
        while True:
            await self._posted.wait()
            self._posted.clear()
            while self._queue:
                frame, request = self._queue.popleft()
                if request is not None:
                    request.sent = True
                try:
                    async with asyncio.timeout(SEND_TIMEOUT_S):
                        await self._transport.send(frame)
                except TimeoutError:
                    raise ChannelClosedError(f"the other side took nothing for {SEND_TIMEOUT_S:g} s") from None
                self._queued_bytes -= len(frame)
                self._written.set()

    # Reading

    async def _read(self) -> None:
        while True:
            frame = await self._transport.receive()
            try:
                header, payload = decode_frame(frame)
                self._take(header, payload)
            except (FrameError, TypeError, ValueError) as error:
                raise ChannelClosedError(f"the other side does not speak the protocol: {error}") from error

    def _take(self, header: Header, payload: bytes) -> None:
        if "re" in header:
            request = self._asked.get(header["re"])
            if request is None:
                return
            if "item" in header:
                request._add(Answer(header, payload))
            else:
                del self._asked[header["re"]]
                request._end(Answer(header, payload))
        elif "op" in header:
            self._begin(IncomingRequest(self, header, payload))
        elif (asking := self._asking.get(header["id"])) is not None:
            if "credit" in header:
                asking._grant(int(header["credit"]))
            elif "cancel" in header:
                asking._cancelled(str(header["cancel"]))

    def _begin(self, request: IncomingRequest) -> None:
        number = request._number
        if not isinstance(number, int) or number in self._asking:
            raise FrameError(f"a request with the number {number!r}")
        if len(self._asking) >= _MAX_REQUESTS or self._asking_bytes + len(request.payload) > _MAX_REQUEST_BYTES:
            error = OverloadedError("Too many requests are open on this connection; this one did not start")
            self._put(encode_frame({"re": number, "error": 1}, encode_error(error, agent="")), None)
            return
        self._asking[number] = request
        self._asking_bytes += len(request.payload)
        task = asyncio.get_running_loop().create_task(
            self._answer(number, request), name=f"hivewire: {request.op}", context=self._context_of(request)
        )
        request.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, request: IncomingRequest) -> None:
        try:
            header, payload = await self._serve(request)
        except ChannelClosedError:
            return
        except BaseException as error:
            if self.closed is not None:
                return
            header, payload = {"error": 1}, encode_error(error, agent="", with_traceback=False)
            if not is_passed_on(error):
                header["here"] = 1
        finally:
            self._asking.pop(number, None)
            self._asking_bytes -= len(request.payload)
        try:
            await self.say({"re": number, **header}, payload)
        except ChannelClosedError:
            pass
        except ValueError as error:
            await self.say({"re": number, "error": 1}, encode_error(error, agent="", with_traceback=False))

    async def _end_tasks(self) -> None:
        if self._tasks:
            _, left = await asyncio.wait(list(self._tasks), timeout=grace.GRACE_S)
            for task in left:
                log.error("%s goes on after its connection has ended", task.get_name())
