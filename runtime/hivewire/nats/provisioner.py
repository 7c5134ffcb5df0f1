"""Makes streams, buckets and durable consumers as the topology plan wants them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hivewire.exceptions import RuntimeStateError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.registry import TypeRecord
from hivewire.nats.subjects import Subjects
from hivewire.nats.topology import Change, StatelessConsumer, Topology, bucket_stream, difference, plan

log = logging.getLogger("hivewire.provisioner")

_API = "$JS.API."
_STREAM_NOT_FOUND = 10059
_CONSUMER_NOT_FOUND = 10014
_MADE_BY_SOMEBODY_ELSE = (10058, 10148, 10149)
_ATTEMPTS = 5
_API_TIMEOUT_S = 15.0


class Provisioning(Protocol):
    """How a process comes to what its namespace needs. All methods may be called again and again."""

    async def ensure(self) -> str:
        """Return the creation time of the event stream, once the namespace has all that it needs.

        Raises:
            RuntimeStateError: it has not, and can't be given it here.
            BrokerUnavailableError: JetStream did not answer in time.
        """
        ...

    async def ensure_type(self, record: TypeRecord) -> None:
        """Return once a type has what it needs beside its record: a stateless one its consumer.

        Raises:
            as `ensure`.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioner:
    """Makes what is needed. What the settings leave open stays as it is, see `plan`."""

    broker: Broker
    subjects: Subjects
    replicas: int = 1
    duplicate_window_s: float = 120
    events_max_bytes: int | None = None

    async def ensure(self) -> str:
        topology = plan(
            self.subjects,
            replicas=self.replicas,
            duplicate_window_s=self.duplicate_window_s,
            events_max_bytes=self.events_max_bytes,
        )
        return await provision(self.broker, self.subjects, topology)

    async def ensure_type(self, record: TypeRecord) -> None:
        if record.shape is not None and record.shape.kind == "stateless":
            await provision_stateless(self.broker, self.subjects, record)


async def provision(broker: Broker, subjects: Subjects, topology: Topology | None = None) -> str:
    """Make what a namespace needs, the plan for development unless another one is given; return the creation time of
    its event stream.

    Raises:
        RuntimeStateError: something is there that can't be changed into what is planned, or a stream captures direct
            messages.
        BrokerUnavailableError: JetStream did not answer in time.
    """
    captured = await broker.api("STREAM.NAMES", {"subject": subjects.rpcs})
    if captured.get("streams"):
        raise RuntimeStateError(
            f"Stream {captured['streams'][0]} captures the direct messages of namespace {subjects.namespace!r}: its "
            f"acknowledgements would be taken for answers; change its subjects, or use another namespace"
        )
    await _apply(broker, topology or plan(subjects))
    info = await broker.api(f"STREAM.INFO.{subjects.events_stream}", timeout=_API_TIMEOUT_S)
    return str(info["created"])


async def provision_stateless(broker: Broker, subjects: Subjects, record: TypeRecord) -> None:
    """Make the consumer of a stateless type, or give it the filters that its subscriptions need now."""
    await _apply(broker, consumer_of_stateless(subjects, record))


def consumer_of_stateless(subjects: Subjects, record: TypeRecord) -> Topology:
    """Return the consumer that a stateless type should have."""
    consumer = StatelessConsumer(agent_type=record.name, filters=record.subscriptions.filters)
    key = (subjects.events_stream, subjects.consumer_of(record.name))
    return Topology(streams={}, consumers={key: plan(subjects, stateless=[consumer]).consumers[key]})


async def provision_bucket(broker: Broker, bucket: str) -> None:
    """Make one key-value bucket."""
    config = bucket_stream(bucket)
    await _apply(broker, Topology(streams={config["name"]: {**config, "num_replicas": 1}}, consumers={}))


async def _apply(broker: Broker, wanted: Topology) -> None:
    """Several processes may do this at once: whoever comes second compares again with what the first one made."""
    changes: list[Change] = []
    for _ in range(_ATTEMPTS):
        changes = difference(wanted, await live_topology(broker, wanted))
        conflict = next((change for change in changes if change.action == "conflict"), None)
        if conflict is not None:
            raise RuntimeStateError(str(conflict))
        again = False
        for change in changes:
            again |= not await _make(broker, change)
        if not again:
            return
    raise RuntimeStateError(f"The broker refuses what is planned: {'; '.join(map(str, changes))}")


async def _make(broker: Broker, change: Change) -> bool:
    subject, body = change.request()
    try:
        await broker.api(subject.removeprefix(_API), body, timeout=_API_TIMEOUT_S)
    except JetStreamError as error:
        if error.code not in _MADE_BY_SOMEBODY_ELSE:
            raise RuntimeStateError(f"NATS refused to {change}: {error}") from error
        log.debug("%s: %s", change, error)
        return False
    log.info("%s", change)
    return True


async def live_topology(broker: Broker, wanted: Topology) -> Topology:
    """Return what there is of what is wanted.

    Raises:
        BrokerUnavailableError: JetStream did not answer in time.
    """
    streams = {name: await _config(broker, f"STREAM.INFO.{name}") for name in wanted.streams}
    consumers = {
        (stream, name): await _config(broker, f"CONSUMER.INFO.{stream}.{name}") for stream, name in wanted.consumers
    }
    return Topology(
        streams={name: config for name, config in streams.items() if config is not None},
        consumers={key: config for key, config in consumers.items() if config is not None},
    )


async def _config(broker: Broker, operation: str) -> Mapping[str, Any] | None:
    try:
        config: Mapping[str, Any] = (await broker.api(operation, timeout=_API_TIMEOUT_S))["config"]
    except JetStreamError as error:
        if error.code in (_STREAM_NOT_FOUND, _CONSUMER_NOT_FOUND):
            return None
        raise
    return config
