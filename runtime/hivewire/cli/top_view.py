"""What `hivewire top` shows, worked out of what was seen at two moments. Without I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hivewire.cli.top_rates import TypeRates, quantile, rates_between, summed
from hivewire.nats.observation import Observation, TypeObservation
from hivewire.nats.pod_numbers import PodNumbers
from hivewire.nats.session import SessionRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSize:
    """How much a stream holds."""

    name: str
    messages: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A system at one moment. `numbers` are what pods answered, by their sessions."""

    observation: Observation
    numbers: Mapping[str, PodNumbers]
    streams: tuple[StreamSize, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """An agent type. Rates are per second and of those pods that told them; None when none did."""

    type: str
    kind: str
    pods: int
    shards: int | None
    shards_owned: int | None
    lag: int
    oldest_event_s: float | None
    inflight: int | None
    events_s: float | None
    calls_s: float | None
    errors_s: float | None
    retries_s: float | None
    p50_s: float | None
    p99_s: float | None
    dead_letters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PodRow:
    """A process. `answers` tells whether it told its numbers; the others are None else."""

    instance: str
    deployment: str
    session: str
    state: str
    shards: int
    answers: bool
    turns_running: int | None
    turns_free: int | None
    messages_s: float | None
    types_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is shown, what needs attention first."""

    streams: tuple[StreamSize, ...]
    types: tuple[TypeRow, ...]
    pods: tuple[PodRow, ...]


def view_of(before: Sample | None, now: Sample) -> View:
    """Return what is shown; without a moment before there are no rates."""
    sessions = now.observation.sessions
    rates = {} if before is None else _rates(before.numbers, now.numbers)
    # Sessions of one process count together, and its numbers count once.
    processes = {each.process: session for session, each in now.numbers.items()}
    by_type = summed(rates[session] for session in processes.values() if session in rates)
    inflight = Counter[str]()
    for session in processes.values():
        inflight.update({name: counts.inflight for name, counts in now.numbers[session].types.items()})
    pods_of = Counter(name for each in sessions for name in each.types)
    types = [
        _type_row(each, pods=pods_of[each.name], rates=by_type.get(each.name), inflight=inflight.get(each.name))
        for each in now.observation.types
    ]
    pods = [
        _pod_row(
            each,
            shards=now.observation.shards_owned.get(each.session, 0),
            numbers=now.numbers.get(each.session),
            rates=rates.get(each.session),
        )
        for each in sessions
    ]
    return View(streams=now.streams, types=tuple(sorted(types, key=_urgency)), pods=tuple(pods))


def _rates(before: Mapping[str, PodNumbers], now: Mapping[str, PodNumbers]) -> dict[str, dict[str, TypeRates]]:
    found = {}
    for session, numbers in now.items():
        rates = rates_between(before[session], numbers) if session in before else None
        if rates is not None:
            found[session] = rates
    return found


def _type_row(each: TypeObservation, *, pods: int, rates: TypeRates | None, inflight: int | None) -> TypeRow:
    return TypeRow(
        type=each.name,
        kind=each.kind,
        pods=pods,
        shards=each.shards,
        shards_owned=None if each.shards is None else each.shards_owned,
        lag=each.lag_messages,
        oldest_event_s=each.oldest_event_s,
        inflight=inflight,
        events_s=None if rates is None else rates.events_s,
        calls_s=None if rates is None else rates.calls_s,
        errors_s=None if rates is None else rates.errors_s,
        retries_s=None if rates is None else rates.retries_s,
        p50_s=None if rates is None else quantile(rates.durations, 0.5),
        p99_s=None if rates is None else quantile(rates.durations, 0.99),
        dead_letters=each.dead_letters,
    )


def _pod_row(
    session: SessionRecord, *, shards: int, numbers: PodNumbers | None, rates: Mapping[str, TypeRates] | None
) -> PodRow:
    return PodRow(
        instance=session.instance,
        deployment=session.deployment,
        session=session.session,
        state=session.state,
        shards=shards,
        answers=numbers is not None,
        turns_running=None if numbers is None else numbers.turns_running,
        turns_free=None if numbers is None else numbers.turns_free,
        messages_s=None if rates is None else sum(each.events_s + each.calls_s for each in rates.values()),
        types_left_out=0 if numbers is None else numbers.left_out,
    )


def _urgency(row: TypeRow) -> tuple[object, ...]:
    abandoned = row.lag > 0 and row.shards is not None and row.shards_owned != row.shards
    handled = (row.events_s or 0.0) + (row.calls_s or 0.0)
    return (not abandoned, -(row.errors_s or 0.0), -row.lag, -(row.retries_s or 0.0), -handled, row.type)
