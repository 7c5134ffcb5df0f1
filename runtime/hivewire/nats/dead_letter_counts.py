"""How many dead letters there are of each agent type, counted anew only when there are others than before."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping

from hivewire.nats.broker import Broker
from hivewire.nats.lag_probe import count_waiting
from hivewire.nats.registry import TypeRecord
from hivewire.nats.subjects import Subjects, type_token

LISTED_AT_MOST = 10_000
"""So many are counted by a list of them; with more, the server is asked for each registered type."""

_AT_ONCE = 16


class DeadLetterCounts:
    """Counts the dead letters of a namespace."""

    def __init__(self, broker: Broker, subjects: Subjects) -> None:
        self._broker = broker
        self._subjects = subjects
        self._seen: tuple[object, ...] = ()
        self._counts: Mapping[str, int] = {}

    async def read(self, types: Collection[TypeRecord]) -> Mapping[str, int]:
        """Return the counts by the tokens of the types.

        Raises:
            JetStreamError: there is no such stream.
            BrokerUnavailableError: the broker doesn't answer.
        """
        info = await self._broker.api(f"STREAM.INFO.{self._subjects.dead_stream}")
        state = info["state"]
        seen = (info["created"], state["last_seq"], state["messages"])
        if seen != self._seen:
            listed = int(state["messages"]) <= LISTED_AT_MOST
            self._counts = await (self._listed() if listed else self._asked_for(types))
            self._seen = seen
        return self._counts

    async def _listed(self) -> Mapping[str, int]:
        stream, counts, read = self._subjects.dead_stream, Counter[str](), 0
        while True:
            body = {"subjects_filter": self._subjects.dead_letters, "offset": read}
            answer = await self._broker.api(f"STREAM.INFO.{stream}", body)
            page = answer["state"].get("subjects") or {}
            read += len(page)
            for subject, number in page.items():
                counts[subject.split(".")[-3]] += number
            if not page or read >= int(answer.get("total", 0)):
                return counts

    async def _asked_for(self, types: Collection[TypeRecord]) -> Mapping[str, int]:
        room = asyncio.Semaphore(_AT_ONCE)

        async def count(agent_type: str) -> int:
            async with room:
                return await count_waiting(
                    self._broker, self._subjects.dead_stream, [self._subjects.dead_of(agent_type)], start=1
                )

        counts = await asyncio.gather(*(count(record.name) for record in types))
        return {type_token(record.name): number for record, number in zip(types, counts, strict=True) if number}
