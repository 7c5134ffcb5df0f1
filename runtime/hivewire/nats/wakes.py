"""Tells whoever scales that a type is needed which nobody serves, and hears whether somebody will.

Asked with a request, so that it costs nothing where nobody scales: then the server says at once that nobody listens.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from hivewire.exceptions import AccessDeniedError, BrokerUnavailableError
from hivewire.nats.broker import Broker
from hivewire.nats.subjects import Subjects

_EVERY_S: Final = 1.0
_TIMEOUT_S: Final = 1.0
_PROMISED_S: Final = 5.0

COMING: Final = json.dumps({"coming": True}).encode()
NOT_COMING: Final = json.dumps({"coming": False}).encode()


class Wakes:
    """What this process has asked for. All calls to a type ask together, at most once a second."""

    def __init__(self, broker: Broker, subjects: Subjects) -> None:
        self._broker = broker
        self._subjects = subjects
        self._asked_at: dict[str, float] = {}
        self._coming_until: dict[str, float] = {}

    def is_coming(self, agent_type: str) -> bool:
        """Tell whether somebody has said lately that a process for the type is on its way."""
        return self._coming_until.get(agent_type, 0.0) > asyncio.get_running_loop().time()

    async def ask(self, agent_type: str) -> None:
        """Ask, unless that was done within the last second. Takes at most a second."""
        now = asyncio.get_running_loop().time()
        if now - self._asked_at.get(agent_type, -_EVERY_S) < _EVERY_S:
            return
        self._asked_at[agent_type] = now
        try:
            answer = await self._broker.request(self._subjects.wake(agent_type), b"", timeout=_TIMEOUT_S)
        except (TimeoutError, BrokerUnavailableError, AccessDeniedError):
            return
        if answer.data == COMING:
            self._coming_until[agent_type] = now + _PROMISED_S
        else:
            self._coming_until.pop(agent_type, None)
