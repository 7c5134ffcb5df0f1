"""What the local runtime has in hand: calls, publications, and the turn in which one agent handles an event.

A call remembers the turn that made it. So a serial agent can let its own inner calls in, a handler that stops the
runtime doesn't wait for itself, and what a turn has open ends with it, all the way down.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from hivewire.exceptions import DeadlineExceededError
from hivewire.logging import find_messages_with, lines_about
from hivewire.model import grace
from hivewire.model.cancellation import CancellationToken, call_on
from hivewire.model.contexts import MessageContext

if TYPE_CHECKING:
    from hivewire.model.ids import AgentId
    from hivewire.model.serializer_registry import Encoded
    from hivewire.model.topics import TopicId

__all__ = ["Call", "EventTurn", "Owner", "Publication", "Turn", "Work", "current_work"]

_logger = logging.getLogger("hivewire.local")

current_work: ContextVar[Work | None] = ContextVar("hivewire_local_work", default=None)
"""The work whose handler or interception runs."""

find_messages_with(current_work.get)

NO_HEADERS: Mapping[str, str] = {}


class Owner(Protocol):
    """What work knows of whom it belongs to."""

    def watch(self, turn: Turn) -> None:
        """See that the handler of this turn ends: nobody waits for it any more."""
        ...


class Work:
    """Something accepted that the runtime has not finished. `owner` tells apart the work of several runtimes.

    `task` is what does it. Work that goes on for too long after it was cancelled has an `overdue_timer`, and is left
    behind in the end: it still runs then, but counts as finished.
    """

    __slots__ = ("caused_by", "finished", "intercepting", "left_behind", "message_id", "overdue_timer", "owner", "task")

    owner: Owner
    message_id: str
    caused_by: Work | None
    finished: bool
    intercepting: bool
    left_behind: bool
    overdue_timer: asyncio.TimerHandle | None
    task: asyncio.Task[Any] | None

    @property
    def agent(self) -> AgentId | None:
        """Who handles it, if it is for one agent."""
        return None

    @property
    def trace(self) -> Mapping[str, str]:
        """The headers that name the span that it was sent in."""
        return NO_HEADERS

    @property
    def withdrawn(self) -> bool:
        """Whether nobody wants it done any more."""
        raise NotImplementedError

    def refuse(self, error: BaseException) -> None:
        """Tell whoever waits for it that it will not be done."""
        raise NotImplementedError

    def chain(self) -> Iterator[Work]:
        """Yield the unfinished work that this is part of, itself first."""
        work: Work | None = self
        while work is not None:
            if not work.finished:
                yield work
            work = work.caused_by


class Turn(Work):
    """The handling of one message by one agent.

    Its token is its own, as a caller's may serve other calls too. Once nobody waits for the handler any more, it may go
    on until `ends_at`, on the loop's clock. `expiry` names the deadline that ended it, if one did.
    """

    __slots__ = ("_token", "ends_at", "expiry", "recipient", "started", "yielded")

    recipient: AgentId
    started: bool
    yielded: bool
    ends_at: float | None
    expiry: str | None
    _token: CancellationToken | None

    @property
    def agent(self) -> AgentId:
        return self.recipient

    @property
    def turn_id(self) -> str:
        # Unique among the turns that exist, and only those are ever compared.
        return str(id(self))

    @property
    def token(self) -> CancellationToken:
        """What tells the handler that nobody waits for it any more."""
        if self._token is None:
            self._token = CancellationToken()
        return self._token

    def context(self) -> MessageContext:
        raise NotImplementedError

    def abandon(self) -> None:
        """Cancel the token: nobody waits for the handler any more. Does nothing the second time."""
        if self.finished:
            return
        if self.started and self.ends_at is None:
            self.owner.watch(self)
        if self._token is not None:
            self._token.cancel()


class Call(Turn):
    """A direct message and the future of its answer."""

    __slots__ = (
        "_timed",
        "_timer",
        "callers_token",
        "deadline",
        "encoded",
        "future",
        "headers",
        "message",
        "sender",
    )

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
        self.finished = self.intercepting = self.left_behind = self.started = self.yielded = False
        self.task = self.ends_at = self.expiry = self.overdue_timer = self._token = None
        self.message = message
        self.recipient = recipient
        self.sender = sender
        self.message_id = message_id
        self.owner = owner
        self.future = future
        self.encoded: Encoded | None = None
        self.headers = NO_HEADERS
        self.caused_by = current_work.get()
        if self.caused_by is not None and self.caused_by.finished:
            self.caused_by = None
        self.callers_token = token
        self._timer: asyncio.TimerHandle | None = None
        # The deadline on the loop's clock, and the timeout and the call that it comes from.
        self.deadline = math.inf
        self._timed: tuple[float, Call] | None = None

    def __repr__(self) -> str:
        return f"{type(self.message).__name__} for {self.recipient}"

    @property
    def trace(self) -> Mapping[str, str]:
        return self.headers

    @property
    def withdrawn(self) -> bool:
        return self.future.done()

    def limit(self, timeout_s: float | None) -> None:
        """Let the call end after so many seconds, and with the turn that makes it. Not needed if there is neither."""
        above = self.caused_by if isinstance(self.caused_by, Turn) else None
        if above is not None and above.token._noticed:
            self._limit_cleaning_up(above, timeout_s)
            return
        loop = self.future.get_loop()
        if timeout_s is not None:
            self.deadline, self._timed = loop.time() + timeout_s, (timeout_s, self)
        if isinstance(above, Call) and above.deadline < self.deadline:
            # It also holds for a task that its handler leaves behind.
            self.deadline, self._timed = above.deadline, above._timed
        if self.deadline != math.inf:
            self._timer = loop.call_at(self.deadline, self._expire)
        if above is not None:
            above.token._link(self, self._end_with_caller)

    def unlink(self) -> None:
        """Let go of the turn that made the call, which has ended."""
        if isinstance(self.caused_by, Turn):
            self.caused_by.token._unlink(self)

    def context(self) -> MessageContext:
        token = self._token
        if token is None:
            token = self._token = CancellationToken()
        return MessageContext(self.sender, None, True, token, self.message_id)

    def sent_context(self) -> MessageContext:
        """Return what an intervention handler learns before the message is delivered: the token is the caller's."""
        return MessageContext(self.sender, None, True, self.callers_token or self.token, self.message_id)

    def answer(self, result: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.future.done():
            self.future.set_result(result)

    def refuse(self, error: BaseException) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.future.done() or self.future.get_loop().is_closed():
            return
        if isinstance(error, asyncio.CancelledError):
            self.future.cancel()
        else:
            self.future.set_exception(error)

    def abandon(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().abandon()

    def _limit_cleaning_up(self, above: Turn, timeout_s: float | None) -> None:
        """Limit a call that a turn makes after it was cancelled, to tidy up, to what is left of its grace time."""
        loop = self.future.get_loop()
        left_s = grace.GRACE_S if above.ends_at is None else max(above.ends_at - loop.time(), 0.0)
        if timeout_s is not None and timeout_s < left_s:
            left_s, self._timed = timeout_s, (timeout_s, self)
        self.deadline = loop.time() + left_s
        self._timer = loop.call_at(self.deadline, self._expire)

    def _expire(self) -> None:
        if self._timed is None:
            by, which = None, f"grace time of {grace.GRACE_S:g} s after a cancelled message"
        else:
            timeout_s, by = self._timed
            which = f"timeout of {timeout_s:g} s for a call to {by.recipient}"
            if by is not self and isinstance(self.caused_by, Turn):
                # Its turn expires at the same moment, be it just after this.
                self.caused_by.token._noticed = True
        self._end_at(which, "it" if by is self else f"the call to {self.recipient} that was made within it")

    def _end_with_caller(self) -> None:
        call_on(self.future.get_loop(), self._follow_caller)

    def _follow_caller(self) -> None:
        above = self.caused_by
        if not isinstance(above, Turn) or above.finished or self.future.done():
            # A task that its handler left behind goes on by itself.
            return
        above.token._noticed = True
        if above.expiry is None:
            # Whoever awaits the future abandons the call then.
            self.future.cancel()
        else:
            self._end_at(above.expiry, f"the call to {self.recipient} that was made within it")

    def _end_at(self, expiry: str, what: str) -> None:
        state = "had started" if self.started else "had not started"
        self.expiry = expiry
        # Not at once: the calls below follow, and theirs, and a tree may be deeper than the stack.
        self.future.get_loop().call_soon(self.abandon)
        self.refuse(DeadlineExceededError(f"The {expiry} passed; {what} {state}"))


class Publication(Work):
    """A published message on its way to its recipients."""

    __slots__ = ("_token", "encoded", "headers", "message", "sender", "topic_id")

    def __init__(
        self,
        message: Any,
        topic_id: TopicId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str,
        owner: Owner,
    ) -> None:
        self.message = message
        self.topic_id = topic_id
        self.sender = sender
        self.message_id = message_id
        self.owner = owner
        self.encoded: Encoded | None = None
        self.headers = NO_HEADERS
        self.finished = self.intercepting = self.left_behind = False
        self.task = self.overdue_timer = self.caused_by = None
        self._token = token

    @property
    def trace(self) -> Mapping[str, str]:
        return self.headers

    @property
    def withdrawn(self) -> bool:
        return self._token is not None and bool(self._token.is_cancelled)

    def __repr__(self) -> str:
        return f"{type(self.message).__name__} published to {self.topic_id}"

    def refuse(self, error: BaseException) -> None:
        # Nobody waits for it, so the log is the only place where its end can show.
        with lines_about(self):
            _logger.warning("Dropped %s: %s", self, error)

    def context(self) -> MessageContext:
        if self._token is None:
            self._token = CancellationToken()
        return MessageContext(self.sender, self.topic_id, False, self._token, self.message_id)

    def link(self, turn: EventTurn) -> None:
        """Let the publisher's token cancel a turn."""
        if self._token is not None:
            self._token._link(turn, turn.end_with_publisher)

    def unlink(self, turn: EventTurn) -> None:
        """Let go of a turn that has ended."""
        if self._token is not None:
            self._token._unlink(turn)


class EventTurn(Turn):
    """One recipient's share of a publication."""

    __slots__ = ("publication",)

    def __init__(self, publication: Publication, recipient: AgentId) -> None:
        self.finished = self.intercepting = self.left_behind = self.started = self.yielded = False
        self.task = self.ends_at = self.expiry = self.overdue_timer = self._token = None
        self.publication = publication
        self.recipient = recipient
        self.owner = publication.owner
        self.message_id = publication.message_id
        # Its publisher does not wait for it, so it belongs to no call chain.
        self.caused_by = None

    @property
    def trace(self) -> Mapping[str, str]:
        return self.publication.headers

    @property
    def withdrawn(self) -> bool:
        return self.publication.withdrawn

    def __repr__(self) -> str:
        return f"{self.publication} for {self.recipient}"

    def refuse(self, error: BaseException) -> None:
        with lines_about(self):
            _logger.warning("Dropped %s: %s", self, error)

    def context(self) -> MessageContext:
        event = self.publication
        return MessageContext(event.sender, event.topic_id, False, self.token, event.message_id)

    def end_with_publisher(self) -> None:
        """Called, in any thread, when the publisher's token is cancelled."""
        task = self.task
        if task is not None:
            call_on(task.get_loop(), self.abandon)
