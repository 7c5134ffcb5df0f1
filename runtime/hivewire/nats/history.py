"""Gives a type the events that were stored before it subscribed to them.

They are stored again in the inboxes of its agents, in their order, and only then the subscription takes force: its
marker is stored on the condition that no such event came meanwhile. Where they come too fast for that, the marker is
stored all the same, and what is left before it follows, beside what comes after it. Which events the type got by its
other subscriptions, the markers among the events tell, so none of them comes twice.

A record for each subscription tells how far this has come, and stays: one that is removed and comes back goes on there.
What is stored twice, because a process died before it had written the record, the broker drops within its deduplication
window.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from hivewire.exceptions import AgentNotFoundError, BrokerUnavailableError, UndeliverableException
from hivewire.model.ids import AgentId
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.dead_letters import LINEAGE_HEADER
from hivewire.nats.delivery import DeliveryPolicy
from hivewire.nats.envelope import EnvelopeError, decode_event
from hivewire.nats.event_stream import EventStream, StreamState, why_refused
from hivewire.nats.header_text import quoted
from hivewire.nats.history_place import Place
from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.registry import Registry, TypeRecord, first_position, read_marker
from hivewire.nats.stream_batch import read_batch
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.tokens import is_hashed, token
from hivewire.nats.topic_filters import TopicFilter

_AT_ONCE: Final = 250
_KEYS_AT_ONCE: Final = 50
_ROUNDS: Final = 20
"""How often the end of the stream is looked for at most before the marker is stored without a condition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryProgress:
    """How far a subscription is: `sent` events so far, and about `waiting` to be looked at. `done`: it is in force."""

    sent: int
    waiting: int
    done: bool


