"""The checker of the chaos runs: what must be true of what was observed, given what was sent.

It knows nothing of the runtime, on purpose: it is told what a client did and saw (`Sent`, `Ended`), and what the
agents' persisted state, the dead letters and the journals held at the end, and says what does not fit. All times are
readings of one monotonic clock, in seconds.

What it holds against a run:

- An event whose publish returned is in its agent's ledger exactly once, unless it was sent to die; then it is a dead
  letter exactly once, and in no ledger.
- A publish or a call whose outcome is unknown took effect once or not at all; one that was refused, not at all.
- Every send had exactly one outcome, before its deadline and some slack.
- A ledger agrees with time: what was surely done, or surely stored, before another message was sent comes before it.
  For the publishes of one publisher and key, one after the other, that is their order. A call may overtake an event
  that was stored before it, because they take different ways.
- A ledger's counter is its length, and a call's answer is its own place in the ledger: what was answered was committed.
- In a run in which no process died, a turn was handled once, even where the ledger would hide a second time.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from math import inf
from typing import Literal

UNKNOWN_OUTCOMES = frozenset(
    ("WorkerLostError", "DeadlineExceededError", "BrokerUnavailableError", "RuntimeStateError", "CancelledError")
)
"""Errors after which the message may have been handled. Every other error says that it was not."""

DONE = "done"
"""The outcome of a publish that returned, and of a call that returned a value."""


class Kind(StrEnum):
    """What can be wrong. The value is what a report calls it."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    REFUSED_BUT_DONE = "refused, but in the ledger"
    OUT_OF_ORDER = "out of order"
    FOREIGN = "in a ledger that it was not sent to"
    WRONG_COUNTER = "counter is not the ledger's length"
    WRONG_ANSWER = "answer is not the place in the ledger"
    NO_OUTCOME = "no outcome"
    SEVERAL_OUTCOMES = "several outcomes"
    LATE = "outcome after the deadline"
    NOT_DEAD = "should be a dead letter"
    WRONGLY_DEAD = "should not be a dead letter"
    DEAD_AND_DONE = "dead letter, but in the ledger"
    DEAD_TWICE = "two dead letters"
    HANDLED_TWICE = "handled twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One publish or call as it began. `doomed`: no turn of it can succeed, so it should end as a dead letter."""

    id: str
    key: str
    kind: Literal["event", "call"]
    begun_s: float
    deadline_s: float
    doomed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """One outcome as its caller saw it: `DONE`, or the name of the error's class. `answer` is that of a call."""

    id: str
    at_s: float
    outcome: str
    answer: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What one agent's persisted state says."""

    counter: int
    ids: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """A handler that ran to its end, whatever became of the turn."""

    id: str
    key: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A whole run: what was sent, how it ended for the sender, and what was found at the end.

    `dead` are the message ids of the dead letters. `handled_once` is None when processes may have died; else the
    handled turns, each of which must be there once.
    """

    sent: Sequence[Sent]
    ended: Sequence[Ended]
    ledgers: Mapping[str, Ledger]
    dead: Sequence[str] = ()
    handled_once: Sequence[Handled] | None = None
    slack_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing that does not fit. `id` is empty where a whole ledger is meant."""

    kind: Kind
    key: str
    id: str = ""
    detail: str = ""

    def __str__(self) -> str:
        what = f"{self.id} of {self.key}" if self.id else self.key
        return f"{what}: {self.kind}{f' ({self.detail})' if self.detail else ''}"


