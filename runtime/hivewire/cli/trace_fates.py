"""What became of a stored message at one agent, as the records say that are left of it.

A position is written once a second, so what has just happened shows a moment later. That a message is finished does not
tell how: it was handled, or given up and its dead letter is removed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from hivewire.cli.message_heads import MessageHead
from hivewire.model.ids import AgentId
from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.positions import Position
from hivewire.nats.registry import TypeRecord
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.snapshot import Shard, Snapshot
from hivewire.nats.subjects import shard_of
from hivewire.nats.tokens import slot_of_token, token

State = Literal["finished", "dead", "replayed", "parked", "running", "taken", "waiting"]
"""What became of it.

`dead`: it is among the dead letters. `replayed`: it was, and was sent again. `parked`: too many of its key wait, which
a reader of their own comes to. `running`: its turn runs. `taken`: a process has it, where it runs or waits. `waiting`:
no process has it yet.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a message at one agent."""

    agent: AgentId
    state: State
    why: str = ""
    letter: DeadLetter | None = None
    replays: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the processes of a stateless type have come: everything up to `finished` is, up to `taken` some is."""

    finished: int
    taken: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What is known of the types: the buckets, and how far the stateless types have come."""

    snapshot: Snapshot
    stream: str
    stateless: Mapping[str, Progress] = field(default_factory=dict)

    def recipients(self, head: MessageHead) -> list[AgentId]:
        """Return who handles a message, as far as today's subscriptions tell."""
        if head.recipient is not None:
            return [head.recipient]
        agents = [AgentId(record.name, head.topic.source) for record in self._subscribers(head)]
        return [agent for agent in agents if agent != head.sender]

    def fate(self, head: MessageHead, agent: AgentId, letter: DeadLetter | None, replays: Iterable[int] = ()) -> Fate:
        """Return what became of a message at an agent; `replays` are the sequences that it was sent again as."""
        if letter is not None:
            return Fate(agent=agent, state="dead", letter=letter)
        again = tuple(replays)
        if again:
            return Fate(agent=agent, state="replayed", replays=again)
        record = next((each for each in self.snapshot.types if each.name == agent.type), None)
        if record is None or record.shape is None:
            return Fate(agent=agent, state="waiting", why=f"no process has registered the type {agent.type}")
        if record.shape.kind == "stateless":
            return self._stateless(head, agent)
        key_token = head.key_token if head.recipient is not None else token(agent.key)
        shard = self._shard(record, key_token)
        if shard is None or shard.position is None:
            return self._nowhere(agent)
        return self._in_shard(head.sequence, agent, key_token, shard, shard.position)

    def _subscribers(self, head: MessageHead) -> Iterable[TypeRecord]:
        for record in self.snapshot.types:
            begins = record.begins
            if begins is not None and begins.stream == self.stream and begins.sequence > head.sequence:
                # It subscribed later. What it got all the same was sent to its inbox.
                continue
            if not any(each.matches(head.topic.type) for each in record.subscriptions.filters):
                continue
            is_for_instances = record.shape is not None and record.shape.kind == "instances"
            if not is_for_instances or self._shard(record, token(head.topic.source)) is not None:
                yield record

    def _shard(self, record: TypeRecord, key_token: str) -> Shard | None:
        assert record.shape is not None
        if record.shape.kind == "sharded":
            name = str(shard_of(slot_of_token(key_token), record.shape.shards))
        else:
            name = key_token
        for shard in self.snapshot.shards:
            if shard.agent_type == record.name and _name(shard.scope) == name:
                return shard
        return None

    def _in_shard(self, sequence: int, agent: AgentId, key_token: str, shard: Shard, position: Position) -> Fate:
        parked = position.parked.get(key_token)
        if parked is not None and (
            sequence in parked.unfinished or (parked.next is not None and sequence >= parked.next)
        ):
            return Fate(agent=agent, state="parked", why="too many events of its key wait")
        if sequence <= position.floor or any(first <= sequence <= last for first, last in position.finished):
            return Fate(agent=agent, state="finished")
        for running in position.running.values():
            if sequence in running.sequences:
                return Fate(agent=agent, state="running", why=f"in a process of {running.deployment} that leaves")
        if position.suspect is not None and position.suspect.sequence == sequence:
            why = f"alone, as it may have killed its process: attempt {position.suspect.attempts}"
            return Fate(agent=agent, state="running", why=why)
        owner = self.snapshot.session(shard.owner)
        if owner is None:
            return self._nowhere(agent)
        return Fate(agent=agent, state="taken", why=f"it runs or waits in {owner.instance}")

    def _stateless(self, head: MessageHead, agent: AgentId) -> Fate:
        progress = self.stateless.get(agent.type)
        if progress is not None and head.sequence <= progress.finished:
            return Fate(agent=agent, state="finished")
        if progress is None or head.sequence > progress.taken:
            return self._nowhere(agent)
        return Fate(agent=agent, state="taken", why="a process has it, or has finished it while earlier ones run")

    def _nowhere(self, agent: AgentId) -> Fate:
        if any(agent.type in session.types for session in self.snapshot.sessions):
            return Fate(agent=agent, state="waiting", why="no process has read so far")
        return Fate(agent=agent, state="waiting", why=f"no process serves {agent.type}")


def _name(scope: ShardScope | None) -> str | None:
    return None if scope is None else scope.name