class Histories:
    """Sends the histories of subscriptions. Two processes that send the same one at once do no harm.

    Args:
        provision: Gives a stateless type the consumer that its record asks for.
    """

    def __init__(
        self,
        broker: Broker,
        subjects: Subjects,
        stream: EventStream,
        registry: Registry,
        tasks: TaskScope,
        *,
        provision: Callable[[TypeRecord], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = stream
        self._registry = registry
        self._tasks = tasks
        self._provision = provision
        self._bucket = Bucket(broker, subjects.registry_bucket)

    async def advance(self, agent_type: str, topics: TopicFilter, delivery: DeliveryPolicy | None) -> HistoryProgress:
        """Send some of what is left, or, when all is sent, let the subscription take force.

        Raises:
            AgentNotFoundError: nobody has registered the type.
            UndeliverableException: the event stream takes nothing more.
            UnsupportedFormatError: a newer version of Hivewire wrote the record, or one of the events.
            BrokerUnavailableError: JetStream did not answer in time, or another process is at it.
        """
        state = await self._stream.look()
        if state.created != self._stream.created:
            raise BrokerUnavailableError("The event stream was made anew, which is seen to at the moment")
        record = await self._registry.deliver(agent_type, topics, delivery)
        if record is None or record.shape is None:
            raise AgentNotFoundError(f"No process and no AgentDeployment has registered the agent type {agent_type}")
        key = _key(agent_type, topics)
        entry = await self._bucket.get(key)
        place = self._place(entry.value, record, topics, state)
        if place.done and topics in record.subscriptions.filters:
            return HistoryProgress(sent=place.sent, waiting=0, done=True)
        try:
            if place.done:
                place = replace(place, done=False, goal=state.last, lap=None)
            return await self._advance(agent_type, key, entry.revision, place, end=state.last)
        except WriteConflictError:
            raise BrokerUnavailableError(f"Another process sends {agent_type} the history of {topics.value}") from None

    async def _advance(self, agent_type: str, key: str, revision: int, place: Place, *, end: int) -> HistoryProgress:
        others = await self._others(agent_type, key, place.stream)
        waiting = 0
        for left in range(_ROUNDS, -1, -1):
            messages, waiting = await self._read(agent_type, place)
            place = await self._send(agent_type, messages, place, others)
            is_held = place.topics in place.subscriptions.filters
            lap = place.in_lap(waiting, end)
            place = replace(lap or place, done=is_held and not waiting)
            revision = await self._bucket.put(key, place.to_json(), revision=revision)
            if not is_held and (not waiting or lap is None):
                await self._join(agent_type, place, strict=not waiting and left > 0)
            if is_held or waiting:
                break
        return HistoryProgress(sent=place.sent, waiting=waiting, done=place.done)

    def _place(self, payload: bytes | None, record: TypeRecord, topics: TopicFilter, state: StreamState) -> Place:
        if payload is not None:
            known = Place.from_json(payload)
            if known.stream == state.created:
                return known
        begin = first_position(record, state.created)
        # Where markers were removed with what they stood among, the set of now is the best guess at the one of then.
        begun = begin is not None and state.first > begin.floor
        filters = record.subscriptions.filters if begun else ()
        nothing = SubscriptionChange(change=0, filters=filters)
        return Place(topics=topics, stream=state.created, next=state.first, subscriptions=nothing, goal=state.last)

    async def _others(self, agent_type: str, key: str, stream: str) -> list[Place]:
        keys = await self._bucket.keys(f"{type_token(agent_type)}.*")
        entries = [await self._bucket.get(each) for each in keys if ".history-" in each and each != key]
        places = [Place.from_json(entry.value) for entry in entries if entry.value is not None]
        return [place for place in places if place.stream == stream]

    def _filter(self, topics: TopicFilter) -> str:
        return self._subjects.stored_event_filters([topics.tail()], 0, 1)[0]

    async def _read(self, agent_type: str, place: Place) -> tuple[Sequence[StreamMessage], int]:
        """Return the next events and markers, and how many there are after them."""
        found = await read_batch(
            self._broker,
            self._stream.name,
            self._tasks,
            filters=[self._filter(place.topics), self._subjects.marker(agent_type)],
            start=place.next,
            limit=_AT_ONCE,
        )
        return found, found[-1].pending if found else 0

    async def _send(
        self, agent_type: str, messages: Sequence[StreamMessage], place: Place, others: Sequence[Place]
    ) -> Place:
        """Store the events again that the type did not get, and return the place behind them."""
        chosen: defaultdict[str, list[StreamMessage]] = defaultdict(list)
        marker, held = self._subjects.marker(agent_type), place.subscriptions
        for message in messages:
            if message.subject == marker:
                change = read_marker(message.payload)
                held = change if change is not None and change.change > held.change else held
                continue
            source = self._missed(message, agent_type, place.topics, [*held.filters], others)
            if source is not None:
                chosen[source].append(message)
        at_once = asyncio.Semaphore(_KEYS_AT_ONCE)

        async def send(source: str, events: Sequence[StreamMessage]) -> None:
            async with at_once:
                for each in events:
                    await self._store(AgentId(agent_type, source), each, place.stream)

        outcomes = await asyncio.gather(*(send(*each) for each in chosen.items()), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        sent = place.sent + sum(map(len, chosen.values()))
        reached = messages[-1].sequence + 1 if messages else place.next
        return replace(place, next=reached, subscriptions=held, sent=sent)

    def _missed(
        self,
        message: StreamMessage,
        agent_type: str,
        topics: TopicFilter,
        held: Sequence[TopicFilter],
        others: Sequence[Place],
    ) -> str | None:
        """Return the source of an event that the type did not get; None: it did, or it is not for it."""
        try:
            event = decode_event(message.headers, message.payload)
            source, topic_type = event.topic.source, event.topic.type
            if self._subjects.stored_event(source, topic_type) != message.subject:
                return None
        except (EnvelopeError, ValueError):
            # Its readers say so.
            return None
        if event.sender == AgentId(agent_type, source) or not topics.matches(topic_type):
            return None
        if any(each.matches(topic_type) for each in held):
            return None
        return None if any(each.had(message.sequence, topic_type) for each in others) else source

    async def _store(self, agent: AgentId, message: StreamMessage, stream: str) -> None:
        headers = {name: text for name, text in message.headers.items() if not name.lower().startswith("nats-")}
        headers[LINEAGE_HEADER] = str(message.sequence)
        if is_hashed(token(agent.key)):
            headers["Hw-Key"] = quoted(agent.key)
        identity = f"{agent.type} {stream} {message.sequence}"
        headers["Nats-Msg-Id"] = sha256(identity.encode()).hexdigest()[:32]
        try:
            await self._broker.store(self._subjects.inbox(agent.type, agent.key), message.payload, headers=headers)
        except JetStreamError as error:
            why = why_refused(error, self._stream.name)
            raise UndeliverableException(f"Event {message.sequence} can't be sent to {agent}: {why}") from error

    async def _join(self, agent_type: str, place: Place, *, strict: bool) -> None:
        """Let the subscription take force, unless, if `strict`, an event came that is still to be sent."""
        subject = self._filter(place.topics)
        last = await self._stream.last_of(subject) if strict else 0
        if last < place.next:
            condition: Mapping[str, str] = {
                "Nats-Expected-Last-Subject-Sequence": str(last),
                "Nats-Expected-Last-Subject-Sequence-Subject": subject,
            }
            await self._registry.add_after(
                agent_type, place.topics, prepare=self._provision, condition=condition if strict else {}
            )


def _key(agent_type: str, topics: TopicFilter) -> str:
    return f"{type_token(agent_type)}.history-{sha256(topics.content_id.encode()).hexdigest()[:16]}"
