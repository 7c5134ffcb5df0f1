"""Requests of this process to the gateway: over the connection of their turn, or over whichever there is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from hivewire.exceptions import (
    DeadlineExceededError,
    MessageTooLargeError,
    RuntimeStateError,
    WorkerLostError,
)
from hivewire.http.channel import Answer, Channel, ChannelClosedError, OutgoingRequest
from hivewire.http.frames import Header
from hivewire.http.hosted_turn import HostedTurn
from hivewire.http.link import Link
from hivewire.model.call_limit import CallLimit, limit_of
from hivewire.model.cancellation import CancellationToken, call_on
from hivewire.model.contexts import TurnContext, current_turn
from hivewire.model.serializer_registry import Encoded
from hivewire.telemetry import MessageTracer

__all__ = ["MANY", "Requests", "check_not_cancelled", "check_size", "link_tokens", "sent_seconds"]

MARGIN_S: Final = 5.0
"""How long after its deadline the gateway is waited for, which ends a call in time. It is only for one that hangs."""

_AT_ONCE_S: Final = 0.02

MANY: Final = 1 << 40
"""Leave for as many items as there are."""


class Requests:
    """Asks the gateway for things.

    Args:
        delivery_timeout: How long a connection is waited for.
    """

    def __init__(self, link: Link, tracer: MessageTracer, *, delivery_timeout: float) -> None:
        self._link = link
        self._tracer = tracer
        self._delivery_timeout = delivery_timeout
        self.max_payload = 1024 * 1024
        self.stopping = False

    async def ask(self, op: str, header: Header | None = None, payload: bytes = b"") -> Answer:
        """Ask for something that may be asked again: when the connection breaks it is.

        Raises:
            BrokerUnavailableError: there was no connection for long.
            Exception: what the gateway answers with.
        """
        while True:
            channel = await self._link.channel(self._delivery_timeout)
            try:
                return await channel.answer_to(op, header, payload)
            except ChannelClosedError:
                continue
            except RuntimeStateError:
                if not self._is_gone(channel):
                    raise

    async def call(
        self, op: str, header: Header, payload: bytes, *, timeout: float, token: CancellationToken | None, what: str
    ) -> tuple[Answer, list[Answer]]:
        """Ask for something that is done once, and return its answer and the items before it.

        Raises:
            WorkerLostError: the connection broke; whether it was done is unknown.
            BrokerUnavailableError: there was no connection for long; it was not done.
            DeadlineExceededError: the gateway is silent.
            Exception: what the gateway answers with.
        """
        limit = self.limit(timeout, token)
        begun = time.monotonic()
        while True:
            check_not_cancelled(limit)
            left = limit.seconds - (time.monotonic() - begun)
            if left <= 0:
                limit.pass_by()
                raise DeadlineExceededError(f"{what} was not sent: nothing is left of {limit}")
            channel = await self.channel(min(left, self._delivery_timeout))
            left = limit.seconds - (time.monotonic() - begun)
            timed = {**header, "timeout": sent_seconds(limit, left), "credit": MANY}
            silence = asyncio.timeout(left + MARGIN_S)
            try:
                async with silence, self.open(channel, op, timed, payload, limit) as request:
                    answer = (await request.answer).checked()
                    return answer, request.items()
            except TimeoutError:
                if not silence.expired():
                    raise
                raise DeadlineExceededError(f"{what} took longer than {limit}, and the gateway is silent") from None
            except ChannelClosedError as error:
                if self.stopping:
                    raise RuntimeStateError(f"The runtime stopped while {what} waited for its answer") from error
                if error.sent or self.own_turn() is not None:
                    raise WorkerLostError(
                        f"The connection to the gateway broke during {what} ({error}); whether it was done is unknown"
                    ) from error

    def own_turn(self) -> HostedTurn | None:
        """Return the turn that runs, if it is one that the gateway knows: one of this runtime."""
        turn = current_turn()
        return turn if isinstance(turn, HostedTurn) and turn.owner is self else None

    def limit(self, timeout: float, token: CancellationToken | None) -> CallLimit:
        """Return the limit of a call. That of the turn around it is the gateway's business, if it has the turn."""
        turn = self.own_turn()
        if turn is not None:
            if turn.ended or turn.token._noticed:
                return CallLimit(seconds=timeout, token=token)
            return CallLimit(seconds=timeout, token=None if token is turn.token else token, turn=turn)
        return limit_of(timeout, token, current_turn(), time.monotonic())

    async def channel(self, timeout: float) -> Channel:
        """Return the connection for a request: that of the turn that it belongs to, if that is one of this runtime.

        Raises:
            BrokerUnavailableError: there is none in time.
            WorkerLostError: the turn's connection has ended.
        """
        turn = self.own_turn()
        if turn is None or turn.channel is None:
            return await self._link.channel(timeout)
        if turn.channel.closed is not None:
            raise WorkerLostError("The connection that the handled message came by has ended")
        return turn.channel

    @asynccontextmanager
    async def open(
        self, channel: Channel, op: str, header: Header, payload: bytes, limit: CallLimit
    ) -> AsyncIterator[OutgoingRequest]:
        """Send a request for the body of the `with` statement. It is broken off when the limit's token is cancelled,
        and, unless it has its answer, at the end of the body."""
        turn = self.own_turn()
        request = await self.begin(channel, op, header, payload)
        unlink = link_tokens(request, limit)
        try:
            yield request
        except (asyncio.CancelledError, DeadlineExceededError):
            if turn is not None:
                turn.learn()
            raise
        except RuntimeStateError as error:
            if not self._is_gone(channel):
                raise
            raise ChannelClosedError("the gateway ends", sent=True) from error
        finally:
            unlink()
            request.cancel()

    def _is_gone(self, channel: Channel) -> bool:
        """Tell whether it is the gateway that has stopped, and not this runtime."""
        return channel.is_leaving and not self.stopping

    async def begin(self, channel: Channel, op: str, header: Header, payload: bytes) -> OutgoingRequest:
        """Send a request as part of the turn that runs."""
        turn = self.own_turn()
        if turn is not None:
            header = {**header, "turn": turn.number}
            if turn.token._noticed:
                header["noticed"] = True
        elif (other := current_turn()) is not None and other.chain:
            # It may come back to an agent that waits for it.
            header = {**header, "chain": other.chain}
        if self._tracer.enabled:
            header = {**header, "trace": self._tracer.inject()}
        return await channel.ask(op, header, payload)


