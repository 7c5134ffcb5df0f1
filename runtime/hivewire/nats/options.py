"""What can be set on a NATS runtime, with its defaults."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from opentelemetry.trace import TracerProvider

from hivewire.agents.concurrency import Concurrency
from hivewire.model.interventions import InterventionHandler
from hivewire.nats.residency import DEFAULT_IDLE_S, DEFAULT_MAX_AGENTS
from hivewire.nats.turn_slots import DEFAULT_MAX_TURNS


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """Options of `NatsAgentRuntime`. Times are in seconds.

    Attributes:
        instance_id: A label of this process, shown by `hivewire ps`. Several processes may have the same one. Default:
            the environment's INSTANCE_ID, else the host's name.
        namespace: Keeps systems apart that share a NATS account. Default: HIVEWIRE_NAMESPACE, else "default".
        deployment: The group of interchangeable processes that this one belongs to. Default: HIVEWIRE_DEPLOYMENT, else
            "default".
        credentials: The path of a NATS credentials file, which is read at every connect and watched: fresh ones take
            over without a gap. Default: NATS_CREDS. An embedded server wants none.
        default_timeout: Deadline of a direct message whose sender names none.
        delivery_timeout: How long a registered type that no process takes messages for is waited for.
        publish_timeout: How long a publish waits for the broker to store the event.
        drain_timeout: How long `stop` waits for running handlers; what still runs then is cancelled.
        event_retention: How long an event stays at least once all agent types have finished it, unless the event stream
            is nearly full. All processes of a namespace should agree.
        concurrency: "serial" or "interleaved" for all agents whose class does not say; None: serial for those that
            keep state.
        max_turns: Turns that run at once in this process; as many direct messages more may wait, above that callers are
            told that there is no room and try again.
        passivate_after: How long an agent stays in memory without a message. Only what it keeps as its state is there
            again when the next message comes.
        max_agents: Agents in memory, at the most; above, those that were used least lately go.
        provision: Make the streams, buckets and consumers of the namespace, and, when it is this process's turn, remove
            what all have finished and watch the system. Without, another process has to: what is missing is an error.
            Default: True, unless HIVEWIRE_PROVISION is "off".
        strict_ids: Refuse agent ids and topics outside of the narrow character set.
        strict_payloads: Raise for a payload of an unknown type, which otherwise arrives as `UnknownPayload`.
        strict_unhandled: Raise for a direct message that no handler takes, which otherwise is answered with None.
        record_payloads: Put message contents into events of the event logger, and into spans.
    """

    instance_id: str = field(default_factory=lambda: os.environ.get("INSTANCE_ID") or socket.gethostname())
    namespace: str = field(default_factory=lambda: os.environ.get("HIVEWIRE_NAMESPACE") or "default")
    deployment: str = field(default_factory=lambda: os.environ.get("HIVEWIRE_DEPLOYMENT") or "default")
    credentials: str | None = field(default_factory=lambda: os.environ.get("NATS_CREDS") or None)
    tracer_provider: TracerProvider | None = None
    intervention_handlers: Sequence[InterventionHandler] | None = None
    default_timeout: float = 300.0
    delivery_timeout: float = 15.0
    publish_timeout: float = 30.0
    drain_timeout: float = 25.0
    event_retention: float = 7 * 24 * 3600.0
    concurrency: Concurrency | None = None
    max_turns: int = DEFAULT_MAX_TURNS
    passivate_after: float = DEFAULT_IDLE_S
    max_agents: int = DEFAULT_MAX_AGENTS
    provision: bool = field(default_factory=lambda: os.environ.get("HIVEWIRE_PROVISION", "").lower() != "off")
    strict_ids: bool = False
    strict_payloads: bool = False
    strict_unhandled: bool = False
    record_payloads: bool = False


class OptionKeywords(TypedDict, total=False):
    """The fields of `RuntimeOptions` as keyword arguments, `instance_id` apart."""

    namespace: str
    deployment: str
    credentials: str | None
    tracer_provider: TracerProvider | None
    intervention_handlers: Sequence[InterventionHandler] | None
    default_timeout: float
    delivery_timeout: float
    publish_timeout: float
    drain_timeout: float
    event_retention: float
    concurrency: Concurrency | None
    max_turns: int
    passivate_after: float
    max_agents: int
    provision: bool
    strict_ids: bool
    strict_payloads: bool
    strict_unhandled: bool
    record_payloads: bool
