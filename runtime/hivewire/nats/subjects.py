"""Every subject, stream, bucket and key of a namespace, and the way back from a subject to what it says.

A subject carries the agent type first, so that permissions can name it, and then ``slot mod 16`` and the slot of the
key, so that a shard of any power of two is a few wildcards: with 16 shards exactly one. Building one needs nothing
but the agent id.

A type that lives and ends with its process is addressed as `process_type` names it. No agent type begins with ``~``,
so the two never meet.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.tokens import SLOT_COUNT, slot_of_token, token, untoken
from hivewire.nats.topic_filters import topic_tokens

GROUP_COUNT: Final = 16
"""Number of values of ``slot mod 16``, the first of the two slot tokens of a subject."""

_is_namespace = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}").fullmatch
_CACHED_TEXT_CHARS: Final = 256


class AgentSubject(NamedTuple):
    """What a direct-message or inbox subject says about its recipient."""

    type_token: str
    key_token: str
    slot: int


class StoredEvent(NamedTuple):
    """What the subject of a stored event says: the slot and the token of its source, and its topic type as tokens."""

    slot: int
    source_token: str
    tail: str


class Subjects:
    """The names of one namespace.

    Args:
        namespace: Keeps systems apart that share a NATS account. Lower-case letters, digits, ``_`` and ``-``; at most
            63 characters, the first a letter or a digit.

    Raises:
        ValueError: The namespace has another form. Every method that takes a type, key or topic raises ValueError for
            text that is not valid Unicode.
    """

    __slots__ = ("_prefix", "namespace")

    def __init__(self, namespace: str) -> None:
        if not _is_namespace(namespace):
            raise ValueError(
                f"{namespace!r} is not a namespace: use 1 to 63 of a-z, 0-9, '_' and '-', beginning with a letter or a "
                "digit"
            )
        self.namespace = namespace
        self._prefix = f"{namespace}."

    def __repr__(self) -> str:
        return f"Subjects({self.namespace!r})"

    def template_of(self, destination: AgentId | TopicId) -> str:
        """Return where messages to an agent or a topic go, for people: in braces is what there may be many of, such as
        keys, and what follows the first colon of a topic type."""
        if isinstance(destination, AgentId):
            return f"{self._prefix}rpc.{type_token(destination.type)}.{{group}}.{{slot}}.{{key}}"
        head, colon, _ = destination.type.partition(":")
        return f"{self._prefix}event.{{source}}.{topic_tokens(head)}{'.{rest}' if colon else ''}"

    # Direct messages

    def rpc(self, agent_type: str, key: str) -> str:
        """Return the subject of direct messages to one agent."""
        return f"{self._prefix}rpc.{_address(agent_type, key)}"

    rpc_agent = rpc

    def rpc_type(self, agent_type: str) -> str:
        """Return the wildcard over the direct messages to all agents of a type."""
        return f"{self._prefix}rpc.{type_token(agent_type)}.>"

    def rpc_shard(self, agent_type: str, shard: int, shards: int) -> list[str]:
        """Return the wildcards that together take the direct messages to one shard of a type.

        Raises:
            ValueError: `shards` is not a power of two up to 256, or there is no such shard.
        """
        if shards == 1 and shard == 0:
            return [self.rpc_type(agent_type)]
        prefix = f"{self._prefix}rpc.{type_token(agent_type)}"
        return [f"{prefix}.{slots.removesuffix('.*')}.>" for slots in _slot_filters(shard, shards)]

    @property
    def rpcs(self) -> str:
        """The wildcard over all direct messages."""
        return f"{self._prefix}rpc.>"

    def parse_rpc(self, subject: str) -> AgentSubject:
        """Read the subject of a direct message.

        Raises:
            ValueError: Another subject, or one whose slot is not that of its key.
        """
        return _agent_subject(subject, f"{self._prefix}rpc.")

    def cancel(self, call_id: str) -> str:
        """Return the subject that cancels a call."""
        return f"{self._prefix}cancel.{token(call_id)}"

    @property
    def cancels(self) -> str:
        """The wildcard over all cancels."""
        return f"{self._prefix}cancel.*"

    def pod(self, deployment: str, session: str) -> str:
        """Return the control subject of one pod."""
        return f"{self._prefix}pod.{token(deployment)}.{token(session)}"

    @property
    def pods(self) -> str:
        """The wildcard over the control subjects of all pods."""
        return f"{self._prefix}pod.*.*"

    def pods_of(self, deployment: str) -> str:
        """Return the wildcard over the control subjects of a deployment's pods."""
        return f"{self._prefix}pod.{token(deployment)}.*"

    def replies(self, deployment: str) -> str:
        """Return what the reply subjects of a deployment's processes begin with, so that no other deployment has to be
        allowed to listen to them."""
        return f"_INBOX.{self.namespace}.{token(deployment)}"

    @property
    def all_replies(self) -> str:
        """Return the wildcard over the reply subjects of all processes."""
        return f"_INBOX.{self.namespace}.>"

    def wake(self, agent_type: str) -> str:
        """Return the subject that tells that a type which nobody serves is needed."""
        return f"{self._prefix}wake.{type_token(agent_type)}"

    @property
    def wakes(self) -> str:
        """The wildcard over what tells that types are needed."""
        return f"{self._prefix}wake.*"

    # Events

    def event(self, source: str, topic_type: str) -> str:
        """Return the subject that an event is published to.

        Raises:
            ValueError: The topic type is too long for a subject.
        """
        return f"{self._prefix}event.{token(source)}.{topic_tokens(topic_type)}"

    def stored_event(self, source: str, topic_type: str) -> str:
        """Return the subject under which the stream stores the event that `event` addresses."""
        return f"{self._prefix}events.{_slotted(source)}.{topic_tokens(topic_type)}"

    def stored_event_filters(self, tails: Sequence[str], shard: int, shards: int) -> list[str]:
        """Return the filters that take the events with these topic tails for one shard.

        Raises:
            ValueError: `shards` is not a power of two up to 256, or there is no such shard.
        """
        slot_filters = _slot_filters(shard, shards)
        return [f"{self._prefix}events.{slots}.*.{tail}" for slots in slot_filters for tail in tails]

    def stored_event_filters_of_source(self, tails: Sequence[str], source: str) -> list[str]:
        """Return the filters that take the events with these topic tails from one source."""
        prefix = f"{self._prefix}events.{_slotted(source)}"
        return [f"{prefix}.{tail}" for tail in tails]

    def key_filters(self, agent_type: str, key_token: str, tails: Sequence[str] = (">",)) -> list[str]:
        """Return the filters that take the events whose source has a token, of all topics or with these tails, and the
        durable messages to the agent of a type with that key."""
        slot = slot_of_token(key_token)
        address = f"{slot % GROUP_COUNT}.{slot}.{key_token}"
        inbox = f"{self._prefix}inbox.{type_token(agent_type)}.{address}"
        return [*(f"{self._prefix}events.{address}.{tail}" for tail in tails), inbox]

    def parse_stored_event(self, subject: str) -> StoredEvent:
        """Read the subject of a stored event.

        Raises:
            ValueError: Another subject, or one whose slot is not that of its source.
        """
        prefix = f"{self._prefix}events."
        parts = subject[len(prefix) :].split(".", 3)
        if not subject.startswith(prefix) or len(parts) != 4 or not parts[3]:
            raise ValueError(f"{subject!r} is not the subject of a stored event ({prefix}...)")
        group, slot, source_token, tail = parts
        return StoredEvent(_checked_slot(subject, group, slot, source_token), source_token, tail)

    @property
    def event_transform(self) -> dict[str, str]:
        """The subject transform by which the stream turns `event` into `stored_event`."""
        return {
            "src": f"{self._prefix}event.*.>",
            "dest": f"{self._prefix}events.{{{{partition({GROUP_COUNT},1)}}}}.{{{{partition({SLOT_COUNT},1)}}}}"
            ".{{wildcard(1)}}.>",
        }

    @property
    def events(self) -> str:
        """The wildcard over published events, before they are stored."""
        return f"{self._prefix}event.*.>"

    @property
    def stored_events(self) -> str:
        """The wildcard over the events of the stream."""
        return f"{self._prefix}events.>"

    def inbox(self, agent_type: str, key: str) -> str:
        """Return the subject of durable messages to one agent."""
        return f"{self._prefix}inbox.{_address(agent_type, key)}"

    @property
    def inboxes(self) -> str:
        """The wildcard over all durable messages."""
        return f"{self._prefix}inbox.>"

    def inbox_of(self, agent_type: str) -> str:
        """Return the wildcard over the inbox of a type."""
        return f"{self._prefix}inbox.{type_token(agent_type)}.>"

    def inbox_filters(self, agent_type: str, shard: int, shards: int) -> list[str]:
        """Return the filters that take the durable messages to one shard of a type.

        Raises:
            ValueError: `shards` is not a power of two up to 256, or there is no such shard.
        """
        prefix = f"{self._prefix}inbox.{type_token(agent_type)}"
        return [f"{prefix}.{slots}.*" for slots in _slot_filters(shard, shards)]

    def parse_inbox(self, subject: str) -> AgentSubject:
        """Read the subject of a durable message.

        Raises:
            ValueError: Another subject, or one whose slot is not that of its key.
        """
        return _agent_subject(subject, f"{self._prefix}inbox.")

    def marker(self, agent_type: str) -> str:
        """Return the subject on which the subscriptions of a type change."""
        return f"{self._prefix}marker.{type_token(agent_type)}"

    @property
    def markers(self) -> str:
        """The wildcard over the markers of all types."""
        return f"{self._prefix}marker.*"

    # Schedules, chunks, dead letters

    def schedule(self, schedule_id: str) -> str:
        """Return the subject of a waiting schedule."""
        return f"{self._prefix}schedule.{token(schedule_id)}"

    @property
    def schedules(self) -> str:
        """The wildcard over all waiting schedules."""
        return f"{self._prefix}schedule.*"

    def due(self, schedule_id: str) -> str:
        """Return the subject that a schedule fires into."""
        return f"{self._prefix}due.{token(schedule_id)}"

    @property
    def dues(self) -> str:
        """The wildcard over all firings."""
        return f"{self._prefix}due.*"

    def chunk(self, stream_id: str) -> str:
        """Return the subject of the chunks of one resumable stream."""
        return f"{self._prefix}chunk.{token(stream_id)}"

    @property
    def chunks(self) -> str:
        """The wildcard over the chunks of all resumable streams."""
        return f"{self._prefix}chunk.*"

    def pulse(self, stream_id: str) -> str:
        """Return the subject on which whoever runs the handler of a resumable stream answers."""
        return f"{self._prefix}pulse.{token(stream_id)}"

    @property
    def pulses(self) -> str:
        """The wildcard over the pulses of all resumable streams."""
        return f"{self._prefix}pulse.*"

    def dead(self, agent_type: str, key: str, message: int | str) -> str:
        """Return the subject of one dead letter; `message` is its stream sequence or its call id."""
        return f"{self._prefix}dead.{type_token(agent_type)}.{token(key)}.{token(str(message))}"

    def dead_of(self, agent_type: str | None = None, key: str | None = None) -> str:
        """Return the wildcard over the dead letters of a type, of a key, or of one agent."""
        kind = "*" if agent_type is None else type_token(agent_type)
        return f"{self._prefix}dead.{kind}.{'*' if key is None else token(key)}.*"

    @property
    def dead_letters(self) -> str:
        """The wildcard over all dead letters."""
        return f"{self._prefix}dead.*.*.*"

    # Streams, consumers, buckets

    @property
    def events_stream(self) -> str:
        """The stream of events, durable messages and markers."""
        return f"{self.namespace.upper()}_EVENTS"

    @property
    def schedules_stream(self) -> str:
        """The stream of waiting schedules and their firings."""
        return f"{self.namespace.upper()}_SCHEDULES"

    @property
    def dead_stream(self) -> str:
        """The stream of dead letters."""
        return f"{self.namespace.upper()}_DEAD"

    @property
    def chunks_stream(self) -> str:
        """The stream of the chunks of resumable streams."""
        return f"{self.namespace.upper()}_CHUNKS"

    def consumer_of(self, agent_type: str) -> str:
        """Return the name of the durable consumer that the pods of a stateless type share."""
        return type_token(agent_type)

    @property
    def forward_consumer(self) -> str:
        """The name of the durable consumer that forwards the firings of schedules."""
        return "forward"

    @property
    def state_bucket(self) -> str:
        """The bucket of agent states."""
        return f"{self.namespace}_state"

    @property
    def registry_bucket(self) -> str:
        """The bucket of types and their subscriptions."""
        return f"{self.namespace}_registry"

    @property
    def leases_bucket(self) -> str:
        """The bucket of the sessions of pods."""
        return f"{self.namespace}_leases"

    @property
    def positions_bucket(self) -> str:
        """The bucket of the claims and positions of shards."""
        return f"{self.namespace}_positions"

    def state_key(self, agent_type: str, key: str) -> str:
        """Return the key of an agent's state."""
        return f"{type_token(agent_type)}.{token(key)}"

    def lease_key(self, deployment: str, session: str) -> str:
        """Return the key of a pod's session."""
        return f"{token(deployment)}.{token(session)}"

    def leases_of(self, deployment: str) -> str:
        """Return the pattern of the keys of a deployment's sessions."""
        return f"{token(deployment)}.*"

    def lease_of(self, session: str) -> str:
        """Return the pattern of the key of a session, whosever it is."""
        return f"*.{token(session)}"

    def position_key(self, agent_type: str, shard: int | str) -> str:
        """Return the key of a shard's position; the shard of an instance is named by the token of its key."""
        return f"{type_token(agent_type)}.{shard}"

    def bucket_subject(self, bucket: str, key: str) -> str:
        """Return the subject on which a bucket's stream keeps a key."""
        return f"$KV.{bucket}.{key}"


