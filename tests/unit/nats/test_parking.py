"""Parked keys beside a shard's tracker, against a model that remembers all that was handled."""

from collections import deque
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hivewire.nats.parking import ParkedKeys
from hivewire.nats.positions import ParkedKey, Position, PositionTracker, SubscriptionChange
from hivewire.nats.topic_filters import TopicFilter

WINDOW = 2
"""Events of one key that run here, so that a few park it."""

KEYS = ["a", "b"]
SETS = [("t",), ("t", "u"), ("u",)]


@cache
def change(number: int) -> SubscriptionChange:
    topics = SETS[number % len(SETS)]
    return SubscriptionChange(change=number, filters=tuple(TopicFilter(kind="exact", value=topic) for topic in topics))


def takes(subscriptions: SubscriptionChange, topic: str) -> bool:
    return any(each.matches(topic) for each in subscriptions.filters)


class Stored(NamedTuple):
    sequence: int
    key: str = ""
    topic: str = ""
    marker: int | None = None


class Shard(RuleBasedStateMachine):
    """One owner after another reads a stream, each from the last record that was written.

    The shard's reader and those of the parked keys go on independently, and turns end in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stream: list[Stored] = []
        self.change = 0
        self.ours: dict[int, str] = {}
        self.next_sequence = 1
        self.record = Position(owner="s", epoch=1, stream="S", subscriptions=change(0), floor=0)
        self.finished: set[int] = set()
        self.finished_at_record: set[int] = set()
        self.running_at_record: set[int] = set()
        self.begin()

    def begin(self) -> None:
        self.tracker = PositionTracker(self.record)
        self.parked = ParkedKeys(self.record.parked, tracker=self.tracker)
        self.cursor = self.record.floor
        self.running: dict[int, str] = {}
        self.arrived: dict[str, int] = dict.fromkeys(KEYS, 0)
        self.fetched: dict[str, deque[tuple[Stored, int]]] = {}
        self.reader_at: dict[str, int] = {}
        self.late: set[str] = set()

    # What is stored

    @rule(key=st.sampled_from(KEYS), topic=st.sampled_from("ttu"), count=st.integers(1, 4), gap=st.integers(0, 2))
    def events_are_stored(self, key: str, topic: str, count: int, gap: int) -> None:
        self.next_sequence += gap
        for _ in range(count):
            self.store(Stored(self.next_sequence, key, topic))

    @rule(number=st.integers(0, 12))
    def a_marker_is_stored(self, number: int) -> None:
        self.store(Stored(self.next_sequence, marker=number))

    def store(self, stored: Stored) -> None:
        self.stream.append(stored)
        self.next_sequence = stored.sequence + 1
        if stored.marker is not None:
            self.change = max(self.change, stored.marker)
        elif takes(change(self.change), stored.topic):
            self.ours[stored.sequence] = stored.key

    # What the owner does

    def handle(self, key: str, sequence: int) -> None:
        assert sequence not in self.finished, "handled though it is known to be finished"
        assert sequence > self.arrived[key], "handled again, or out of order"
        self.arrived[key] = sequence
        self.running[sequence] = key

    @rule(count=st.integers(1, 8))
    def the_shards_reader_goes_on(self, count: int) -> None:
        unread = [stored for stored in self.stream if stored.sequence > self.cursor]
        for stored in unread[:count]:
            self.cursor = stored.sequence
            self.read(stored)

    def read(self, stored: Stored) -> None:
        tracker, sequence, key = self.tracker, stored.sequence, stored.key
        if stored.marker is not None:
            tracker.read_marker(sequence, change(stored.marker))
        elif not takes(tracker.in_force, stored.topic) or not tracker.read(sequence):
            return
        elif key in self.parked or list(self.running.values()).count(key) >= WINDOW:
            self.parked.park(key, sequence, tracker.in_force)
            tracker.finish(sequence)
        else:
            self.handle(key, sequence)

    @precondition(lambda self: self.parked.to_read)
    @rule(data=st.data(), count=st.integers(1, 3))
    def a_keys_reader_fetches(self, data: st.DataObject, count: int) -> None:
        self.fetch(data.draw(st.sampled_from(self.parked.to_read)), count)

    def fetch(self, key: str, count: int) -> None:
        if key in self.late and not self.fetched.get(key):
            self.late.discard(key)
            self.fetched.pop(key, None)
        is_new = key not in self.fetched
        waiting = self.fetched.setdefault(key, deque())
        if is_new:
            self.reader_at[key] = self.parked.start_of(key) - 1
        messages = [each for each in self.stream if each.sequence > self.reader_at[key] and each.key in ("", key)]
        if is_new:
            self.parked.after(key, pending=len(messages))
        for place, stored in enumerate(messages[:count]):
            waiting.append((stored, len(messages) - place - 1))
            self.reader_at[key] = stored.sequence

    @precondition(lambda self: any(self.fetched.values()))
    @rule(data=st.data())
    def a_keys_reader_goes_on(self, data: st.DataObject) -> None:
        self.read_parked(data.draw(st.sampled_from([key for key, waiting in self.fetched.items() if waiting])))

    def read_parked(self, key: str) -> None:
        if list(self.running.values()).count(key) >= WINDOW:
            return
        stored, pending = self.fetched[key].popleft()
        if stored.marker is not None:
            self.parked.read_marker(key, stored.sequence, change(stored.marker))
        else:
            subscriptions = self.parked.subscriptions_of(key, stored.sequence)
            ours = subscriptions is None or takes(subscriptions, stored.topic)
            if not ours:
                self.parked.skip(key, stored.sequence)
            elif self.parked.read(key, stored.sequence):
                self.handle(key, stored.sequence)
        self.parked.after(key, pending=pending)
        if key not in self.parked:
            del self.fetched[key]

    @rule(key=st.sampled_from(KEYS))
    def a_keys_reader_is_made_anew(self, key: str) -> None:
        self.fetched.pop(key, None)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), count=st.integers(1, 2), at_once=st.booleans())
    def the_last_events_of_a_key_are_put_back(self, data: st.DataObject, count: int, at_once: bool) -> None:
        key = data.draw(st.sampled_from(sorted(set(self.running.values()))))
        *_, first, last = [0, 0, *sorted(each for each in self.running if self.running[each] == key)]
        back = [last, first] if count == 2 and first else [last]
        self.arrived[key] = min(back) - 1
        for sequence in back:
            del self.running[sequence]
        self.parked.put_back(key, back, self.tracker.in_force)
        for sequence in back:
            self.tracker.finish(sequence)
        if at_once:
            self.fetched.pop(key, None)
        else:
            # What the key's reader is about to say is too late.
            self.late.add(key)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_turn_ends(self, data: st.DataObject) -> None:
        self.finish(data.draw(st.sampled_from(sorted(self.running))))

    def finish(self, sequence: int) -> None:
        self.running.pop(sequence, None)
        self.finished.add(sequence)
        if not self.parked.finish(sequence):
            self.tracker.finish(sequence)

    # What may happen to it

    @rule()
    def the_record_is_written(self) -> None:
        tracker = self.tracker
        record = replace(
            self.record,
            floor=tracker.floor,
            finished=tracker.finished_above_floor,
            subscriptions=tracker.in_force_at_floor,
            parked=self.parked.records,
        )
        self.record = Position.from_json(record.to_json())
        self.finished_at_record = set(self.finished)
        self.running_at_record = set(self.running)

    @rule()
    def the_owner_dies_and_another_one_goes_on_from_the_record(self) -> None:
        self.finished = set(self.finished_at_record)
        self.begin()

    @rule()
    def the_shard_moves(self) -> None:
        self.the_record_is_written()
        self.begin()

    @rule(data=st.data())
    def an_earlier_owner_finished_a_turn(self, data: st.DataObject) -> None:
        elsewhere = sorted(self.running_at_record - self.finished - self.running.keys())
        # Its key is held back here until this is known.
        elsewhere = [each for each in elsewhere if each > self.arrived[self.ours[each]]]
        if elsewhere:
            self.finish(data.draw(st.sampled_from(elsewhere)))

    # What always holds

    @invariant()
    def the_record_keeps_the_stream_from_the_first_event_that_is_needed(self) -> None:
        needed = min(self.ours.keys() - self.finished_at_record, default=None)
        assert needed is None or self.record.needed_from <= needed

    def teardown(self) -> None:
        """When nothing more comes, everything is handled, and no key stays parked."""
        for _ in range(4 * len(self.stream) + 10):
            self.the_shards_reader_goes_on(1)
            for key in self.parked.to_read:
                self.fetch(key, 1)
            for key in list(self.fetched):
                if self.fetched[key]:
                    self.read_parked(key)
            for sequence in list(self.running)[:1]:
                self.finish(sequence)
        assert not self.running
        assert not self.parked, self.parked.records
        assert not self.parked.records
        assert self.ours.keys() == self.finished
        assert self.tracker.unfinished == 0


TestShard = Shard.TestCase
TestShard.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)


def test_what_an_earlier_owner_parked_above_its_floor_is_not_left_out() -> None:
    # 31 still runs; 40 to 60 were left to the reader of the key, which had not begun.
    record = Position(
        owner="s",
        epoch=1,
        stream="S",
        subscriptions=change(0),
        floor=30,
        finished=((32, 60),),
        parked={"k": ParkedKey(unfinished=(), next=40, subscriptions=change(0))},
    )
    tracker = PositionTracker(record)
    parked = ParkedKeys(record.parked, tracker=tracker)
    # The reader of the key is faster than that of the shard.
    assert [sequence for sequence in (40, 50, 60, 61) if parked.read("k", sequence)] == [40, 50, 60]
    assert "k" not in parked
    assert [sequence for sequence in (31, 40, 50, 60, 61) if tracker.read(sequence)] == [31, 61]


def test_a_parked_key_goes_on_with_what_the_shards_reader_had_before_it() -> None:
    record = Position(
        owner="s",
        epoch=1,
        stream="S",
        subscriptions=change(0),
        floor=9,
        finished=((11, 11), (13, 20)),
        parked={"k": ParkedKey(unfinished=(), next=20, subscriptions=change(0))},
    )
    tracker = PositionTracker(record)
    parked = ParkedKeys(record.parked, tracker=tracker)
    assert parked.start_of("k") == 10
    assert [sequence for sequence in (10, 11, 12, 20) if parked.read("k", sequence)] == [10, 12, 20]
    assert parked.records["k"].unfinished == (10, 12, 20)
    # So the next owner does not have them from both.
    assert not any(map(tracker.read, (10, 11, 12)))


def test_a_marker_moves_the_beginning_of_what_a_keys_reader_has_not_read() -> None:
    tracker = PositionTracker(Position(owner="s", epoch=1, stream="S", subscriptions=change(0), floor=0))
    parked = ParkedKeys({}, tracker=tracker)
    parked.park("k", 5, change(0))
    parked.read_marker("k", 12, change(2))
    assert parked.records["k"] == ParkedKey(unfinished=(), next=13, subscriptions=change(2))
