"""What the local runtime has in hand: calls, publications, and the turn in which one agent handles an event.

A call remembers the turn that made it. So a serial agent can let its own inner calls in, and a handler that stops the
runtime doesn't wait for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from hivewire.exceptions import DeadlineExceededError
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext

if TYPE_CHECKING:
    from hivewire.model.ids import AgentId
    from hivewire.model.serializer_registry import Encoded
    from hivewire.model.topics import TopicId

__all__ = ["Call", "EventTurn", "Publication", "Turn", "Work", "current_work"]

_logger = logging.getLogger("hivewire.local")

current_work: ContextVar[Work | None] = ContextVar("hivewire_local_work", default=None)
"""The work whose handler or interception runs."""

NO_HEADERS: Mapping[str, str] = {}


class Work:
    """Something accepted that the runtime has not finished. `owner` tells apart the work of several runtimes."""

    __slots__ = ("caused_by", "finished", "intercepting", "owner")

    owner: object
    caused_by: Work | None
    finished: bool
    intercepting: bool

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
    """The handling of one message by one agent."""

    __slots__ = ("recipient", "started")

    recipient: AgentId
    started: bool

    @property
    def turn_id(self) -> str:
        # Unique among the turns that exist, and only those are ever compared.
        return str(id(self))


class Call(Turn):
    """A direct message and the future of its answer."""

    __slots__ = (
        "_timer",
        "_token",
        "_token_is_shared",
        "encoded",
        "future",
        "headers",
        "message",
        "message_id",
        "sender",
    )

    def __init__(
        self,
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str,
        owner: object,
        future: asyncio.Future[Any],
    ) -> None:
        self.message = message
        self.recipient = recipient
        self.sender = sender
        self.message_id = message_id
        self.owner = owner
        self.future = future
        self.encoded: Encoded | None = None
        self.headers = NO_HEADERS
        self.started = False
        self.finished = False
        self.intercepting = False
        self.caused_by = current_work.get()
        if self.caused_by is not None and self.caused_by.finished:
            self.caused_by = None
        self._timer: asyncio.TimerHandle | None = None
        self._token = token
        self._token_is_shared = token is not None

    def __repr__(self) -> str:
        return f"{type(self.message).__name__} for {self.recipient}"

    @property
    def withdrawn(self) -> bool:
        return self.future.done()

    def link_token(self) -> None:
        """Let the caller's token cancel the call."""
        if self._token is not None:
            self._token.link_future(self.future)

    def set_deadline(self, timeout_s: float) -> None:
        """Fail the call with `DeadlineExceededError` after so many seconds; the handler's token is cancelled then."""
        if self._token is not None:
            # The deadline must not cancel the caller's token, which may serve other calls.
            self._token = CancellationToken()
            self._token_is_shared = False
            self.future.add_done_callback(self._follow)
        self._timer = self.future.get_loop().call_later(timeout_s, self._expire, timeout_s)

    def context(self) -> MessageContext:
        if self._token is None:
            self._token = CancellationToken()
        return MessageContext(self.sender, None, True, self._token, self.message_id)

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
        """Note that the caller does not wait any more: the handler's token says so, unless it is the caller's own."""
        if self._timer is not None:
            self._timer.cancel()
        if self._token is not None and not self._token_is_shared:
            self._token.cancel()

    def _follow(self, future: asyncio.Future[Any]) -> None:
        if future.cancelled():
            self.abandon()

    def _expire(self, timeout_s: float) -> None:
        state = "had started" if self.started else "had not started"
        self.refuse(
            DeadlineExceededError(f"The timeout of {timeout_s:g} s for a call to {self.recipient} passed; it {state}")
        )
        self.abandon()


class Publication(Work):
    """A published message on its way to its recipients."""

    __slots__ = ("_token", "encoded", "headers", "message", "message_id", "sender", "topic_id")

    def __init__(
        self,
        message: Any,
        topic_id: TopicId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str,
        owner: object,
    ) -> None:
        self.message = message
        self.topic_id = topic_id
        self.sender = sender
        self.message_id = message_id
        self.owner = owner
        self.encoded: Encoded | None = None
        self.headers = NO_HEADERS
        self.finished = False
        self.intercepting = False
        self.caused_by = None
        self._token = token

    @property
    def withdrawn(self) -> bool:
        return self._token is not None and bool(self._token.is_cancelled)

    def __repr__(self) -> str:
        return f"{type(self.message).__name__} published to {self.topic_id}"

    def refuse(self, error: BaseException) -> None:
        # Nobody waits for it, so the log is the only place where its end can show.
        _logger.warning("Dropped %s: %s", self, error)

    def context(self) -> MessageContext:
        if self._token is None:
            self._token = CancellationToken()
        return MessageContext(self.sender, self.topic_id, False, self._token, self.message_id)


class EventTurn(Turn):
    """One recipient's share of a publication."""

    __slots__ = ("publication",)

    def __init__(self, publication: Publication, recipient: AgentId) -> None:
        self.publication = publication
        self.recipient = recipient
        self.started = False
        self.owner = publication.owner
        self.finished = False
        self.intercepting = False
        # Its publisher does not wait for it, so it belongs to no call chain.
        self.caused_by = None

    @property
    def withdrawn(self) -> bool:
        return self.publication.withdrawn

    def __repr__(self) -> str:
        return f"{self.publication} for {self.recipient}"

    def refuse(self, error: BaseException) -> None:
        _logger.warning("Dropped %s: %s", self, error)