def link_tokens(request: OutgoingRequest, limit: CallLimit) -> Callable[[], None]:
    """Break off a request when a token of its limit is cancelled; return how to take that back."""
    tokens = [limit.token] if limit.token is not None else []
    if limit.turn is not None:
        tokens.append(limit.turn.token)
    loop = asyncio.get_running_loop()
    for token in tokens:
        token._link(request, partial(call_on, loop, partial(_broken_off, request, token, limit.turn)))

    def unlink() -> None:
        for token in tokens:
            token._unlink(request)

    return unlink


def _broken_off(request: OutgoingRequest, token: CancellationToken, turn: TurnContext | None) -> None:
    token._noticed = True
    if turn is not None and token is turn.token and time.monotonic() >= turn.deadline:
        request.break_off(
            DeadlineExceededError("The call ended with the turn that it is part of, whose deadline has passed")
        )
    else:
        request.break_off(asyncio.CancelledError("The token was cancelled"))


def check_not_cancelled(limit: CallLimit) -> None:
    """Refuse to begin what has been cancelled.

    Raises:
        asyncio.CancelledError, DeadlineExceededError: a token, or the turn around it, was cancelled.
    """
    if limit.is_cancelled:
        turn = limit.turn
        if turn is not None and time.monotonic() >= turn.deadline:
            raise DeadlineExceededError("The call was not sent: the deadline of the turn that it is part of has passed")
        raise asyncio.CancelledError("The token was cancelled before the message was sent")


def sent_seconds(limit: CallLimit, left: float) -> float | None:
    """Return the timeout to tell the gateway: what its caller said, unless a part of that has passed."""
    if left == math.inf:
        return None
    return limit.seconds if limit.seconds - left < _AT_ONCE_S else left


def check_size(message: Encoded, limit: int, what: str) -> None:
    """Refuse a message that the gateway can't take.

    Raises:
        MessageTooLargeError: it has more bytes than the broker takes.
    """
    if len(message.payload) > limit:
        raise MessageTooLargeError(
            f"{what} has {len(message.payload)} bytes, and the broker takes {limit} bytes in all: send a reference to "
            "the data, or raise max_payload of nats-server"
        )
