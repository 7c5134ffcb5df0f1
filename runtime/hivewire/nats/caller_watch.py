"""Notices callers that are gone, so that what they asked for does not run on for nobody.

A caller's process that ends takes its subscriptions with it, and the server tells whoever sends to one that nobody is
there. So each caller is sent a sign of life now and then while it waits for a call. One whose connection broke comes
back within less than `GONE_S` as a rule; a call that is ended too early for that ends with an error all the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from nats.aio.msg import Msg

from hivewire.nats.broker import NO_RESPONDERS, Broker, Waiter, is_status
from hivewire.nats.envelope import ReplyEnvelope, encode_reply
from hivewire.nats.outbox import Outbox

LOOK_EVERY_S: Final = 0.15
GONE_S: Final = 0.45
"""A caller that was away at every look for so long is gone."""

_CALLER_TOKENS: Final = 4
"""How many tokens of a reply subject name the process of the caller: `_INBOX`, namespace, deployment, and its own."""

_RECONNECT_GRACE_S = 5.0
"""After a break of this process's own connection, its callers may be on their way back too."""


@dataclass(slots=True, eq=False)
class _Call:
    reply: str
    caller: str
    token: str = ""
    probe: str = ""
    missed: bool = False


class CallerWatch:
    """Watches the callers of the calls that run in this process.

    Args:
        on_gone: Called with the reply subject of each call whose caller is gone.
    """

    def __init__(self, broker: Broker, outbox: Outbox, on_gone: Callable[[str], None]) -> None:
        self._broker = broker
        self._outbox = outbox
        self._on_gone = on_gone
        # Most calls are over before the first look, so they cost next to nothing until then.
        self._new: dict[str, None] = {}
        self._calls: dict[str, _Call] = {}
        self._away: dict[str, float] = {}
        self._quiet_until = 0.0
        broker.on_reconnect.append(self._be_patient)

    def add(self, reply: str) -> None:
        """Watch the caller that listens to `reply`, until `remove`."""
        self._new[reply] = None

    def remove(self, reply: str) -> None:
        self._new.pop(reply, None)
        call = self._calls.pop(reply, None)
        if call is not None and call.token:
            self._broker.forget(call.token)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self._look(time.monotonic())

    def _look(self, now: float) -> None:
        for reply in self._new:
            self._calls[reply] = _Call(reply, ".".join(reply.split(".", _CALLER_TOKENS)[:_CALLER_TOKENS]))
        self._new.clear()
        calls = list(self._calls.values())
        connected = self._broker.connected.is_set() and now >= self._quiet_until
        away = {call.caller for call in calls if call.missed} if connected else set()
        self._away = {caller: since for caller, since in self._away.items() if caller in away}
        looked_at: set[str] = set()
        for call in calls:
            missed, call.missed = call.missed, False
            if missed and now - self._away.get(call.caller, now) >= GONE_S:
                self.remove(call.reply)
                self._on_gone(call.reply)
            # One call stands for all of a process, while nothing seems wrong with it.
            elif connected and (call.caller in self._away or call.caller not in looked_at):
                looked_at.add(call.caller)
                self._probe(call)

    def _probe(self, call: _Call) -> None:
        if not call.token:
            call.token = self._broker.new_token()
            call.probe = self._broker.listen(call.token, Waiter("", partial(self._on_answer, call), _pass))
        headers, payload = _ALIVE
        self._outbox.post(call.reply, payload, reply=call.probe, headers=headers)

    def _on_answer(self, call: _Call, message: Msg) -> None:
        if is_status(message, NO_RESPONDERS):
            call.missed = True
            self._away.setdefault(call.caller, time.monotonic())

    def _be_patient(self) -> None:
        self._quiet_until = time.monotonic() + _RECONNECT_GRACE_S


def _pass(error: Exception) -> None:
    """What becomes of a probe doesn't matter: there is another one soon."""


_ALIVE = encode_reply(ReplyEnvelope(status="alive"))