def process_type(deployment: str, agent_type: str) -> str:
    """Name a type that lives and ends with its process, so that the permissions of its deployment can name it."""
    return f"~{deployment}~{agent_type}"


def type_token(agent_type: str) -> str:
    """Write an agent type, or the name that `process_type` made, as one subject token."""
    if not agent_type.startswith("~"):
        return token(agent_type)
    deployment, _, process_bound = agent_type[1:].rpartition("~")
    return f"~{token(deployment)}~{token(process_bound)}"


def type_of_token(type_token: str) -> str | None:
    """Read an agent type back from its token. None when it is hashed.

    Raises:
        ValueError: Not a token of an agent type.
    """
    if not type_token.startswith("~"):
        return untoken(type_token)
    deployment_token, _, process_bound_token = type_token[1:].rpartition("~")
    deployment, process_bound = untoken(deployment_token), untoken(process_bound_token)
    return None if deployment is None or process_bound is None else process_type(deployment, process_bound)


def shard_of(slot: int, shards: int) -> int:
    """Return the shard that has a slot."""
    return slot % shards


def check_shards(shards: int) -> None:
    """Refuse a shard count that the subjects can't express.

    Raises:
        ValueError: Not a power of two from 1 to 256.
    """
    if not 1 <= shards <= SLOT_COUNT or shards & (shards - 1):
        raise ValueError(f"a type can't have {shards} shards: the count is a power of two from 1 to {SLOT_COUNT}")


