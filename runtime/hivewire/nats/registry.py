"""Which agent types exist, how each is spread over processes, and what it subscribes to.

One record a type, written by compare-and-set. Its subscriptions take force by a marker in the event stream, which
carries the whole set: a subscription holds for every event that is stored after the marker, for every shard, however
far behind it reads. Rows are named by their content, so a process that starts again adds nothing, and what its code no
longer declares goes away.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hivewire.exceptions import BrokerUnavailableError, UndeliverableException
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import WRONG_LAST_SEQUENCE, Bucket, BucketView, Entry, WriteConflictError
from hivewire.nats.delivery import Deliveries, DeliveryPolicy, ordered, with_delivery
from hivewire.nats.event_stream import EventStream, why_refused
from hivewire.nats.formats import FORMAT, check_format
from hivewire.nats.positions import Position, SubscriptionChange
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.topic_filters import TopicFilter

TypeKind = Literal["sharded", "stateless", "instances"]

log = logging.getLogger("hivewire.registry")

_WRITE_ATTEMPTS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeShape:
    """How a type is spread over processes. Fixed when the type is first registered."""

    kind: TypeKind = "sharded"
    shards: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Where in the event stream a type begins, and its subscriptions there."""

    sequence: int
    stream: str
    subscriptions: SubscriptionChange


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRecord:
    """All that the registry says about a type.

    `shape` is None while the type has subscriptions only and no process registered it. `declared` is what the code of
    the type declares, as of the process that registered it last; `added` came and stays by `add_subscription` from
    elsewhere. `change` counts the changes of the two, `marked` is the last one that a marker announced.
    `deliveries` are the policies of those subscriptions that have one.
    """

    name: str
    shape: TypeShape | None = None
    declared: frozenset[str] = field(default_factory=frozenset)
    added: frozenset[str] = field(default_factory=frozenset)
    change: int = 0
    marked: int = 0
    begins: Beginning | None = None
    deliveries: Deliveries = ()

    @property
    def subscriptions(self) -> SubscriptionChange:
        """The set that holds after the last change."""
        filters = tuple(TopicFilter.parse(text) for text in sorted(self.declared | self.added))
        return SubscriptionChange(change=self.change, filters=filters)

    def shaped(self, shape: TypeShape) -> TypeRecord:
        """Say how the type is spread over processes.

        Raises:
            ValueError: it is spread in another way.
        """
        return _shaped(self, shape)._changed()

    def declare(self, filters: Iterable[TopicFilter]) -> TypeRecord:
        """Put another set in the place of the declared one."""
        return self._changed(declared=frozenset(each.content_id for each in filters))

    def add(self, topic_filter: TopicFilter) -> TypeRecord:
        if topic_filter.content_id in self.declared:
            return self
        return self._changed(added=self.added | {topic_filter.content_id})

    def remove(self, topic_filter: TopicFilter) -> TypeRecord:
        gone = {topic_filter.content_id}
        return self._changed(declared=self.declared - gone, added=self.added - gone).deliver(topic_filter, None)

    def deliver(self, topic_filter: TopicFilter, delivery: DeliveryPolicy | None) -> TypeRecord:
        """Say how the events of a subscription are delivered. Which events are whose stays as it is, so it needs no
        marker."""
        return replace(self, deliveries=with_delivery(self.deliveries, topic_filter, delivery))

    def _changed(self, *, declared: frozenset[str] | None = None, added: frozenset[str] | None = None) -> TypeRecord:
        new = replace(
            self,
            declared=self.declared if declared is None else declared,
            added=self.added if added is None else added,
        )
        if new.declared | new.added == self.declared | self.added and self.change:
            return new
        return replace(new, change=self.change + 1)

    def to_json(self) -> bytes:
        begins = self.begins
        data: dict[str, Any] = {
            "format": FORMAT,
            "type": self.name,
            "kind": self.shape and self.shape.kind,
            "shards": self.shape and self.shape.shards,
            "declared": sorted(self.declared),
            "added": sorted(self.added),
            "change": self.change,
            "marked": self.marked,
            "begins": begins
            and {
                "sequence": begins.sequence,
                "stream": begins.stream,
                "subscriptions": begins.subscriptions.to_json(),
            },
        }
        if self.deliveries:
            data["delivery"] = {topics.content_id: policy.to_json() for topics, policy in self.deliveries}
        return json.dumps(data, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> TypeRecord:
        """Read a record.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is not such a record.
        """
        data: dict[str, Any] = json.loads(payload)
        check_format(data, f"the registry's record of {data.get('type')}")
        begins = data.get("begins")
        return cls(
            name=data["type"],
            shape=TypeShape(kind=data["kind"], shards=int(data["shards"])) if data["kind"] else None,
            declared=frozenset(data["declared"]),
            added=frozenset(data["added"]),
            change=int(data["change"]),
            marked=int(data["marked"]),
            begins=begins
            and Beginning(
                sequence=int(begins["sequence"]),
                stream=begins["stream"],
                subscriptions=SubscriptionChange.from_json(begins["subscriptions"]),
            ),
            deliveries=ordered(
                (TopicFilter.parse(topics), DeliveryPolicy.from_json(policy))
                for topics, policy in data.get("delivery", {}).items()
            ),
        )


class Registry:
    """The registry of a namespace: a live view, and the changes that this process makes. `changes` counts all that it
    has seen."""

    def __init__(self, broker: Broker, subjects: Subjects, stream: EventStream) -> None:
        self._broker = broker
        self._subjects = subjects
        self._stream = stream
        self._bucket = Bucket(broker, subjects.registry_bucket)
        self._view = BucketView(self._bucket, "*.type", on_change=self._on_entry)
        self._types: dict[str, TypeRecord] = {}
        self.changes = 0
        self._subscribed: dict[str, bool] = {}

    async def run(self) -> None:
        """Keep the view until cancelled."""
        await self._view.run()

    async def ready(self, timeout: float) -> None:
        """Return once the view is complete.

        Raises:
            BrokerUnavailableError: it was not within `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._view.ready.wait()
        except TimeoutError:
            raise BrokerUnavailableError(f"The registry could not be read within {timeout:g} s") from None

    def get(self, agent_type: str) -> TypeRecord | None:
        return self._types.get(agent_type)

    def types(self) -> list[TypeRecord]:
        return list(self._types.values())

    def anyone_subscribes(self, topic_type: str) -> bool:
        """Tell whether some type takes events of this topic type, as far as this process knows."""
        known = self._subscribed.get(topic_type)
        if known is None:
            if len(self._subscribed) > 10_000:
                self._subscribed.clear()
            known = self._subscribed[topic_type] = any(
                topic_filter.matches(topic_type)
                for record in self._types.values()
                for topic_filter in record.subscriptions.filters
            )
        return known

    async def register(self, agent_type: str, shape: TypeShape) -> TypeRecord:
        """Register a type whose processes are still to come and say what they subscribe to.

        Raises:
            as `declare`.
        """
        return await self._change(agent_type, lambda record: (record or TypeRecord(name=agent_type)).shaped(shape))

    async def declare(
        self, agent_type: str, shape: TypeShape, filters: Iterable[TopicFilter], *, any_shards: bool = False
    ) -> TypeRecord:
        """Register a type with all that its code subscribes to; return the record that holds now. With `any_shards` the
        shape's number of them is for a type that has none yet.

        Raises:
            ValueError: the type exists with another shape.
            UnsupportedFormatError: a newer version of Hivewire wrote the type's record; it is left as it is.
        """
        wanted = list(filters)

        def change(record: TypeRecord | None) -> TypeRecord:
            return _shaped(record or TypeRecord(name=agent_type), shape, any_shards=any_shards).declare(wanted)

        return await self._change(agent_type, change)

    async def join(
        self, agent_type: str, shape: TypeShape, filters: Iterable[TopicFilter], *, any_shards: bool = False
    ) -> TypeRecord:
        """Register a type with what its code subscribes to beside what others declare; sets add up. `any_shards` as for
        `declare`.

        Raises:
            ValueError: the type exists with another shape.
            UnsupportedFormatError: a newer version of Hivewire wrote the type's record; it is left as it is.
        """
        wanted = list(filters)

        def change(record: TypeRecord | None) -> TypeRecord:
            record = _shaped(record or TypeRecord(name=agent_type), shape, any_shards=any_shards)
            return record.declare({*map(TopicFilter.parse, record.declared), *wanted})

        return await self._change(agent_type, change)

    async def add(self, agent_type: str, topic_filter: TopicFilter) -> TypeRecord:
        """Add one subscription; it holds for every event that is published after this returns."""

        def change(record: TypeRecord | None) -> TypeRecord:
            return (record or TypeRecord(name=agent_type)).add(topic_filter)

        return await self._change(agent_type, change)

    async def subscribe(
        self, agent_type: str, topic_filter: TopicFilter, delivery: DeliveryPolicy | None
    ) -> TypeRecord:
        """Add one subscription, as `add`, or change how the events of one that is there are delivered."""

        def change(record: TypeRecord | None) -> TypeRecord:
            return (record or TypeRecord(name=agent_type)).add(topic_filter).deliver(topic_filter, delivery)

        return await self._change(agent_type, change)

    async def deliver(
        self, agent_type: str, topic_filter: TopicFilter, delivery: DeliveryPolicy | None
    ) -> TypeRecord | None:
        """Say how the events of a subscription are delivered, which may be there or still to come; None: there is no
        such type."""
        entry = await self._bucket.get(_key(agent_type))
        if entry.value is None:
            return None
        return await self._change(
            agent_type, lambda record: (record or TypeRecord(name=agent_type)).deliver(topic_filter, delivery)
        )

    async def add_after(
        self,
        agent_type: str,
        topic_filter: TopicFilter,
        *,
        prepare: Callable[[TypeRecord], Awaitable[None]],
        condition: Mapping[str, str],
    ) -> None:
        """Add one subscription, as `add`, unless the event stream refuses its marker on a condition: then it is
        recorded and not in force.

        Args:
            prepare: Awaited between the two.
            condition: Headers that the event stream judges the marker by.
        """
        record = await self._update(
            agent_type, lambda record: (record or TypeRecord(name=agent_type)).add(topic_filter)
        )
        await prepare(record)
        if record.marked < record.change:
            try:
                await self._mark(record, condition)
            except WriteConflictError:
                return

    async def remove(self, agent_type: str, topic_filter: TopicFilter) -> TypeRecord:
        """Remove one subscription; it holds for no event that is published after this returns."""

        def change(record: TypeRecord | None) -> TypeRecord:
            return (record or TypeRecord(name=agent_type)).remove(topic_filter)

        return await self._change(agent_type, change)

    async def begin_anew(self, types: Iterable[str]) -> None:
        """Let types begin in the event stream that took the place of another one, unless a process did so before.

        Raises:
            BrokerUnavailableError: as `add`; what is left can be done by another call.
        """
        for agent_type in types:
            entry = await self._bucket.get(_key(agent_type))
            record = None if entry.value is None else TypeRecord.from_json(entry.value)
            if record is not None and not self._has_begun(record):
                await self._mark(record)

    def _has_begun(self, record: TypeRecord) -> bool:
        return record.begins is not None and record.begins.stream == self._stream.created

    async def _change(self, agent_type: str, change: Callable[[TypeRecord | None], TypeRecord]) -> TypeRecord:
        record = await self._update(agent_type, change)
        if record.marked < record.change or not self._has_begun(record):
            record = await self._mark(record)
        self._types[agent_type] = record
        self.changes += 1
        self._subscribed.clear()
        return record

    async def _update(self, agent_type: str, change: Callable[[TypeRecord | None], TypeRecord]) -> TypeRecord:
        """Apply a change by compare-and-set, again after each conflict.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote the record; it is left as it is.
        """
        key = _key(agent_type)
        for _ in range(_WRITE_ATTEMPTS):
            entry = await self._bucket.get(key)
            old = None if entry.value is None else TypeRecord.from_json(entry.value)
            new = change(old)
            if new == old:
                return new
            try:
                await self._bucket.put(key, new.to_json(), revision=entry.revision)
            except WriteConflictError:
                await asyncio.sleep(random.uniform(0.002, 0.05))
            else:
                return new
        raise BrokerUnavailableError(f"The registry's record of {agent_type} is changed all the time by others")

    async def _mark(self, record: TypeRecord, condition: Mapping[str, str] | None = None) -> TypeRecord:
        """Announce the record's set in the event stream, and note in the record that this was done.

        A process may die between the two; the next one that registers the type then does it again. Readers tell markers
        apart by their number, so one more does no harm.
        """
        subscriptions = record.subscriptions
        payload = json.dumps({"type": record.name, **subscriptions.to_json()}, separators=(",", ":")).encode()
        try:
            stored = await self._broker.store(
                self._subjects.marker(record.name), payload, headers=dict(condition or {})
            )
        except JetStreamError as error:
            if condition and error.code in WRONG_LAST_SEQUENCE:
                raise WriteConflictError from None
            why = why_refused(error, self._stream.name)
            raise UndeliverableException(f"The subscriptions of {record.name} can't be announced: {why}") from error
        # A type that was there before the stream was made anew takes all that the new one has.
        moved = record.begins is not None and not self._has_begun(record)
        sequence = 0 if moved else stored.sequence
        begins = Beginning(sequence=sequence, stream=self._stream.created, subscriptions=subscriptions)

        def marked(current: TypeRecord | None) -> TypeRecord:
            current = current or record
            first = _earlier(current.begins, begins)
            return replace(current, marked=max(current.marked, subscriptions.change), begins=first)

        return await self._update(record.name, marked)

    def _forget(self, key: str) -> None:
        """Forget a type that was removed with all that it had."""
        for name in [name for name in self._types if _key(name) == key]:
            del self._types[name]
            self.changes += 1

    def _on_entry(self, key: str, entry: Entry) -> None:
        if entry.value is None:
            self._forget(key)
            return
        try:
            record = TypeRecord.from_json(entry.value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("the registry's record %s can't be read: %r", key, error)
            return
        self._types[record.name] = record
        self.changes += 1
        self._subscribed.clear()


def first_position(record: TypeRecord, stream: str) -> Position | None:
    """Return where a shard of the type begins that has no position in the present stream; None before the type's first
    marker. Of another stream neither sequences nor markers mean anything: there is everything to read."""
    begins = record.begins
    if begins is None:
        return None
    here = begins.stream == stream
    return Position(
        owner=None,
        epoch=0,
        stream=stream,
        subscriptions=begins.subscriptions if here else record.subscriptions,
        floor=begins.sequence if here else 0,
    )


def _key(agent_type: str) -> str:
    return f"{type_token(agent_type)}.type"


def _earlier(known: Beginning | None, new: Beginning) -> Beginning:
    """Return where a type begins. The first marker stays it, unless the event stream is another one, or two processes
    marked at once and the newer set was stored first."""
    if known is None or known.stream != new.stream:
        return new
    overtaken = new.sequence < known.sequence and new.subscriptions.change > known.subscriptions.change
    return new if overtaken else known


def read_marker(payload: bytes) -> SubscriptionChange | None:
    """Read the set that a marker carries; None, and an error in the log, for one that is not a marker."""
    try:
        return SubscriptionChange.from_json(json.loads(payload))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.error("a message on a marker's subject can't be read: %r", error)
        return None


def _shaped(record: TypeRecord, shape: TypeShape, *, any_shards: bool = False) -> TypeRecord:
    if record.shape is None:
        return replace(record, shape=shape)
    if record.shape == shape or (any_shards and record.shape.kind == shape.kind):
        return record
    if record.shape.kind != shape.kind:
        raise ValueError(
            f"Agent type {record.name!r} is registered as {record.shape.kind} and this process wants it "
            f"{shape.kind}: all processes of a type must agree; use another type name to change it"
        )
    raise ValueError(
        f"Agent type {record.name!r} has {record.shape.shards} shards and this process wants {shape.shards}: the count "
        "is fixed when a type is first registered; use the same count, or another type name"
    )
