"""What of the event stream may go: decided without I/O.

Everything from a sequence on that somebody may still have to read stays. Below all of these, what is older than the
retention goes, and when the stream is nearly full, everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hivewire.nats.event_stream import StreamState
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord, first_position
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.subjects import type_token
from hivewire.nats.tokens import untoken


def checked_retention(retention_s: float) -> float:
    """Return a retention that can be used.

    Raises:
        ValueError: it is negative, or no number.
    """
    if not retention_s >= 0:
        raise ValueError(f"runtime option `event_retention` is {retention_s}: give it 0 or more seconds")
    return retention_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A reader that needs everything from a sequence on.

    `name` is that of the shard's position, None for a stateless type. `position` is what is written there, or what the
    shard will begin with; `scope` is None as well when the name does not tell an instance's key.
    """

    agent_type: str
    sequence: int
    name: str | None = None
    scope: ShardScope | None = None
    position: Position | None = None

    def __str__(self) -> str:
        reader = f"type {self.agent_type}" if self.name is None else f"shard {self.name} of type {self.agent_type}"
        return f"{reader} needs what there is from sequence {self.sequence} on"


def goal_of(state: StreamState, aged: int | None) -> int:
    """Return the sequence below which everything should go, as far as nobody needs it.

    Args:
        aged: The first sequence that is not older than the retention; None: all are older.
    """
    end = state.last + 1
    return end if state.crowded or aged is None else min(aged, end)


def purge_below(state: StreamState, goal: int, needs: Iterable[Need]) -> int | None:
    """Return the sequence below which everything goes; None: nothing does.

    The state must have been asked for before the needs were: a type that they don't know begins after its end.
    """
    below = min([goal, state.last + 1, *(need.sequence for need in needs)])
    return below if below > state.first else None


def needs_of(record: TypeRecord, positions: Mapping[str, Position], *, stream: str) -> Iterator[Need]:
    """Yield what a type that is not stateless needs.

    A shard without a position of the present stream counts from where it will begin. So does a type that has
    subscriptions but was never registered, as it may be any day; without subscriptions it needs nothing.

    Args:
        positions: Positions by their keys, those of other types among them.
        stream: The creation time of the present stream.
    """
    first = first_position(record, stream)
    begin = 1 if first is None else first.needed_from
    if record.shape is None:
        if record.declared or record.added:
            yield Need(agent_type=record.name, sequence=begin)
        return
    prefix = f"{type_token(record.name)}."
    for name, scope in _shards(record.name, record.shape.kind == "instances", record.shape.shards, prefix, positions):
        known = positions.get(prefix + name)
        position = known if known is not None and known.stream == stream else first
        sequence = begin if position is None else position.needed_from
        yield Need(agent_type=record.name, sequence=sequence, name=name, scope=scope, position=position)


def _shards(
    agent_type: str, by_key: bool, shards: int, prefix: str, positions: Iterable[str]
) -> Iterator[tuple[str, ShardScope | None]]:
    if not by_key:
        for shard in range(shards):
            yield str(shard), ShardScope(agent_type=agent_type, shard=shard, shards=shards)
        return
    # Which instances there are, only their positions tell. One that is new begins with what is left by then.
    for name in (position.removeprefix(prefix) for position in positions if position.startswith(prefix)):
        key = untoken(name)
        yield name, None if key is None else ShardScope(agent_type=agent_type, key=key)
