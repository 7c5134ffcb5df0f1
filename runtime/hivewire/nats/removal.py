"""Removes what there is of a type, or of a whole namespace. What is removed here can't be brought back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket
from hivewire.nats.subjects import Subjects, type_token

_NOT_FOUND: Final = (10014, 10059)
_TIMEOUT_S: Final = 15.0


async def remove_type(broker: Broker, subjects: Subjects, agent_type: str) -> None:
    """Remove the states, positions and dead letters of a type, what is in its inbox, its consumer, and its records.

    Events that wait for it stay in the stream, as others may want them. May be repeated.

    Raises:
        BrokerUnavailableError: JetStream did not answer in time; some of it may be gone.
        WriteConflictError: a process still writes there, so it serves the type.
        JetStreamError: JetStream refuses.
    """
    prefix = f"{type_token(agent_type)}."
    for bucket in (subjects.registry_bucket, subjects.positions_bucket):
        # One by one, so that those who watch the bucket are told.
        await _delete_keys(Bucket(broker, bucket), f"{prefix}*")
    state = subjects.state_bucket
    await _purge(broker, f"KV_{state}", subjects.bucket_subject(state, f"{prefix}*"))
    await _purge(broker, subjects.dead_stream, subjects.dead_of(agent_type))
    await _purge(broker, subjects.events_stream, subjects.inbox_of(agent_type))
    await _delete(broker, f"CONSUMER.DELETE.{subjects.events_stream}.{subjects.consumer_of(agent_type)}")


async def remove_namespace(broker: Broker, subjects: Subjects) -> None:
    """Remove all streams and buckets of a namespace, with all that is in them. May be repeated.

    Raises:
        as `remove_type`.
    """
    buckets = (subjects.leases_bucket, subjects.registry_bucket, subjects.positions_bucket, subjects.state_bucket)
    streams = (subjects.schedules_stream, subjects.chunks_stream, subjects.dead_stream, subjects.events_stream)
    for name in (*(f"KV_{bucket}" for bucket in buckets), *streams):
        await _delete(broker, f"STREAM.DELETE.{name}")


async def _delete_keys(bucket: Bucket, pattern: str) -> None:
    for key in await bucket.keys(pattern):
        entry = await bucket.get(key)
        if entry.value is not None:
            await bucket.delete(key, revision=entry.revision)


async def _purge(broker: Broker, stream: str, subject: str) -> None:
    await _unless_missing(broker, f"STREAM.PURGE.{stream}", {"filter": subject})


async def _delete(broker: Broker, operation: str) -> None:
    await _unless_missing(broker, operation, None)


async def _unless_missing(broker: Broker, operation: str, body: Mapping[str, str] | None) -> None:
    try:
        await broker.api(operation, body, timeout=_TIMEOUT_S)
    except JetStreamError as error:
        if error.code not in _NOT_FOUND:
            raise
