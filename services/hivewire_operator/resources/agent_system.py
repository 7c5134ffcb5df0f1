"""`AgentSystem`: the agents of one Kubernetes namespace, and the NATS that they talk over.

Hivewire's namespace is the Kubernetes namespace's name. It can't be chosen: who could choose it would get the
operator to mint credentials for what belongs to others. For the same reason keys are not named here by Secret: they
live in the operator's namespace, and say themselves for which namespaces they are.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hivewire_operator.resources.agent_types import AgentType
from hivewire_operator.resources.fields import Conditions, Name, Part, list_map, ruled

DeletionPolicy = Literal["Retain", "Delete"]


class Nats(Part):
    """Where NATS is, and how to log in."""

    url: Annotated[str, Field(max_length=1024, pattern=r"^(nats|tls)://[^\s/@]+(,(nats|tls)://[^\s/@]+)*$")] = Field(
        description="Addresses, separated by commas: nats://host:4222 or tls://host:4222, without a login."
    )
    login: Name | None = Field(
        default=None,
        description="Name of a login that the operator holds: the Secret hivewire-login-<name> in its namespace, whose"
        " annotation hivewire.dev/namespaces lists the namespaces that may use it. It has the account signing key that"
        " credentials are minted with, or credentials for all. Left out: no login.",
    )
    ca_secret: Name | None = Field(
        default=None,
        description="Name of a Secret in this namespace whose key ca.crt has the certificates of who signed those of"
        " NATS, for the pods of agents. Left out: those that their image trusts.",
    )


class Streams(Part):
    """How events are stored."""

    replicas: Literal[1, 3, 5] = Field(
        default=1, description="Servers that keep each stream and bucket. It is only ever raised."
    )
    retention_seconds: Annotated[int, Field(ge=0, le=10 * 365 * 86_400)] = Field(
        default=7 * 86_400,
        description="How long events are kept that every agent type has finished. What somebody has yet to handle is"
        " kept longer.",
    )
    max_bytes: Annotated[int, Field(ge=1 << 20)] | None = Field(
        default=None, description="Size at which the event stream refuses new events. Left out: the account's limit."
    )
    deduplication_seconds: Annotated[int, Field(ge=1, le=86_400)] = Field(
        default=120, description="How long the id of a published event is remembered, so that it is stored once."
    )


class Defaults(Part):
    """What AgentDeployments get that say nothing else."""

    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="The image. Left out: the operator's own, which has no agents of yours."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Of the log lines of pods."
    )
    otlp_endpoint: Annotated[str, Field(max_length=1024, pattern=r"^https?://\S+$")] | None = Field(
        default=None, description="Where pods send traces to (OTEL_EXPORTER_OTLP_ENDPOINT). Left out: nowhere."
    )


class Gateway(Part):
    """What the gateway is allowed."""

    agent_types: Annotated[list[AgentType], Field(max_length=64)] = Field(
        default=[],
        description="The agent types that workers over HTTP may serve. They are registered, and not scaled.",
        json_schema_extra=list_map("name"),
    )
    worker_deployments: Annotated[list[Name], Field(min_length=1, max_length=16)] = Field(
        default=["default"], description="What such workers may call their deployments (HIVEWIRE_DEPLOYMENT)."
    )


class AgentSystemSpec(Part):
    """What is wanted."""

    nats: Nats = Field(description="Where NATS is, and how to log in.")
    streams: Streams = Field(default=Streams(), description="How events are stored.")
    defaults: Defaults = Field(default=Defaults(), description="What AgentDeployments get that say nothing else.")
    gateway: Gateway = Field(default=Gateway(), description="What the gateway is allowed.")
    admin_login: bool = Field(
        default=False,
        description="Whether there is a login for the command line, in the Secret hivewire-admin-nats: it may call"
        " agents, see everything, and remove states, schedules and dead letters. Switched off, it is not renewed, and"
        " expires.",
    )
    deletion_policy: DeletionPolicy = Field(
        default="Retain",
        description="What becomes of streams and buckets, with all events and states, when this object is deleted.",
    )
    resync_seconds: Annotated[int, Field(ge=5, le=3_600)] = Field(
        default=60, description="How often everything is compared with what is wanted, whatever was seen."
    )


class AgentSystemStatus(Part):
    """How it is."""

    conditions: Conditions = Field(default=[], description="How the object is.")
    observed_generation: int = Field(default=0, description="The generation of the spec that this tells of.")
    namespace: Annotated[str, Field(max_length=63)] = Field(default="", description="Hivewire's namespace.")
    agent_types: int = Field(default=0, description="Agent types that are registered.")
    sessions: int = Field(default=0, description="Processes that live.")


class AgentSystem(Part):
    """The agents of one Kubernetes namespace, and the NATS that they talk over."""

    model_config = ruled(
        ("self.metadata.name == 'default'", "a namespace has one AgentSystem, and it is named default"),
    )
    spec: AgentSystemSpec = Field(description="What is wanted.")
    status: AgentSystemStatus | None = Field(default=None, description="How it is.")