def _address(agent_type: str, key: str) -> str:
    # The cache is bounded in entries, so what it keeps has to be short.
    if len(key) <= _CACHED_TEXT_CHARS and len(agent_type) <= _CACHED_TEXT_CHARS:
        return _cached_address(agent_type, key)
    return f"{type_token(agent_type)}.{_slotted(key)}"


@lru_cache(maxsize=16_384)
def _cached_address(agent_type: str, key: str) -> str:
    return f"{type_token(agent_type)}.{_slotted(key)}"


def _slotted(text: str) -> str:
    text_token = token(text)
    slot = slot_of_token(text_token)
    return f"{slot % GROUP_COUNT}.{slot}.{text_token}"


@lru_cache(maxsize=16_384)
def _agent_subject(subject: str, prefix: str) -> AgentSubject:
    parts = subject[len(prefix) :].split(".")
    if not subject.startswith(prefix) or len(parts) != 4:
        raise ValueError(f"{subject!r} is not the subject of a message to an agent ({prefix}...)")
    type_token, group, slot, key_token = parts
    return AgentSubject(type_token, key_token, _checked_slot(subject, group, slot, key_token))


def _checked_slot(subject: str, group: str, slot: str, slotted_token: str) -> int:
    # A message under a slot that is not its key's would reach a process that doesn't own the key.
    expected = slot_of_token(slotted_token) if slotted_token.isascii() else None
    if expected is None or slot != str(expected) or group != str(expected % GROUP_COUNT):
        raise ValueError(f"{subject!r} carries the slot {group}.{slot}, and {slotted_token!r} has {expected}")
    return expected


@lru_cache(maxsize=1_024)
def _slot_filters(shard: int, shards: int) -> tuple[str, ...]:
    """Return the patterns over the two slot tokens that select a shard."""
    check_shards(shards)
    if not 0 <= shard < shards:
        raise ValueError(f"there is no shard {shard} of {shards}")
    if shards == 1:
        return ("*.*",)
    if shards <= GROUP_COUNT:
        return tuple(f"{group}.*" for group in range(shard, GROUP_COUNT, shards))
    return tuple(f"{shard % GROUP_COUNT}.{slot}" for slot in range(shard, SLOT_COUNT, shards))
