"""Events that kill their process, in a simulated shard whose owners die."""

import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivewire.nats.crash_guard import BATCH, MAX_ATTEMPTS, CrashGuard
from hivewire.nats.positions import Position, PositionTracker, SubscriptionChange, Suspect

NONE = SubscriptionChange(change=1, filters=())
WINDOW = 64


def position(**members: Any) -> Position:
    return replace(Position(owner=None, epoch=1, stream="S", subscriptions=NONE, floor=0), **members)


class Death(Exception):
    """The process is gone."""


@dataclass
class Shard:
    """A shard of `count` events. Owners follow each other until all events are finished or given up."""

    count: int
    killers: frozenset[int]
    chance: random.Random
    other_deaths: int = 0
    deaths: int = 0
    doomed: set[int] = field(default_factory=set)
    record: Position = field(default_factory=position)

    def run(self) -> None:
        while self.record.floor < self.count:
            self.record = self.record.claimed_by(f"s{self.record.epoch}")
            try:
                Owner(self).run()
            except Death:
                self.deaths += 1


class Owner:
    """Starts the events of a shard as the guard says, in its order, and writes the position now and then."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.chance = shard.chance
        self.tracker = PositionTracker(shard.record)
        self.guard = CrashGuard(shard.record, end=shard.count)
        self.waiting: list[int] = []
        self.running: list[int] = []

    def run(self) -> None:
        while self.shard.record.floor < self.shard.count:
            self.chance.choice([self.reads, self.starts, self.starts, self.finishes, self.finishes, self.writes])()
            if self.chance.random() < 0.05:
                self.may_die()

    def reads(self) -> None:
        room = (BATCH if self.guard.careful else WINDOW) - self.tracker.unfinished
        for sequence in range(self.tracker.last_read + 1, self.shard.count + 1)[: max(0, room)]:
            if self.tracker.read(sequence):
                self.waiting.append(sequence)

    def starts(self) -> None:
        if not self.waiting:
            return
        guard, first = self.guard, self.waiting[0]
        match guard.treatment(first):
            case "alone":
                guard.attempt(first)
                self.writes()
                self.may_die()
                self.waiting.pop(0)
                while self.running:
                    self.finishes()
                if first in self.shard.killers:
                    raise Death
                self.tracker.finish(first)
                guard.survived(first)
            case "doomed":
                self.waiting.pop(0)
                self.shard.doomed.add(first)
                self.tracker.finish(first)
                guard.buried(first)
            case treatment:
                batch = [each for each in self.waiting if guard.treatment(each) == treatment]
                batch = batch[: self.chance.randint(1, len(batch))]
                if guard.careful:
                    guard.record(max(batch))
                    self.writes()
                self.running += batch
                self.waiting = self.waiting[len(batch) :]

    def finishes(self) -> None:
        if self.running:
            sequence = self.running.pop(self.chance.randrange(len(self.running)))
            if sequence in self.shard.killers:
                raise Death
            self.tracker.finish(sequence)

    def writes(self) -> None:
        tracker, guard = self.tracker, self.guard
        self.shard.record = replace(
            self.shard.record,
            floor=tracker.floor,
            finished=tracker.finished_above_floor,
            unclean=guard.unclean,
            started=guard.started,
            suspect=guard.suspect,
        )
        guard.moved(self.shard.record.needed_from - 1)

    def may_die(self) -> None:
        if self.shard.other_deaths:
            self.shard.other_deaths -= 1
            raise Death


seeds = st.integers(0, 1 << 32).map(random.Random)


@given(seeds, st.integers(1, 300), st.data())
@settings(max_examples=80, deadline=None)
def test_an_event_that_kills_is_given_up_after_five_deaths_and_no_other_is(
    chance: random.Random, count: int, data: st.DataObject
) -> None:
    killers = data.draw(st.frozensets(st.integers(1, count), min_size=1, max_size=3))
    shard = Shard(count, killers, chance)
    shard.run()
    assert shard.doomed == killers
    assert shard.deaths <= (2 + MAX_ATTEMPTS) * len(killers)


@given(seeds, st.integers(1, 300), st.integers(1, MAX_ATTEMPTS + 1))
@settings(max_examples=80, deadline=None)
def test_processes_that_die_of_something_else_doom_no_event(chance: random.Random, count: int, deaths: int) -> None:
    # Two deaths make suspects; no event is then tried often enough to be given up.
    shard = Shard(count, frozenset(), chance, other_deaths=deaths)
    shard.run()
    assert not shard.doomed
    assert shard.deaths <= deaths


@given(seeds, st.integers(1, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_other_deaths_do_not_save_an_event_that_kills(chance: random.Random, count: int, data: st.DataObject) -> None:
    killer = data.draw(st.integers(1, count))
    shard = Shard(count, frozenset([killer]), chance, other_deaths=2)
    shard.run()
    assert shard.doomed == {killer}


def test_an_owner_is_careful_until_all_that_may_have_been_started_is_behind_it() -> None:
    guard = CrashGuard(position(floor=10, unclean=1), end=90)
    assert (guard.careful, guard.treatment(11), guard.unclean) == (True, "recorded", 1)
    guard.record(40)
    assert guard.started == 40
    guard.moved(89)
    assert guard.careful
    guard.moved(90)
    assert (guard.careful, guard.treatment(91), guard.unclean, guard.started) == (False, "free", 0, None)


def test_a_shard_whose_owner_gave_it_up_is_free() -> None:
    guard = CrashGuard(position(floor=10), end=90)
    assert (guard.careful, guard.treatment(11), guard.started, guard.suspect) == (False, "free", None, None)


def test_after_a_second_death_what_was_started_is_tried_alone() -> None:
    guard = CrashGuard(position(floor=10, unclean=2, started=40), end=90)
    assert [guard.treatment(sequence) for sequence in (5, 11, 40, 41)] == ["alone", "alone", "alone", "recorded"]
    guard.attempt(11)
    assert guard.suspect == Suspect(11, 1)
    guard.survived(11)
    assert guard.suspect is None


def test_an_owner_that_died_before_it_started_anything_leaves_no_suspects() -> None:
    assert CrashGuard(position(floor=10, unclean=2), end=90).treatment(11) == "recorded"


@pytest.mark.parametrize(("attempts", "treatment"), [(1, "alone"), (2, "alone"), (3, "doomed")])
def test_an_event_that_killed_three_times_alone_is_doomed(attempts: int, treatment: str) -> None:
    guard = CrashGuard(position(floor=10, unclean=4, started=40, suspect=Suspect(20, attempts)), end=90)
    assert guard.treatment(20) == treatment
    # A suspect that is not tried yet keeps its count in the record.
    assert guard.suspect == Suspect(20, attempts)
    guard.buried(20)
    assert (guard.treatment(30), guard.suspect, guard.careful) == ("recorded", None, True)
