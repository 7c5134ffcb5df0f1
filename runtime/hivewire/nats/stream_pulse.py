"""Whether the handler of a kept stream still runs, for those who read what it stored.

Who runs the handler, or still tries to have it run, listens to a subject of the stream and answers who asks there. The
server answers for a process that is gone: nobody listens. One that reconnects is away for a moment, so who asks has to
hear that twice, some seconds apart.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Literal

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import NO_RESPONDERS, Broker, Waiter, is_status
from hivewire.nats.subscription import BrokerSubscription

log = logging.getLogger("hivewire.streams")

PulseRole = Literal["running", "calling"]
"""What there is to a stream here: its handler, or the call that asks for it."""

Pulse = Literal["running", "calling", "nobody", "silence"]

AWAY_S: Final = 3.0
"""How long nobody has to have answered, at least."""

SILENT_S: Final = 75.0
"""How long the answer may take of one that listens: longer than an event loop that is blocked counts as alive."""

_ANSWER_S: Final = 1.0


class PulseWatch:
    """Decides from what was heard of a stream whether its handler is gone."""

    def __init__(self) -> None:
        self._nobody_since: float | None = None
        self._silent_since: float | None = None

    def hear(self, pulse: Pulse, now: float, *, begun: bool) -> bool:
        """Take note of an answer at `now` on the monotonic clock, and tell whether the handler is gone. Once it has
        `begun`, the call that asked for it says nothing of it."""
        match pulse:
            case "nobody":
                self._silent_since = None
                if self._nobody_since is None:
                    self._nobody_since = now
                return now - self._nobody_since >= AWAY_S
            case "silence":
                if self._silent_since is None:
                    self._silent_since = now
                return now - self._silent_since >= SILENT_S
            case "calling" if begun:
                return self.hear("nobody", now, begun=begun)
            case _:
                self.reset()
                return False

    def reset(self) -> None:
        """Begin anew: there was a sign of life, or nobody could have been heard."""
        self._nobody_since = self._silent_since = None


async def answer_for(broker: Broker, subject: str, role: PulseRole) -> BrokerSubscription:
    """Answer who asks for a stream, until the subscription that is returned ends."""
    payload = role.encode()

    async def on_question(message: Msg) -> None:
        if message.reply:
            try:
                await broker.publish(message.reply, payload)
            except BrokerUnavailableError as error:
                log.debug("who asks for %s is not answered: %s", subject, error)

    return await broker.subscribe(subject, on_question)


async def pulse_of(broker: Broker, subject: str) -> Pulse:
    """Ask for a stream.

    Raises:
        BrokerUnavailableError: there is no connection.
        AccessDeniedError: the server refused the subject.
    """
    answers: list[Pulse] = []
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_answer(message: Msg) -> None:
        pulse: Pulse = "calling"
        if is_status(message, NO_RESPONDERS):
            pulse = "nobody"
        elif message.data == b"running":
            pulse = "running"
        answers.append(pulse)
        # The handler's process and the caller's may both answer.
        if pulse != "calling" and not told.done():
            told.set_result(None)

    def on_error(error: Exception) -> None:
        if not told.done():
            told.set_exception(error)

    token = broker.new_token()
    reply = broker.listen(token, Waiter(subject, on_answer, on_error))
    try:
        await broker.publish(subject, b"", reply=reply)
        async with asyncio.timeout(_ANSWER_S):
            await told
    except TimeoutError:
        pass
    finally:
        broker.forget(token)
    return answers[-1] if answers else "silence"
