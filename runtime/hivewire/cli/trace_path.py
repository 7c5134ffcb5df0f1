"""What was found of a message, put together: each stored message with what became of it at each agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hivewire.cli.message_heads import MessageHead
from hivewire.cli.trace_fates import Fate, Records
from hivewire.cli.trace_search import Cause, Search
from hivewire.model.ids import AgentId
from hivewire.nats.dead_letters import DeadLetter

Kind = Literal["own", "caused", "related"]
"""Why a message is shown: it has the id, a turn of one that has it published it, or it is of the same trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A stored message. `cause` is the turn that published it, if its id tells."""

    head: MessageHead
    kind: Kind
    cause: Cause | None
    fates: tuple[Fate, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """Which part of a stream was looked at, and where the stream begins and ends."""

    first: int
    last: int
    stream_first: int

    @property
    def is_whole(self) -> bool:
        return self.first <= self.stream_first


@dataclass(frozen=True, slots=True, kw_only=True)
class Path:
    """All that was found. `letters` are the dead letters whose message is not in the event stream any more.

    `events` and `dead_letters` count what was looked at, `more` what belongs here and is not shown, `unread` the events
    whose id only their payload tells.
    """

    wanted: str
    trace_ids: tuple[str, ...]
    places: tuple[Place, ...]
    letters: tuple[DeadLetter, ...]
    extent: Extent
    events: int
    dead_letters: int
    more: int
    unread: int

    @property
    def found(self) -> bool:
        return bool(self.places or self.letters)


def path_of(
    wanted: str, search: Search, records: Records, letters: Sequence[DeadLetter], extent: Extent, dead_letters: int
) -> Path:
    """Put together what a search has found."""
    heads = search.found
    given_up = {
        (letter.sequence, letter.agent): letter
        for letter in letters
        if letter.stream == records.stream and letter.sequence in heads
    }
    return Path(
        wanted=wanted,
        trace_ids=tuple(sorted(search.trace_ids)),
        places=tuple(_place(head, search, records, given_up, heads) for head in heads.values()),
        letters=tuple(letter for letter in letters if letter not in given_up.values()),
        extent=extent,
        events=search.seen,
        dead_letters=dead_letters,
        more=search.more,
        unread=search.unread,
    )


def _place(
    head: MessageHead,
    search: Search,
    records: Records,
    given_up: Mapping[tuple[int, AgentId], DeadLetter],
    heads: Mapping[int, MessageHead],
) -> Place:
    agents = records.recipients(head)
    # Of a type that has unsubscribed since, too.
    agents += [agent for sequence, agent in given_up if sequence == head.sequence and agent not in agents]
    kind: Kind = "related"
    if head.sequence in search.own:
        kind = "own"
    elif head.sequence in search.caused:
        kind = "caused"
    fates = [
        records.fate(head, agent, given_up.get((head.sequence, agent)), _replays(head, agent, heads))
        for agent in agents
    ]
    return Place(head=head, kind=kind, cause=search.causes.get(head.sequence), fates=tuple(fates))


def _replays(head: MessageHead, agent: AgentId, heads: Mapping[int, MessageHead]) -> list[int]:
    """Return the sequences that a message was sent to an agent again as, once it was given up."""
    return [
        each.sequence for each in heads.values() if each.recipient == agent and each.lineage[-1:] == (head.sequence,)
    ]
