"""What can be set on a runtime that works through a gateway, with its defaults."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from opentelemetry.trace import TracerProvider

from hivewire.agents.concurrency import Concurrency
from hivewire.model.interventions import InterventionHandler

__all__ = ["HttpOptionKeywords", "HttpOptions", "Token"]

Token = str | Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpOptions:
    """Options of `HttpAgentRuntime`. Times are in seconds. What is None is as the gateway has it.

    Attributes:
        instance_id: A label of this process, shown by `hivewire ps`. Default: the environment's INSTANCE_ID, else the
            host's name.
        deployment: The group of interchangeable processes that this one belongs to. Default: HIVEWIRE_DEPLOYMENT, else
            "default".
        token: The bearer token for the gateway, or a function that returns it, called at every connect. Default:
            HIVEWIRE_TOKEN.
        default_timeout: Deadline of a direct message whose sender names none.
        delivery_timeout: How long a registered type that no process takes messages for, or the gateway, is waited for.
        publish_timeout: How long a publish waits until the event is stored.
        drain_timeout: How long `stop` waits for running handlers; what still runs then is cancelled.
        event_retention: How long an event stays at least once all agent types have finished it.
        concurrency: "serial" or "interleaved" for all agents whose class does not say; None: serial for those that
            keep state.
        max_turns: Turns that run at once in this process; as many direct messages more may wait.
        passivate_after: How long an agent stays in memory without a message.
        max_agents: Agents in memory, at the most; above, those that were used least lately go.
        strict_ids: Refuse agent ids and topics outside of the narrow character set.
        strict_payloads: Raise for a payload of an unknown type, which otherwise arrives as `UnknownPayload`.
        strict_unhandled: Raise for a direct message that no handler takes, which otherwise is answered with None.
        record_payloads: Put message contents into events of the event logger, and into spans.
    """

    instance_id: str = field(default_factory=lambda: os.environ.get("INSTANCE_ID") or socket.gethostname())
    deployment: str = field(default_factory=lambda: os.environ.get("HIVEWIRE_DEPLOYMENT") or "default")
    token: Token | None = field(default_factory=lambda: os.environ.get("HIVEWIRE_TOKEN") or None, repr=False)
    tracer_provider: TracerProvider | None = None
    intervention_handlers: Sequence[InterventionHandler] | None = None
    default_timeout: float = 300.0
    delivery_timeout: float = 15.0
    publish_timeout: float = 30.0
    drain_timeout: float = 25.0
    event_retention: float | None = None
    concurrency: Concurrency | None = None
    max_turns: int | None = None
    passivate_after: float | None = None
    max_agents: int | None = None
    strict_ids: bool = False
    strict_payloads: bool = False
    strict_unhandled: bool = False
    record_payloads: bool = False

    def for_gateway(self) -> dict[str, Any]:
        """Return what the gateway has to know, as JSON."""
        names = (
            "default_timeout",
            "delivery_timeout",
            "publish_timeout",
            "drain_timeout",
            "event_retention",
            "concurrency",
            "max_turns",
            "passivate_after",
            "max_agents",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class HttpOptionKeywords(TypedDict, total=False):
    """The fields of `HttpOptions` as keyword arguments, `instance_id` apart."""

    deployment: str
    token: Token | None
    tracer_provider: TracerProvider | None
    intervention_handlers: Sequence[InterventionHandler] | None
    default_timeout: float
    delivery_timeout: float
    publish_timeout: float
    drain_timeout: float
    event_retention: float | None
    concurrency: Concurrency | None
    max_turns: int | None
    passivate_after: float | None
    max_agents: int | None
    strict_ids: bool
    strict_payloads: bool
    strict_unhandled: bool
    record_payloads: bool
