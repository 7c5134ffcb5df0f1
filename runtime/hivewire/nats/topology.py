"""Which streams, buckets and durable consumers a namespace needs, and what to change so that it has them.

`plan` says what there should be, `difference` compares it with what there is; neither talks to the broker. A change
asks only for what the plan names, so a limit that somebody set by hand stays. Nothing is ever deleted, replicas are
only ever raised, and what a newer version has planned is left alone: during a rolling update, old and new processes
plan at once.

Buckets are planned as the streams that they are, because a client library can't ask for all of their settings.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from hivewire.nats.subjects import Subjects
from hivewire.nats.topic_filters import TopicFilter, minimal_tails

PLAN_VERSION: Final = 3
"""Raised with every change of what `plan` asks for."""

PLAN_KEY: Final = "hivewire.plan"
"""The metadata key of the plan version that a stream or consumer was last changed by."""

MAX_CONSUMERS: Final = 100_000
"""The broker's own limit is 1000 for a stream, and every shard that lags has a reader of its own, as has everybody who
reads a resumable stream."""

ACK_WAIT_S: Final = 30
FORWARD_ACK_WAIT_S: Final = 5
"""Forwarding takes milliseconds, and what a process took with it when it died should not be late for long."""

CHUNK_AGE_S: Final = 3_600
LEASE_MARKER_S: Final = 60

Config = Mapping[str, Any]
"""A stream or consumer configuration as the JetStream API has it; durations are nanoseconds."""

_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StatelessConsumer:
    """A stateless type: all its pods share one durable consumer of the events that it subscribes to and its inbox."""

    agent_type: str
    filters: Sequence[TopicFilter] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Stream configurations by stream, and consumer configurations by stream and consumer."""

    streams: Mapping[str, Config]
    consumers: Mapping[tuple[str, str], Config]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing to do, or, as a ``conflict``, one thing that can't be done: it takes a deletion by hand.

    `consumer` is None for a change of a stream. `settings` names what differs; it is empty for a creation.
    """

    action: Literal["create", "update", "conflict"]
    stream: str
    consumer: str | None = None
    config: Config
    settings: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = f"stream {self.stream}" if self.consumer is None else f"consumer {self.consumer} of {self.stream}"
        match self.action:
            case "create":
                return f"create {name}"
            case "update":
                return f"update {name}: {', '.join(self.settings)}"
            case "conflict":
                return (
                    f"{name} has another {' and '.join(self.settings)} than planned, which can't be changed: "
                    "delete it, or use another namespace"
                )

    def request(self) -> tuple[str, Mapping[str, Any]]:
        """Return the subject and the JSON body of the JetStream API request that makes the change.

        Raises:
            ValueError: It is a conflict.
        """
        if self.action == "conflict":
            raise ValueError(str(self))
        if self.consumer is None:
            return f"$JS.API.STREAM.{self.action.upper()}.{self.stream}", self.config
        body = {"stream_name": self.stream, "config": self.config, "action": self.action}
        return f"$JS.API.CONSUMER.CREATE.{self.stream}.{self.consumer}", body


def plan(
    subjects: Subjects,
    *,
    replicas: int = 1,
    duplicate_window_s: float = 120,
    events_max_bytes: int | None = None,
    stateless: Iterable[StatelessConsumer] = (),
) -> Topology:
    """Say what streams, buckets and durable consumers a namespace should have.

    Args:
        subjects: The names of the namespace.
        replicas: Replicas of every stream.
        duplicate_window_s: How long the broker remembers the ids of published events.
        events_max_bytes: Size at which the event stream refuses new events; None leaves it as it is, at first without
            a limit.
        stateless: The stateless types of the namespace. Those left out keep the consumer that they have.

    Raises:
        ValueError: A topic filter is too long for a subject.
    """
    duplicate_window = {"duplicate_window": round(duplicate_window_s * _SECOND_NS)}
    streams = [
        # The server refuses schedules beside `discard: new`, and an age would end a schedule before it fires.
        _stream(
            subjects.schedules_stream,
            [subjects.schedules, subjects.dues],
            discard="old",
            max_age=0,
            allow_msg_schedules=True,
            allow_msg_ttl=True,
            **duplicate_window,
        ),
        _stream(subjects.dead_stream, [subjects.dead_letters], discard="new"),
        _stream(
            subjects.chunks_stream,
            [subjects.chunks],
            discard="old",
            max_age=CHUNK_AGE_S * _SECOND_NS,
            max_consumers=MAX_CONSUMERS,
        ),
        # Read by subjects that name the keys, which can be allowed one by one.
        bucket_stream(subjects.state_bucket, allow_direct=True),
        bucket_stream(subjects.registry_bucket),
        # Without delete markers, the loss of the bucket's leader expires sessions that are alive.
        bucket_stream(
            subjects.leases_bucket, allow_msg_ttl=True, subject_delete_marker_ttl=LEASE_MARKER_S * _SECOND_NS
        ),
        bucket_stream(subjects.positions_bucket),
        # The last one, so that whoever finds it finds the others.
        _stream(
            subjects.events_stream,
            [subjects.events, subjects.inboxes, subjects.markers],
            discard="new",
            max_consumers=MAX_CONSUMERS,
            subject_transform=subjects.event_transform,
            **duplicate_window,
            **({} if events_max_bytes is None else {"max_bytes": events_max_bytes}),
        ),
    ]
    consumers = [(subjects.schedules_stream, _forward_consumer(subjects))]
    for each in stateless:
        filters = stateless_filters(subjects, each.agent_type, each.filters)
        name = subjects.consumer_of(each.agent_type)
        consumers.append((subjects.events_stream, _consumer(name, filters, deliver="new")))
    return Topology(
        streams={config["name"]: {**config, "num_replicas": replicas} for config in streams},
        consumers={(stream, config["durable_name"]): config for stream, config in consumers},
    )


def stateless_filters(subjects: Subjects, agent_type: str, topics: Sequence[TopicFilter]) -> list[str]:
    """Return what the consumer of a stateless type takes: the events that it subscribes to, and its inbox."""
    return subjects.stored_event_filters(minimal_tails(topics), 0, 1) + subjects.inbox_filters(agent_type, 0, 1)


def difference(desired: Topology, live: Topology) -> list[Change]:
    """Say what to change so that the broker has what is desired: streams first, then consumers.

    Args:
        desired: What `plan` returned.
        live: The ``config`` of the ``STREAM.INFO`` and ``CONSUMER.INFO`` answers, for what there is.
    """
    changes = [
        _change(stream, None, config, live.streams.get(stream), _IMMUTABLE_OF_STREAMS)
        for stream, config in desired.streams.items()
    ]
    changes += [
        _change(stream, name, config, live.consumers.get((stream, name)), _IMMUTABLE_OF_CONSUMERS)
        for (stream, name), config in desired.consumers.items()
    ]
    return [change for change in changes if change is not None]


def plan_version_of(config: Config) -> int:
    """Return the version of the plan that a stream or consumer was last changed by; 0 when no plan has."""
    version = _metadata_of(config).get(PLAN_KEY, "")
    return int(version) if version.isdecimal() else 0


_METADATA: Final = {"metadata": {PLAN_KEY: str(PLAN_VERSION)}}

_IMMUTABLE_OF_STREAMS: Final = frozenset(("storage", "retention"))
_IMMUTABLE_OF_CONSUMERS: Final = frozenset(("deliver_policy", "ack_policy"))
_UNORDERED: Final = frozenset(("subjects", "filter_subjects"))


def _stream(name: str, subjects: Sequence[str], **settings: Any) -> Config:
    return {"name": name, "subjects": subjects, "retention": "limits", "storage": "file", **_METADATA, **settings}


def bucket_stream(bucket: str, *, allow_direct: bool = False, **settings: Any) -> Config:
    """Return the configuration of the stream that a key-value bucket is."""
    return _stream(
        f"KV_{bucket}",
        [f"$KV.{bucket}.>"],
        discard="new",
        max_msgs_per_subject=1,
        max_consumers=MAX_CONSUMERS,
        allow_rollup_hdrs=True,
        deny_delete=True,
        # A direct read may come from a replica that lags behind, and what is read here decides a compare-and-set.
        allow_direct=allow_direct,
        **settings,
    )


def _consumer(name: str, filters: Sequence[str], *, deliver: Literal["all", "new"]) -> Config:
    return {
        "name": name,
        "durable_name": name,
        "deliver_policy": deliver,
        "ack_policy": "explicit",
        "ack_wait": ACK_WAIT_S * _SECOND_NS,
        "filter_subjects": filters,
        **_METADATA,
    }


def _forward_consumer(subjects: Subjects) -> Config:
    consumer = _consumer(subjects.forward_consumer, [subjects.dues], deliver="all")
    return {**consumer, "ack_wait": FORWARD_ACK_WAIT_S * _SECOND_NS}


def _change(
    stream: str, consumer: str | None, desired: Config, live: Config | None, immutable: frozenset[str]
) -> Change | None:
    if live is None:
        return Change(action="create", stream=stream, consumer=consumer, config=desired)
    if plan_version_of(live) > PLAN_VERSION:
        return None
    wanted = {**desired, "metadata": {**_metadata_of(live), **desired["metadata"]}}
    if "num_replicas" in desired:
        wanted["num_replicas"] = max(desired["num_replicas"], live.get("num_replicas", 1))
    known = {**live, "metadata": _metadata_of(live)}
    settings = tuple(name for name, value in wanted.items() if _differs(name, value, known.get(name)))
    if not settings:
        return None
    fixed = tuple(name for name in settings if name in immutable)
    if fixed:
        return Change(action="conflict", stream=stream, consumer=consumer, config=desired, settings=fixed)
    return Change(action="update", stream=stream, consumer=consumer, config={**known, **wanted}, settings=settings)


def _differs(name: str, wanted: Any, known: Any) -> bool:
    if name in _UNORDERED and known is not None:
        return set(wanted) != set(known)
    # The server leaves out what is off or zero.
    return bool(wanted or known) and wanted != known


def _metadata_of(config: Config) -> dict[str, str]:
    """Return the metadata without what the server itself adds, which must not be sent back."""
    return {name: value for name, value in (config.get("metadata") or {}).items() if not name.startswith("_nats.")}
