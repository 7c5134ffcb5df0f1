"""Keys with more events than their agent keeps up with, decided without I/O.

A shard reads all its keys at once, and what it has read and not finished is bounded. So that one hot or failing key
never stops the others, a key with too many waiting events is parked: its later events stay in the stream, and a reader
of that key alone fetches them as the agent gets on. Once that reader has caught up with the shard's own, the key is
like any other again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hivewire.nats.positions import ParkedKey, PositionTracker, SubscriptionChange

KEY_WINDOW: Final = 64
"""Events of one key that are read and not finished, at the most."""

FAILING_KEY_WINDOW: Final = 4
"""The same for a key one of whose events waits for another attempt, so that many failing keys don't fill a shard."""


@dataclass(slots=True)
class _Parked:
    subscriptions: SubscriptionChange
    next: int | None
    # What this reader has read; it is finished in any order.
    unfinished: dict[int, None] = field(default_factory=dict)
    # Below `next`, what is still to be read by this reader: an earlier owner had it, or the shard's reader left it.
    left: set[int] = field(default_factory=set)
    # The last event that the shard's reader left to this key's reader.
    last: int = 0
    # Up to here the shard's reader of an earlier owner may have left events to this one.
    bound: int = 0
    read_through: int = 0
    # Its reader is further on than what is to be read, until it is made anew.
    astray: bool = False


