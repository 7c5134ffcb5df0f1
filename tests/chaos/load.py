"""The load of a chaos run: events and calls over many keys, and a record of what became of each for the sender.

Nothing is tried again, so each send has one outcome. The publishes of one key come from one lane, one after the other,
so their order is known; calls have lanes of their own and may meet them in any order. A lane has one message under way.

A load goes on until it is told that it was enough: what is done to the workers may take longer on a slow machine, and
has to happen under load all the same.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from time import monotonic
from typing import Any

from chaos.agents import TOPIC_TYPE, TYPE, Ask, Entry
from chaos.model import DONE, Ended, Sent
from hivewire import AgentId, NatsAgentRuntime, TopicId

_POLL_S = 0.01

_MORE_SLOWLY = 4
"""A machine on which all takes so long is not to be flooded meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What the handler of a message does. One that `fails` or `exits` is doomed: no turn of it succeeds."""

    sleep_s: float = 0.0
    block_s: float = 0.0
    fails: bool = False
    exits: bool = False

    @property
    def is_doomed(self) -> bool:
        return self.fails or self.exits


_ORDINARY = Behaviour()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPlan:
    """What to send.

    Attributes:
        messages: How many at least.
        call_share: Share of the messages that are calls.
        publishers: Events that are published at once, at the most.
        callers: Calls that wait at once, at the most.
        pace_per_s: Messages that begin in a second, at the most; a run that breaks things for long has to last as long.
        call_timeout_s: Deadline of a call.
        events: How many of the events, by their number, behave otherwise.
        seed: Which keys and kinds come in which order.
    """

    messages: int = 20_000
    keys: int = 500
    call_share: float = 0.15
    publishers: int = 48
    callers: int = 64
    pace_per_s: float = 1_000.0
    call_timeout_s: float = 20.0
    events: Mapping[int, Behaviour] = field(default_factory=dict)
    seed: int = 1


class Load:
    """One load under way: `run` sends it, `sent` and `ended` are its record."""

    def __init__(self, runtime: NatsAgentRuntime, plan: LoadPlan, *, publish_timeout_s: float) -> None:
        self.plan = plan
        self._runtime = runtime
        self._publish_timeout_s = publish_timeout_s
        self._is_enough = False
        self.sent: list[Sent] = []
        self.ended: list[Ended] = []

    @property
    def keys(self) -> list[str]:
        """Every key that the load may send to."""
        return [_key(number) for number in range(self.plan.keys)]

    @property
    def share_done(self) -> float:
        """How much of what is to be sent at least has an outcome: above 1 while the load goes on."""
        return len(self.ended) / self.plan.messages

    async def reaches(self, share: float, *, timeout_s: float = 120.0) -> None:
        """Wait until so much of it has an outcome."""
        deadline = monotonic() + timeout_s
        while self.share_done < share:
            assert monotonic() < deadline, f"the load stands at {self.share_done:.0%}"
            await asyncio.sleep(_POLL_S)

    def enough(self) -> None:
        """Let it end once it has sent what it is to send at least."""
        self._is_enough = True

    async def run(self) -> None:
        """Send until it is enough, and return when each message has its outcome."""
        plan = self.plan
        calls: _Lane = asyncio.Queue()
        lanes: defaultdict[int, _Lane] = defaultdict(asyncio.Queue)
        async with asyncio.TaskGroup() as tasks:
            for number in range(plan.publishers):
                tasks.create_task(self._serve(lanes[number]))
            for _ in range(plan.callers):
                tasks.create_task(self._serve(calls))
            due_s = monotonic()
            for item in _items(plan):
                is_more = item.number >= plan.messages
                if is_more and self._is_enough:
                    break
                # A broker that is away holds up the lanes, not what they are given.
                await asyncio.sleep(due_s - monotonic())
                due_s += (_MORE_SLOWLY if is_more else 1) / plan.pace_per_s
                (calls if item.is_call else lanes[item.key_number % plan.publishers]).put_nowait(item)
            for lane in (*lanes.values(), *[calls] * plan.callers):
                lane.put_nowait(None)

    async def _serve(self, lane: "_Lane") -> None:
        while (item := await lane.get()) is not None:
            await (self._call(item) if item.is_call else self._publish(item))

    async def _publish(self, item: "_Item") -> None:
        event = Entry(item.id, **asdict(item.behaviour))
        self._begin(item, self._publish_timeout_s)
        try:
            await self._runtime.publish_message(event, TopicId(TOPIC_TYPE, item.key), message_id=item.id)
        except Exception as error:
            self._end(item, type(error).__name__)
        else:
            self._end(item, DONE)

    async def _call(self, item: "_Item") -> None:
        timeout_s = self.plan.call_timeout_s
        self._begin(item, timeout_s)
        try:
            answer: Any = await self._runtime.send_message(
                Ask(item.id), AgentId(TYPE, item.key), message_id=item.id, timeout=timeout_s
            )
        except Exception as error:
            self._end(item, type(error).__name__)
        else:
            self._end(item, DONE, answer=answer.place)

    def _begin(self, item: "_Item", timeout_s: float) -> None:
        now = monotonic()
        self.sent.append(
            Sent(
                id=item.id,
                key=item.key,
                kind="call" if item.is_call else "event",
                begun_s=now,
                deadline_s=now + timeout_s,
                doomed=item.behaviour.is_doomed,
            )
        )

    def _end(self, item: "_Item", outcome: str, *, answer: int | None = None) -> None:
        self.ended.append(Ended(id=item.id, at_s=monotonic(), outcome=outcome, answer=answer))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    number: int
    id: str
    key_number: int
    is_call: bool
    behaviour: Behaviour = _ORDINARY

    @property
    def key(self) -> str:
        return _key(self.key_number)


_Lane = asyncio.Queue[_Item | None]


def _items(plan: LoadPlan) -> Iterator[_Item]:
    dice = random.Random(plan.seed)
    events, calls = count(), count()
    for number in count():
        key_number = dice.randrange(plan.keys)
        if dice.random() < plan.call_share:
            yield _Item(number=number, id=f"c{next(calls)}", key_number=key_number, is_call=True)
        else:
            event = next(events)
            behaviour = plan.events.get(event, _ORDINARY)
            yield _Item(number=number, id=f"e{event}", key_number=key_number, is_call=False, behaviour=behaviour)


def _key(number: int) -> str:
    return f"k{number}"
