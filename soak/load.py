"""A steady load of events and calls on a fixed set of counters, and what of it was accepted."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Any, Final

from hivewire import AgentId, HivewireError, NatsAgentRuntime, TopicId
from soak.agents import TOPIC_TYPE, TYPE, Count, CountCall

KEYS: Final = tuple(f"key {number}" for number in range(200))
EVENTS_PER_S: Final = 100.0
CALLS_PER_S: Final = 25.0
DOOMED_EVERY: Final = 50
"""Every so manyth event fails until it is a dead letter."""

MOST_AT_ONCE: Final = 64
"""Of each kind. A broker or a worker that falls behind slows the load down."""


@dataclass
class Accepted:
    """What the counters have to show, by key. A call without an answer may or may not have been counted."""

    events: Tally[str] = field(default_factory=Tally)
    doomed: int = 0
    answered: Tally[str] = field(default_factory=Tally)
    unanswered: Tally[str] = field(default_factory=Tally)
    errors: Tally[str] = field(default_factory=Tally)


class Load:
    """Sends while `run` runs. `under_way` tells how many tasks of its own wait for an outcome."""

    def __init__(self, runtime: NatsAgentRuntime) -> None:
        self._runtime = runtime
        self.accepted = Accepted()
        self.under_way = 0

    async def run(self, going_on: Callable[[], bool]) -> None:
        """Send while `going_on` says so, and return when everything has its outcome.

        Raises:
            ExceptionGroup: an event was not accepted, though the broker was there.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pace(EVENTS_PER_S, self._publish, going_on))
            tasks.create_task(self._pace(CALLS_PER_S, self._call, going_on))

    async def _pace(
        self, per_s: float, send: Callable[[int, str], Coroutine[Any, Any, None]], going_on: Callable[[], bool]
    ) -> None:
        loop = asyncio.get_running_loop()
        keys, room, due = cycle(KEYS), asyncio.Semaphore(MOST_AT_ONCE), loop.time()

        async def send_one(number: int, key: str) -> None:
            self.under_way += 1
            try:
                await send(number, key)
            finally:
                self.under_way -= 1
                room.release()

        async with asyncio.TaskGroup() as tasks:
            for number in count(1):
                await room.acquire()
                # What was late is not made up for, so that the load is steady.
                due = max(due + 1 / per_s, loop.time())
                await asyncio.sleep(due - loop.time())
                if not going_on():
                    return
                tasks.create_task(send_one(number, next(keys)))

    async def _publish(self, number: int, key: str) -> None:
        fails = number % DOOMED_EVERY == 0
        await self._runtime.publish_message(Count(fails), TopicId(TOPIC_TYPE, key))
        if fails:
            self.accepted.doomed += 1
        else:
            self.accepted.events[key] += 1

    async def _call(self, number: int, key: str) -> None:
        try:
            await self._runtime.send_message(CountCall(), AgentId(TYPE, key), timeout=30)
            self.accepted.answered[key] += 1
        except HivewireError as error:
            self.accepted.unanswered[key] += 1
            self.accepted.errors[type(error).__name__] += 1
