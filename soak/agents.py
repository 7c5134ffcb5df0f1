"""The counters that a soak keeps busy, and how a process serves them.

A counter persists what it counted, so that the stored states tell at the end what was lost and what was counted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from hivewire import (
    MessageContext,
    NatsAgentRuntime,
    RetryPolicy,
    RoutedAgent,
    TypeSubscription,
    event,
    rpc,
)

TYPE: Final = "counter"
TOPIC_TYPE: Final = "soak"
NAMESPACE: Final = "soak"
RETENTION_S: Final = 60.0
"""How long a finished event stays. Short, so that what the broker has to keep does not grow."""


class DoomedError(Exception):
    """What an event that is meant for the dead letters fails with."""


@dataclass
class Count:
    """An event: count one more. One that `fails` never succeeds."""

    fails: bool = False


@dataclass
class CountCall:
    """The same as a call; it is answered by `Counted`."""


@dataclass
class ReadCounted:
    """Asks for what was counted, and counts nothing."""


@dataclass
class Counted:
    """How many events and how many calls one counter has counted."""

    events: int = 0
    calls: int = 0


class Counter(RoutedAgent):
    """Counts its events and its calls."""

    retry_policy = RetryPolicy(attempts=3, first_delay_s=0.1, max_delay_s=0.5)

    def __init__(self) -> None:
        super().__init__("counter")
        self._counted = Counted()

    @event
    async def on_count(self, message: Count, ctx: MessageContext) -> None:
        if message.fails:
            raise DoomedError("this one always fails")
        self._counted.events += 1

    @rpc
    async def on_call(self, message: CountCall, ctx: MessageContext) -> Counted:
        self._counted.calls += 1
        return self._counted

    @rpc
    async def on_read(self, message: ReadCounted, ctx: MessageContext) -> Counted:
        return self._counted

    async def save_state(self) -> Mapping[str, Any]:
        return asdict(self._counted)

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self._counted = Counted(**state)


async def serve(runtime: NatsAgentRuntime) -> None:
    """Register the counters and start."""
    await Counter.register(runtime, TYPE, Counter)
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, TYPE))
    await runtime.start()
