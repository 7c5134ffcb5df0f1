"""The position of a shard, against a model that remembers everything."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hivewire.exceptions import UnsupportedFormatError
from hivewire.nats.positions import (
    ParkedKey,
    Position,
    PositionTracker,
    RunningElsewhere,
    SubscriptionChange,
    Suspect,
    _Ranges,
)
from hivewire.nats.topic_filters import TopicFilter


def change(number: int) -> SubscriptionChange:
    return SubscriptionChange(change=number, filters=(TopicFilter(kind="exact", value=f"t{number}"),))


def position(floor: int = 0, *, finished: tuple[tuple[int, int], ...] = ()) -> Position:
    return Position(owner="s", epoch=1, stream="created", subscriptions=change(0), floor=floor, finished=finished)


class Shard(RuleBasedStateMachine):
    """A stream of events and markers, read by one owner after another, each from the last record that was written."""

    def __init__(self) -> None:
        super().__init__()
        self.stream: dict[int, int | None] = {}  # by sequence: the number of a marker's change, None for an event
        self.next_sequence = 1
        self.record = position()
        self.handled: set[int] = set()
        self.handled_at_record: set[int] = set()
        self.finished_at_record: set[int] = set()
        self.begin()

    def begin(self) -> None:
        self.tracker = PositionTracker(self.record)
        self.running: set[int] = set()
        self.last_read = self.floor = self.record.floor

    # What is stored

    @rule(gap=st.integers(1, 4), count=st.integers(1, 5))
    def events_are_stored(self, gap: int, count: int) -> None:
        self.next_sequence += gap
        for _ in range(count):
            self.stream[self.next_sequence] = None
            self.next_sequence += 1

    @rule(number=st.integers(0, 12))
    def a_marker_is_stored(self, number: int) -> None:
        self.stream[self.next_sequence] = number
        self.next_sequence += 1

    # What the owner does

    @rule(count=st.integers(1, 6))
    def the_next_messages_are_read(self, count: int) -> None:
        unread = sorted(sequence for sequence in self.stream if sequence > self.last_read)
        for sequence in unread[:count]:
            before = self.in_force(self.last_read)
            number = self.stream[sequence]
            if number is not None:
                assert self.tracker.read_marker(sequence, change(number)) == (number > before)
            elif self.tracker.read(sequence):
                # Everything that was finished when the record was written is remembered.
                assert sequence not in self.handled_at_record
                self.running.add(sequence)
            else:
                assert sequence in self.handled
            self.last_read = sequence

    @rule(sequence=st.integers(1, 60))
    def a_message_is_read_a_second_time(self, sequence: int) -> None:
        if sequence <= self.last_read:
            assert not self.tracker.read(sequence)
            assert not self.tracker.read_marker(sequence, change(99))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def an_event_is_finished(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(sorted(self.running)))
        self.running.remove(sequence)
        self.handled.add(sequence)
        self.tracker.finish(sequence)
        self.tracker.finish(sequence)

    @rule(data=st.data())
    def an_earlier_owner_finished_an_event_that_is_not_read_yet(self, data: st.DataObject) -> None:
        unread = sorted(
            sequence for sequence, number in self.stream.items() if number is None and sequence > self.last_read
        )
        if unread:
            sequence = data.draw(st.sampled_from(unread))
            self.handled.add(sequence)
            self.tracker.finish(sequence)

    @rule()
    def it_is_told_that_there_is_nothing_more(self) -> None:
        self.last_read = max([self.last_read, *self.stream])
        if not [sequence for sequence in self.stream if sequence > self.tracker.last_read]:
            self.tracker.skip_to(self.last_read)
        else:
            self.last_read = self.tracker.last_read

    @rule()
    def the_record_is_written(self) -> None:
        tracker = self.tracker
        record = replace(
            self.record,
            floor=tracker.floor,
            finished=tracker.finished_above_floor,
            subscriptions=tracker.in_force_at_floor,
        )
        self.record = Position.from_json(record.to_json())
        assert self.record == record
        self.handled_at_record = set(self.handled)
        self.finished_at_record = self.finished()

    @rule()
    def the_owner_dies_and_another_one_goes_on_from_the_record(self) -> None:
        # What was running or was finished after the record was written is handled again.
        self.handled = set(self.handled_at_record)
        self.begin()

    # What always holds

    def finished(self) -> set[int]:
        """All that was read and is not unfinished, whoever it is for, and what an earlier owner finished beyond."""
        read = set(range(1, self.last_read + 1)) - self.running
        return {number for number in read | self.finished_at_record | self.handled if number not in self.running}

    def in_force(self, sequence: int) -> int:
        current = 0
        for stored, number in sorted(self.stream.items()):
            if stored <= sequence and number is not None and number > current:
                current = number
        return current

    @invariant()
    def the_floor_is_below_the_first_unfinished_event_and_above_all_that_it_may_be(self) -> None:
        floor = self.tracker.floor
        assert floor >= self.floor
        self.floor = floor
        if not self.running:
            assert floor == self.last_read
        else:
            first = min(self.running)
            assert floor < first
            # Between the two lies only what belongs to others, so the next owner has nothing to read again.
            assert not [sequence for sequence in self.stream if floor < sequence < first]
        assert self.tracker.last_read == self.last_read
        assert self.tracker.unfinished == len(self.running)

    @invariant()
    def the_subscriptions_are_those_of_the_last_change_before(self) -> None:
        assert self.tracker.in_force == change(self.in_force(self.last_read))
        assert self.tracker.in_force_at_floor == change(self.in_force(self.tracker.floor))

    @invariant()
    def the_ranges_hold_all_that_was_read_and_is_not_unfinished_and_what_is_finished_beyond(self) -> None:
        ranges = self.tracker.finished_above_floor
        numbers = [number for first, last in ranges for number in range(first, last + 1)]
        floor = self.tracker.floor
        assert numbers == sorted(set(numbers))
        assert all(later[0] > earlier[1] for earlier, later in pairwise(ranges))
        assert set(numbers) == {number for number in self.finished() if number > floor}


TestShard = Shard.TestCase
TestShard.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_record_survives_its_bytes() -> None:
    record = Position(
        owner=None,
        epoch=7,
        stream="2026-01-01T00:00:00Z",
        subscriptions=SubscriptionChange(
            change=3, filters=(TopicFilter(kind="exact", value="a:b"), TopicFilter(kind="prefix", value=""))
        ),
        floor=12,
        finished=((14, 16), (20, 20)),
        running={"k=20": RunningElsewhere("web", "s1", (13, 17)), "": RunningElsewhere("web", "s2", ())},
        parked={
            "k1": ParkedKey(unfinished=(3, 9), next=11, subscriptions=change(2)),
            "k2": ParkedKey(unfinished=(), next=None, subscriptions=change(3)),
        },
        unclean=2,
        started=19,
        suspect=Suspect(13, 1),
        lag=5,
    )
    assert Position.from_json(record.to_json()) == record


def test_a_record_without_the_later_members_is_read() -> None:
    data = json.loads(position(5).to_json())
    for name in ("format", "finished", "running", "parked", "unclean", "started", "suspect", "lag"):
        del data[name]
    assert Position.from_json(json.dumps(data).encode()) == position(5)


def test_a_record_of_a_newer_format_is_refused() -> None:
    data = {**json.loads(position(5).to_json()), "format": 2}
    with pytest.raises(UnsupportedFormatError, match="a shard's position has format 2"):
        Position.from_json(json.dumps(data).encode())


def test_a_claim_names_the_owner_and_counts_the_epoch() -> None:
    claimed = replace(position(5), owner=None, epoch=3).claimed_by("s2")
    assert (claimed.owner, claimed.epoch, claimed.floor) == ("s2", 4, 5)


def test_a_claim_counts_the_owners_that_died() -> None:
    record = replace(position(5), owner="s1", unclean=1)
    assert record.claimed_by("s2").unclean == 2
    assert record.claimed_by("s1").unclean == 1
    assert replace(record, owner=None).claimed_by("s2").unclean == 1


def test_a_parked_key_keeps_the_stream_below_the_floor() -> None:
    record = replace(position(20), parked={"k": ParkedKey(unfinished=(7,), next=15, subscriptions=change(0))})
    assert record.needed_from == 7
    assert position(20).needed_from == 21
    caught_up = ParkedKey(unfinished=(), next=None, subscriptions=change(0))
    assert replace(position(20), parked={"k": caught_up}).needed_from == 21


def test_what_the_record_calls_finished_is_not_handled_again_though_it_lies_above_the_floor() -> None:
    tracker = PositionTracker(position(10, finished=((12, 13), (15, 15))))
    assert [sequence for sequence in range(11, 18) if tracker.read(sequence)] == [11, 14, 16, 17]
    tracker.finish(11)
    assert tracker.floor == 13
    tracker.finish(14)
    assert tracker.floor == 15


def test_a_marker_that_came_out_of_order_changes_nothing() -> None:
    tracker = PositionTracker(position())
    assert tracker.read_marker(1, change(2))
    assert not tracker.read_marker(2, change(1))
    assert tracker.in_force == tracker.in_force_at_floor == change(2)


@given(st.lists(st.integers(0, 40)), st.integers(0, 40))
def test_ranges_hold_what_was_added_and_not_dropped(numbers: list[int], dropped: int) -> None:
    ranges = _Ranges(())
    for number in numbers:
        ranges.add(number)
    ranges.drop_through(dropped)
    expected = {number for number in numbers if number > dropped}
    assert {number for number in range(42) if number in ranges} == expected
    assert sum(last - first + 1 for first, last in ranges.ranges) == len(expected)