class ParkedKeys:
    """The parked keys of one shard, by their tokens.

    For the tracker a parked event is finished, and `records` tell what is not; so both are written together. With an
    event that is still to be handled, of a key that is parked, the shard's reader first calls `park`, then
    `tracker.finish`.

    Args:
        parked: As the position was claimed.
        tracker: That of the shard, made from the same position.
    """

    def __init__(self, parked: Mapping[str, ParkedKey], *, tracker: PositionTracker) -> None:
        self._tracker = tracker
        self._keys: dict[str, _Parked] = {}
        bound = max([tracker.floor, *(last for _, last in tracker.finished_above_floor)])
        for key, known in parked.items():
            if known.lowest is not None:
                entry = _Parked(known.subscriptions, known.next, left=set(known.unfinished), bound=bound)
                # The earlier owner's shard reader may have had events of the key too, above its floor.
                entry.read_through = min(known.lowest - 1, tracker.floor)
                self._keys[key] = entry

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        """Whether the shard's reader leaves the events of a key alone."""
        entry = self._keys.get(key)
        return entry is not None and not self._caught_up(entry)

    @property
    def to_read(self) -> list[str]:
        """The keys that need a reader of their own, once there is room for their events."""
        return [key for key, entry in self._keys.items() if not self._caught_up(entry)]

    @property
    def records(self) -> dict[str, ParkedKey]:
        """The parked keys as a position record says them."""
        return {
            key: ParkedKey(
                unfinished=tuple(sorted({*entry.unfinished, *entry.left})),
                next=entry.next,
                subscriptions=entry.subscriptions,
            )
            for key, entry in self._keys.items()
        }

    def park(self, key: str, sequence: int, subscriptions: SubscriptionChange) -> None:
        """Leave an event, and all later ones of its key, to the key's own reader."""
        entry = self._keys.get(key)
        if entry is not None and sequence <= entry.read_through:
            return
        before = entry is None or entry.next is None or sequence < entry.next
        if before and self._tracker.is_finished_ahead(sequence):
            # An earlier owner finished it, or left it to the key's reader too.
            return
        if entry is None:
            entry = self._keys[key] = _Parked(subscriptions, sequence, read_through=sequence - 1)
        elif self._caught_up(entry):
            entry.next, entry.subscriptions, entry.read_through = sequence, subscriptions, sequence - 1
        elif entry.next is None and sequence > entry.bound:
            entry.next, entry.subscriptions = sequence, subscriptions
        elif entry.next is None or sequence < entry.next:
            # The shard's reader of the earlier owner had it.
            entry.left.add(sequence)
        entry.last = max(entry.last, sequence)

    def put_back(self, key: str, sequences: Sequence[int], subscriptions: SubscriptionChange) -> None:
        """Leave events that were read and not started, the last ones of their key, to the key's own reader.

        A reader that the key has already must be made anew; until it is, what it says is ignored.
        """
        entry = self._keys.get(key)
        if entry is None:
            entry = self._keys[key] = _Parked(subscriptions, None)
        before = min(sequences) - 1
        entry.read_through = before if self._caught_up(entry) else min(entry.read_through, before)
        for sequence in sequences:
            entry.unfinished.pop(sequence, None)
        entry.left.update(sequences)
        entry.astray = True

    def start_of(self, key: str) -> int:
        """Return where the key's reader begins, each time that it is made."""
        entry = self._keys.get(key)
        if entry is None:
            # It needs no reader any more.
            return self._tracker.last_read + 1
        entry.astray = False
        return entry.read_through + 1

    def subscriptions_of(self, key: str, sequence: int) -> SubscriptionChange | None:
        """Return what decides whether an event is for the key's agent; None: it is, as an earlier owner found out."""
        entry = self._keys.get(key)
        return entry.subscriptions if entry and entry.next is not None and sequence >= entry.next else None

    def read(self, key: str, sequence: int) -> bool:
        """Take note of the next event that the key's reader has. False: it is not to be handled, or not by it."""
        entry = self._keys.get(key)
        if entry is None or entry.astray or sequence <= entry.read_through or self._caught_up(entry):
            return False
        passed = sequence <= max(self._tracker.last_read, entry.last)
        was_left = sequence in entry.left
        # What was left over and did not come is gone from the stream.
        entry.left = {each for each in entry.left if each > sequence}
        if not was_left:
            finished = self._tracker.is_finished_ahead(sequence)
            if entry.next is not None and sequence >= entry.next:
                if not passed and not finished:
                    # The shard's reader has not come so far, here or at an earlier owner: it goes on with the key.
                    self._catch_up(key, entry)
                    return False
                entry.next = sequence + 1
            elif passed or finished or (entry.next is None and not entry.left):
                entry.read_through = sequence
                self._forget_if_done(key, entry)
                return False
            else:
                # The shard's reader of the earlier owner had it. This one's would come to it out of order.
                self._tracker.finish(sequence)
        entry.read_through = sequence
        entry.unfinished[sequence] = None
        return True

    def skip(self, key: str, sequence: int) -> None:
        """Take note of a message of the key's reader that is for another agent."""
        entry = self._keys.get(key)
        if entry is not None and not entry.astray:
            entry.read_through = max(entry.read_through, sequence)

    def after(self, key: str, *, pending: int) -> None:
        """After the key's reader was made, and after each of its messages: so many wait behind it. What the shard's
        reader leaves to it later is not among them."""
        entry = self._keys.get(key)
        if entry is None or entry.astray or entry.read_through < entry.last:
            return
        if pending == 0:
            entry.left.clear()
        if not entry.left and (pending == 0 or entry.read_through >= entry.bound):
            self._catch_up(key, entry)

    def read_marker(self, key: str, sequence: int, change: SubscriptionChange) -> None:
        """Take note of a marker that the key's reader came across."""
        entry = self._keys.get(key)
        if entry is None or entry.astray:
            return
        entry.read_through = max(entry.read_through, sequence)
        if entry.next is not None and sequence >= entry.next:
            # What was not for the agent before the marker must not be read under the set that it brings.
            entry.next = sequence + 1
            if change.change > entry.subscriptions.change:
                entry.subscriptions = change

    def finish(self, sequence: int) -> bool:
        """Take note that an event is finished. False: no parked key's reader has it; tell the tracker."""
        for key, entry in self._keys.items():
            if sequence in entry.unfinished:
                del entry.unfinished[sequence]
            elif sequence in entry.left:
                entry.left.discard(sequence)
            else:
                continue
            self._forget_if_done(key, entry)
            return True
        return False

    def _catch_up(self, key: str, entry: _Parked) -> None:
        entry.next = None
        entry.last = entry.bound = 0
        self._forget_if_done(key, entry)

    def _forget_if_done(self, key: str, entry: _Parked) -> None:
        if self._caught_up(entry) and not entry.unfinished:
            del self._keys[key]

    @staticmethod
    def _caught_up(entry: _Parked) -> bool:
        return entry.next is None and not entry.left
