"""The event stream as it is now: which one it is, where it begins and ends, and how full it is.

A stream that is deleted and made again has the same name, and its sequences begin anew; only its creation time tells
the two apart. Whoever compares sequences asks here which stream they are of.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hivewire.nats.broker import Broker, JetStreamError

STREAM_NOT_FOUND = 10059
_STREAM_FULL = 10077
NO_MESSAGE = 10037

_AT_ONCE = 32

CROWDED = 0.8
"""The share of a limit above which a stream is nearly full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """A stream at one moment, `now` by the server's clock, as its leader sees it. An empty one begins after its end."""

    created: str
    first: int
    last: int
    now: datetime
    fullness: float = 0.0
    replicas: int = 1
    leader: str = ""

    @property
    def crowded(self) -> bool:
        return self.fullness > CROWDED

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> StreamState:
        """Read the answer of ``STREAM.INFO``."""
        state, config = info["state"], info["config"]
        used = [(state["messages"], config.get("max_msgs", -1)), (state["bytes"], config.get("max_bytes", -1))]
        return cls(
            created=str(info["created"]),
            first=max(int(state["first_seq"]), 1),
            last=int(state["last_seq"]),
            now=datetime.fromisoformat(info["ts"]),
            fullness=max((amount / limit for amount, limit in used if limit > 0), default=0.0),
            replicas=int(config.get("num_replicas", 1)),
            leader=str((info.get("cluster") or {}).get("leader", "")),
        )


class EventStream:
    """The event stream of a namespace. All parts of a process share this object.

    `created` is the creation time of the stream that this process works with; `StreamWatch` changes it. `doubted` is
    set by whoever finds that the stream may be gone, or be another one.
    """

    def __init__(self, broker: Broker, name: str, created: str) -> None:
        self._broker = broker
        self.name = name
        self.created = created
        self.doubted = asyncio.Event()
        self._asking = asyncio.Lock()
        self._asked = 0
        self._answered = 0
        self._state: StreamState | None = None

    @property
    def replicas(self) -> int:
        """How many replicas the stream had when it was last looked at."""
        return 1 if self._state is None else self._state.replicas

    async def look(self) -> StreamState:
        """Return the state at a moment after this call. Many who look at once cost the server one request.

        Raises:
            JetStreamError: there is no such stream, or the server refuses.
            BrokerUnavailableError: nobody answered in time.
        """
        self._asked += 1
        ticket = self._asked
        async with self._asking:
            if self._state is None or self._answered < ticket:
                covered = self._asked
                self._state = await self._ask()
                self._answered = covered
            return self._state

    async def holds_none(self, filters: Sequence[str], *, after: int, seen: StreamState) -> bool:
        """Tell whether no message matches some filters, of those after a sequence that were stored when the stream was
        `seen`.

        A consumer says the same of the copy that its own server has, which may lag behind that of the leader; so with
        several replicas the leader is asked, and it has to be the same one all the time.

        Raises:
            JetStreamError, BrokerUnavailableError: as for `look`.
        """
        if seen.replicas < 2 or after >= seen.last:
            return True
        found = await self.next_of(filters, after=after)
        if found is not None and found <= seen.last:
            return False
        return (await self.look()).leader == seen.leader

    async def next_of(self, filters: Sequence[str], *, after: int) -> int | None:
        """Return the first sequence after another one that some filter matches, as the leader has it; None: there is
        none by now.

        Raises:
            JetStreamError, BrokerUnavailableError: as for `look`.
        """
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def first(subject: str) -> int | None:
            async with at_once:
                return await self._sequence({"seq": after + 1, "next_by_subj": subject})

        found = [sequence for sequence in await asyncio.gather(*map(first, filters)) if sequence is not None]
        return min(found, default=None)

    async def last_of(self, subject: str) -> int:
        """Return the sequence of the last message that a filter matches, as the leader has it; 0: there is none.

        Raises:
            JetStreamError, BrokerUnavailableError: as for `look`.
        """
        return await self._sequence({"last_by_subj": subject}) or 0

    async def sequence_at(self, moment: datetime) -> int | None:
        """Return the first sequence that is not older than a moment of the server's clock; None: all are older.

        Raises:
            JetStreamError, BrokerUnavailableError: as for `look`.
        """
        return await self._sequence({"start_time": moment.isoformat()})

    async def _sequence(self, wanted: Mapping[str, Any]) -> int | None:
        """Return the sequence of a message that the leader has; None: it has no such one."""
        try:
            answer = await self._broker.api(f"STREAM.MSG.GET.{self.name}", wanted)
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        return int(answer["message"]["seq"])

    async def _ask(self) -> StreamState:
        try:
            state = StreamState.from_info(await self._broker.api(f"STREAM.INFO.{self.name}"))
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                self.doubted.set()
            raise
        if state.created != self.created:
            self.doubted.set()
        return state


def why_refused(error: JetStreamError, stream: str) -> str:
    """Say why a stream did not store a message, and what to do."""
    if error.code != _STREAM_FULL:
        return str(error)
    return (
        "the event stream is full and takes nothing more: find the type that is behind by `hivewire ps` and let it "
        f"catch up, or raise max_bytes or max_msgs of the stream {stream}; what all types have finished is removed "
        "within a minute, so publish again then"
    )
