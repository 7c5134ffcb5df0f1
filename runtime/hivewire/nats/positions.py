"""How far a shard has been read: the position record, and the tracker that keeps it.

Everything at or below the floor is finished. Above it, the record names what is finished already, so that a planned
move repeats nothing; what is neither is read again by the next owner. Sequences are those of the event stream, which
never change, so a position is a truth that survives every reader.
"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from hivewire.nats.formats import FORMAT, check_format
from hivewire.nats.topic_filters import TopicFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionChange:
    """The whole set of subscriptions of a type, as a marker announces it.

    `change` counts the changes of a type's set, so that markers which were stored out of order are told apart.
    """

    change: int
    filters: tuple[TopicFilter, ...]

    def to_json(self) -> dict[str, Any]:
        return {"change": self.change, "set": [topic_filter.content_id for topic_filter in self.filters]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SubscriptionChange:
        return cls(change=int(data["change"]), filters=tuple(TopicFilter.parse(text) for text in data["set"]))


@dataclass(frozen=True, slots=True)
class RunningElsewhere:
    """The turns of one key that an earlier owner had begun when it gave up the shard, and the sequences of their
    events."""

    deployment: str
    session: str
    sequences: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedKey:
    """A key whose events are left in the stream for a reader of its own, because too many of them wait.

    `unfinished` are the sequences that this reader has read and that are not finished; from `next` on it has read
    nothing, and `subscriptions` hold there. `next` is None when the shard's own reader goes on with the key.
    """

    unfinished: tuple[int, ...]
    next: int | None
    subscriptions: SubscriptionChange

    @property
    def lowest(self) -> int | None:
        """The first sequence that is still needed."""
        needed = [*self.unfinished, *([] if self.next is None else [self.next])]
        return min(needed, default=None)

    def to_json(self) -> dict[str, Any]:
        return {"unfinished": self.unfinished, "next": self.next, "subscriptions": self.subscriptions.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ParkedKey:
        return cls(
            unfinished=tuple(int(each) for each in data["unfinished"]),
            next=None if data["next"] is None else int(data["next"]),
            subscriptions=SubscriptionChange.from_json(data["subscriptions"]),
        )


@dataclass(frozen=True, slots=True)
class Suspect:
    """An event that may kill its process, and how often it was tried alone."""

    sequence: int
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The durable record of one shard, written by compare-and-set only.

    `owner` is the session that holds the shard, None when it was released. `epoch` grows with each claim. `stream` is
    the creation time of the event stream that the sequences belong to. Everything at or below the floor is finished,
    except what `parked` names. `finished` holds inclusive ranges above the floor. `running` tells of the keys, by their
    tokens, whose turns still run at an earlier owner. `lag` counts the events above the position that are not
    finished, as the owner last knew.

    `unclean` counts the owners that died since all was well. After one has, an owner starts no event above `started`
    before it has written so; after two, it tries what may have killed them one by one, and says so in `suspect` before.
    All is well again once nothing is needed any more of what was stored when the first of them had died.
    """

    owner: str | None
    epoch: int
    stream: str
    subscriptions: SubscriptionChange
    floor: int
    finished: tuple[tuple[int, int], ...] = ()
    running: Mapping[str, RunningElsewhere] = field(default_factory=dict)
    parked: Mapping[str, ParkedKey] = field(default_factory=dict)
    unclean: int = 0
    started: int | None = None
    suspect: Suspect | None = None
    lag: int = 0

    def to_json(self) -> bytes:
        data = {
            "format": FORMAT,
            "owner": self.owner,
            "epoch": self.epoch,
            "stream": self.stream,
            "subscriptions": self.subscriptions.to_json(),
            "floor": self.floor,
            "finished": self.finished,
            "running": {key: astuple(running) for key, running in self.running.items()},
            "parked": {key: parked.to_json() for key, parked in self.parked.items()},
            "unclean": self.unclean,
            "started": self.started,
            "suspect": self.suspect and astuple(self.suspect),
            "lag": self.lag,
        }
        return json.dumps(data, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Position:
        """Read a record.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, IndexError, AttributeError: it is not such a record.
        """
        data = json.loads(payload)
        check_format(data, "a shard's position")
        return cls(
            owner=data["owner"],
            epoch=int(data["epoch"]),
            stream=data["stream"],
            subscriptions=SubscriptionChange.from_json(data["subscriptions"]),
            floor=int(data["floor"]),
            finished=tuple((int(first), int(last)) for first, last in data.get("finished", ())),
            running={
                key: RunningElsewhere(deployment, session, tuple(sequences))
                for key, (deployment, session, sequences) in data.get("running", {}).items()
            },
            parked={key: ParkedKey.from_json(parked) for key, parked in data.get("parked", {}).items()},
            unclean=int(data.get("unclean", 0)),
            started=data.get("started"),
            suspect=Suspect(*map(int, data["suspect"])) if data.get("suspect") else None,
            lag=int(data.get("lag", 0)),
        )

    @property
    def read_through(self) -> int:
        """The last sequence of which the record says that it is finished."""
        return max((last for _, last in self.finished), default=self.floor)

    @property
    def unfinished_read(self) -> int:
        """How many sequences up to there are not finished. Each is that of an event of the shard, unless an earlier
        owner had finished events that this one has not come to yet."""
        finished = sum(last - first + 1 for first, last in self.finished)
        return self.read_through - self.floor - finished

    def waits(self, sequence: int, key_token: str) -> bool:
        """Tell whether an event of the shard is still to be finished."""
        parked = self.parked.get(key_token)
        if parked is not None and sequence in parked.unfinished:
            return True
        if parked is not None and parked.next is not None and sequence >= parked.next:
            return True
        return sequence > self.floor and not any(first <= sequence <= last for first, last in self.finished)

    @property
    def needed_from(self) -> int:
        """The first sequence that somebody may still have to read."""
        lowest = [parked.lowest for parked in self.parked.values()]
        return min([self.floor + 1, *(each for each in lowest if each is not None)])

    def claimed_by(self, session: str) -> Position:
        """Return the record with a new owner. One that did not give the shard up died, or was taken for dead."""
        unclean = self.unclean + (self.owner not in (None, session))
        return replace(self, owner=session, epoch=self.epoch + 1, unclean=unclean)


class PositionTracker:
    """Follows one owner's reading: which events were read, which are finished, and what the floor is.

    Events are read in stream order. `read` says whether an event still has to be handled; `finish` may come in any
    order.
    """

    def __init__(self, position: Position) -> None:
        self._floor = position.floor
        self._last_read = position.floor
        self._unfinished: dict[int, None] = {}
        self._finished_ahead = _Ranges(position.finished)
        self._subscriptions = position.subscriptions
        self._changes: list[tuple[int, SubscriptionChange]] = []
        self.finished_count = 0

    @property
    def floor(self) -> int:
        return self._floor

    @property
    def last_read(self) -> int:
        """The last sequence that was read; the reader that is made anew begins after it."""
        return self._last_read

    @property
    def unfinished(self) -> int:
        return len(self._unfinished)

    @property
    def in_force(self) -> SubscriptionChange:
        """The subscriptions that hold for the next event to be read."""
        return self._changes[-1][1] if self._changes else self._subscriptions

    @property
    def in_force_at_floor(self) -> SubscriptionChange:
        return self._subscriptions

    @property
    def finished_above_floor(self) -> tuple[tuple[int, int], ...]:
        """All that was read and is not unfinished, whoever it was for, and what an earlier owner finished beyond."""
        ranges: list[tuple[int, int]] = []
        begin = self._floor + 1
        for sequence in self._unfinished:
            if sequence > begin:
                ranges.append((begin, sequence - 1))
            begin = sequence + 1
        if self._last_read >= begin:
            ranges.append((begin, self._last_read))
        return (*ranges, *self._finished_ahead.above(self._last_read))

    def is_finished_ahead(self, sequence: int) -> bool:
        """Tell whether an event that is still to be read is finished already."""
        return sequence > self._last_read and sequence in self._finished_ahead

    def read(self, sequence: int) -> bool:
        """Take note of the next event. False: it is finished already, or was read before."""
        if sequence <= self._last_read:
            return False
        self._last_read = sequence
        if sequence in self._finished_ahead:
            self._advance()
            return False
        self._unfinished[sequence] = None
        return True

    def skip_to(self, sequence: int) -> None:
        """Take note that up to this sequence there is nothing that was not read."""
        if sequence > self._last_read:
            self._last_read = sequence
            self._advance()

    def read_marker(self, sequence: int, change: SubscriptionChange) -> bool:
        """Take note of a marker. True: the subscriptions changed, and what was fetched after it is void."""
        if sequence <= self._last_read:
            return False
        self._last_read = sequence
        changed = change.change > self.in_force.change
        if changed:
            self._changes.append((sequence, change))
        self._advance()
        return changed

    def finish(self, sequence: int) -> None:
        """Take note that an event is finished, here or at an earlier owner."""
        if sequence in self._unfinished:
            del self._unfinished[sequence]
            self.finished_count += 1
            self._advance()
        elif sequence > self._last_read:
            # An earlier owner finished it, before this one has read it.
            self._finished_ahead.add(sequence)
            self.finished_count += 1

    def _advance(self) -> None:
        # Unfinished events are kept in the order of the stream, so the first one bounds the floor.
        floor = next(iter(self._unfinished)) - 1 if self._unfinished else self._last_read
        if floor <= self._floor:
            return
        self._floor = floor
        self._finished_ahead.drop_through(floor)
        while self._changes and self._changes[0][0] <= floor:
            self._subscriptions = self._changes.pop(0)[1]


class _Ranges:
    """A set of integers as sorted, disjoint, inclusive ranges."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        self.ranges = sorted(ranges)

    def __contains__(self, number: int) -> bool:
        place = bisect.bisect_right(self.ranges, (number, 1 << 63)) - 1
        return place >= 0 and number <= self.ranges[place][1]

    def add(self, number: int) -> None:
        if number in self:
            return
        first = last = number
        place = bisect.bisect_right(self.ranges, (number, number))
        if place < len(self.ranges) and self.ranges[place][0] == number + 1:
            last = self.ranges.pop(place)[1]
        if place > 0 and self.ranges[place - 1][1] == number - 1:
            first = self.ranges.pop(place - 1)[0]
            place -= 1
        self.ranges.insert(place, (first, last))

    def above(self, number: int) -> list[tuple[int, int]]:
        """Return the ranges of what is greater than a number."""
        return [(max(first, number + 1), last) for first, last in self.ranges if last > number]

    def drop_through(self, number: int) -> None:
        while self.ranges and self.ranges[0][1] <= number:
            self.ranges.pop(0)
        if self.ranges and self.ranges[0][0] <= number:
            self.ranges[0] = (number + 1, self.ranges[0][1])