def check(history: History) -> list[Violation]:
    """Return everything in a run that must not be."""
    outcomes: defaultdict[str, list[Ended]] = defaultdict(list)
    for ended in history.ended:
        outcomes[ended.id].append(ended)
    sent = {each.id: each for each in history.sent}
    if len(sent) != len(history.sent):
        raise ValueError("the same message id was sent twice: the load is wrong, not the runtime")
    messages = [_Message.of(each, outcomes[each.id], history) for each in history.sent]
    by_id = {message.sent.id: message for message in messages}
    return list(
        chain(
            chain.from_iterable(_of_caller(each, outcomes[each.sent.id], history.slack_s) for each in messages),
            chain.from_iterable(_of_effect(each) for each in messages),
            chain.from_iterable(_of_ledger(key, ledger, by_id) for key, ledger in history.ledgers.items()),
            _of_dead(history.dead, by_id),
            _of_handled(history.handled_once or ()),
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Message:
    """A message with all that is known of it. `places` are its places in its own ledger, from 1."""

    sent: Sent
    outcome: str | None
    ended_s: float
    answer: int | None
    places: Sequence[int]
    dead: int

    @classmethod
    def of(cls, sent: Sent, outcomes: Sequence[Ended], history: History) -> "_Message":
        ledger = history.ledgers.get(sent.key)
        # Most messages are looked up in short ledgers, so no index is kept.
        places = [place for place, id in enumerate(ledger.ids, 1) if id == sent.id] if ledger is not None else []
        first = outcomes[0] if outcomes else None
        return cls(
            sent=sent,
            outcome=None if first is None else first.outcome,
            ended_s=inf if first is None else first.at_s,
            answer=None if first is None else first.answer,
            places=places,
            dead=history.dead.count(sent.id),
        )

    @property
    def is_unknown(self) -> bool:
        return self.outcome is None or self.outcome in UNKNOWN_OUTCOMES


def _of_caller(message: _Message, outcomes: Sequence[Ended], slack_s: float) -> Iterator[Violation]:
    sent = message.sent
    if not outcomes:
        yield _wrong(Kind.NO_OUTCOME, sent, f"{sent.kind} begun at {sent.begun_s:.3f}")
        return
    if len(outcomes) > 1:
        yield _wrong(Kind.SEVERAL_OUTCOMES, sent, ", ".join(each.outcome for each in outcomes))
    late_s = message.ended_s - sent.deadline_s
    if late_s > slack_s:
        yield _wrong(Kind.LATE, sent, f"{message.outcome} {late_s:.2f} s after the deadline")


def _of_effect(message: _Message) -> Iterator[Violation]:
    sent, times = message.sent, len(message.places)
    if times > 1:
        yield _wrong(Kind.DUPLICATED, sent, f"places {list(message.places)}")
    if times and message.dead:
        yield _wrong(Kind.DEAD_AND_DONE, sent)
    if message.outcome == DONE:
        if sent.doomed and sent.kind == "event":
            if not message.dead:
                yield _wrong(Kind.NOT_DEAD, sent, "it is in the ledger" if times else "it is nowhere")
        elif not times and not message.dead:
            yield _wrong(Kind.LOST, sent, sent.kind)
    elif times and not message.is_unknown:
        yield _wrong(Kind.REFUSED_BUT_DONE, sent, str(message.outcome))
    if message.answer is not None and message.places and message.answer not in message.places:
        yield _wrong(Kind.WRONG_ANSWER, sent, f"answered {message.answer}, is at {list(message.places)}")


def _of_ledger(key: str, ledger: Ledger, messages: Mapping[str, _Message]) -> Iterator[Violation]:
    if ledger.counter != len(ledger.ids):
        yield Violation(
            kind=Kind.WRONG_COUNTER, key=key, detail=f"counter {ledger.counter}, {len(ledger.ids)} in the ledger"
        )
    found: list[_Message] = []
    for id in dict.fromkeys(ledger.ids):
        message = messages.get(id)
        if message is None or message.sent.key != key:
            detail = "nobody sent it" if message is None else f"sent to {message.sent.key}"
            yield Violation(kind=Kind.FOREIGN, key=key, id=id, detail=detail)
        else:
            found.append(message)
    yield from _out_of_order(found)


def _out_of_order(found: Sequence[_Message]) -> Iterator[Violation]:
    """From the end: whatever begins after something further on was already done, or stored, is too early."""
    stored: tuple[float, str] = (inf, "")
    done: tuple[float, str] = (inf, "")
    for message in reversed(found):
        sent = message.sent
        bounds = (done, stored) if sent.kind == "event" else (done,)
        ended_s, other = min(bounds)
        if ended_s <= sent.begun_s:
            yield _wrong(Kind.OUT_OF_ORDER, sent, f"{other} comes later, and had ended before this one began")
        if message.outcome == DONE:
            mark = (message.ended_s, sent.id)
            if sent.kind == "event":
                stored = min(stored, mark)
            else:
                done = min(done, mark)


def _of_dead(dead: Sequence[str], messages: Mapping[str, _Message]) -> Iterator[Violation]:
    for id, times in Counter(dead).items():
        message = messages.get(id)
        if message is None:
            yield Violation(kind=Kind.WRONGLY_DEAD, key="?", id=id, detail="nobody sent it")
            continue
        if not message.sent.doomed:
            yield _wrong(Kind.WRONGLY_DEAD, message.sent)
        if times > 1:
            yield _wrong(Kind.DEAD_TWICE, message.sent, f"{times} times")


def _of_handled(handled: Iterable[Handled]) -> Iterator[Violation]:
    for (key, id), times in Counter((each.key, each.id) for each in handled).items():
        if times > 1:
            yield Violation(kind=Kind.HANDLED_TWICE, key=key, id=id, detail=f"{times} times")


def _wrong(kind: Kind, sent: Sent, detail: str = "") -> Violation:
    return Violation(kind=kind, key=sent.key, id=sent.id, detail=detail)
