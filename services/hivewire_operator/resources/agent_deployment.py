"""`AgentDeployment`: pods that serve agent types, and how many of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hivewire_operator.resources.agent_system import DeletionPolicy
from hivewire_operator.resources.agent_types import AgentType
from hivewire_operator.resources.fields import Conditions, Part, Seconds, list_map, ruled
from hivewire_operator.resources.pods import PodTemplate

Replicas = Annotated[int, Field(ge=0, le=1_000)]


class ScalingRate(Part):
    """At most so many replicas, or percent of them, within a period."""

    type: Literal["Pods", "Percent"] = Field(description="What the value counts.")
    value: Annotated[int, Field(ge=1, le=10_000)] = Field(description="How many.")
    period_seconds: Annotated[int, Field(ge=1, le=1_800)] = Field(description="The period.")


class ScalingDirection(Part):
    """How one direction is damped, as in a HorizontalPodAutoscaler."""

    stabilization_window_seconds: Annotated[int, Field(ge=0, le=3_600)] = Field(
        default=0, description="The most cautious wish within this time counts."
    )
    select_policy: Literal["Max", "Min", "Disabled"] = Field(
        default="Max", description="Which of the policies counts; Disabled forbids the direction."
    )
    policies: Annotated[list[ScalingRate], Field(max_length=8)] = Field(
        default=[], description="Limits of the rate. None: no limit."
    )


class ScalingBehavior(Part):
    """How changes are damped, as in a HorizontalPodAutoscaler."""

    scale_up: ScalingDirection = Field(default=ScalingDirection(), description="When replicas come.")
    scale_down: ScalingDirection = Field(
        default=ScalingDirection(stabilization_window_seconds=300), description="When replicas go."
    )


class Scaling(Part):
    """How many pods there are."""

    model_config = ruled(("self.minReplicas <= self.maxReplicas", "minReplicas is at most maxReplicas"))
    mode: Literal["internal", "hpa", "keda", "manual"] = Field(
        default="internal",
        description="Who decides: the operator by the load, or somebody else through the scale subresource.",
    )
    min_replicas: Replicas = Field(default=0, description="The least. 0: none while nothing waits.")
    max_replicas: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=1, description="The most; more than the shards of a type would have no work."
    )
    target_load: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=10, description="Unfinished messages that one pod is meant to carry."
    )
    poll_seconds: Annotated[int, Field(ge=1, le=3_600)] = Field(
        default=10, description="How often the load is looked at."
    )
    cooldown_seconds: Seconds = Field(
        default=300, description="How long nothing must have waited or run before the last pod goes."
    )
    behavior: ScalingBehavior = Field(default=ScalingBehavior(), description="How changes are damped.")
    paused: bool = Field(default=False, description="Whether the number stays as it is.")


class Rollout(Part):
    """How pods are replaced."""

    progress_deadline_seconds: Annotated[int, Field(ge=10, le=86_400)] = Field(
        default=600, description="How long new pods may take to become ready."
    )
    rollback: bool = Field(
        default=True,
        description="Whether the pods of before come back when they did not. What was taken back is not tried again"
        " until it changes.",
    )


class AgentDeploymentSpec(Part):
    """What is wanted."""

    model_config = ruled(
        (
            "self.agentTypes.exists(t, t.stateless || t.shards >= self.scaling.maxReplicas)",
            "maxReplicas is above the shards of every agent type: the pods beyond would have no work",
        ),
    )
    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="The image with the agents. Left out: that of the AgentSystem."
    )
    module: Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z_][\w.]*(:[A-Za-z_]\w*)?$")] = Field(
        description="The function that registers the agents, as package.module:setup."
    )
    agent_types: Annotated[list[AgentType], Field(min_length=1, max_length=64)] = Field(
        description="The agent types that the module registers.", json_schema_extra=list_map("name")
    )
    pod: PodTemplate = Field(default=PodTemplate(), description="What may be said about the pods.")
    replicas: Replicas = Field(default=1, description="How many pods there are; written by whoever scales.")
    scaling: Scaling = Field(default=Scaling(), description="How many pods there are to be.")
    rollout: Rollout = Field(default=Rollout(), description="How pods are replaced.")
    deletion_policy: DeletionPolicy = Field(
        default="Retain",
        description="What becomes of the states, subscriptions and unread events of its agent types when this object is"
        " deleted.",
    )


class AgentDeploymentStatus(Part):
    """How it is."""

    conditions: Conditions = Field(default=[], description="How the object is.")
    observed_generation: int = Field(default=0, description="The generation of the spec that this tells of.")
    replicas: int = Field(default=0, description="Pods that there are.")
    ready_replicas: int = Field(default=0, description="Pods that take messages.")
    desired_replicas: int = Field(default=0, description="Pods that the load asks for.")
    selector: Annotated[str, Field(max_length=512)] = Field(default="", description="Labels of the pods.")
    phase: Annotated[str, Field(max_length=32)] = Field(default="", description="How it is, in one word.")
    lag: int | None = Field(default=None, description="Events that wait for its agent types.")
    load: int | None = Field(default=None, description="Lag, and the direct messages that wait or run.")
    last_scale_time: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="When the number last changed.", json_schema_extra={"format": "date-time"}
    )
    rejected_template: Annotated[str, Field(max_length=64)] = Field(
        default="", description="Hash of the pods that were taken back, which are not tried again."
    )


class AgentDeployment(Part):
    """Pods that serve agent types."""

    model_config = ruled(
        (
            "!(self.metadata.name in ['gateway', 'admin'])",
            "this name is the gateway's or the administrator's: their login would be that of the pods",
        ),
    )
    spec: AgentDeploymentSpec = Field(description="What is wanted.")
    status: AgentDeploymentStatus | None = Field(default=None, description="How it is.")
