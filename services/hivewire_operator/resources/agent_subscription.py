"""`AgentSubscription`: a topic type whose events an agent type gets, beside what its code declares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hivewire_operator.resources.fields import AgentTypeName, Conditions, Part, Seconds, ruled

TopicType = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w\-\.\:\=]+$")]


class Delivery(Part):
    """How often, and when, an event that failed is handled again. Fields that are left out are as the class says."""

    model_config = ruled(
        (
            "!has(self.firstDelaySeconds) || !has(self.maxDelaySeconds)"
            " || self.firstDelaySeconds <= self.maxDelaySeconds",
            "firstDelaySeconds can't be longer than maxDelaySeconds",
        )
    )

    attempts: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None, description="Attempts in all, after which the event is given up."
    )
    first_delay_seconds: Seconds | None = Field(default=None, description="Time before the first retry.")
    max_delay_seconds: Seconds | None = Field(default=None, description="The longest time before a retry.")
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] | None = Field(
        default=None, description="How long one attempt may take."
    )
    dead_letters: Literal["Keep", "Drop"] = Field(
        default="Keep",
        description="What becomes of an event that is given up: it is kept among the dead letters, or only logged.",
    )


class AgentSubscriptionSpec(Part):
    """What is wanted."""

    model_config = ruled(
        ("has(self.topicType) != has(self.topicPrefix)", "give either topicType or topicPrefix"),
        (
            "has(self.topicType) == has(oldSelf.topicType)"
            " && (!has(self.topicType) || self.topicType == oldSelf.topicType)"
            " && (!has(self.topicPrefix) || self.topicPrefix == oldSelf.topicPrefix)",
            "the topic can't be changed: make another AgentSubscription",
        ),
    )
    agent_type: AgentTypeName = Field(
        description="The agent type that gets the events; the key of the agent is the source of the topic.",
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "agentType can't be changed: make another AgentSubscription"}
            ]
        },
    )
    topic_type: TopicType | None = Field(default=None, description="The topic type.")
    topic_prefix: TopicType | None = Field(default=None, description="What topic types begin with.")
    start: Literal["Now", "Beginning"] = Field(
        default="Now",
        description="Whether the agents get the events that come from now on, or first those that are still stored and"
        " that no other subscription brought them.",
        json_schema_extra={
            "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "start can't be changed afterwards"}]
        },
    )
    delivery: Delivery | None = Field(
        default=None, description="What holds for its events in place of what the agent's class says."
    )


class AgentSubscriptionStatus(Part):
    """How it is."""

    conditions: Conditions = Field(default=[], description="How the object is.")
    observed_generation: int = Field(default=0, description="The generation of the spec that this tells of.")


class AgentSubscription(Part):
    """A topic type whose events an agent type gets, beside what its code declares."""

    spec: AgentSubscriptionSpec = Field(description="What is wanted.")
    status: AgentSubscriptionStatus | None = Field(default=None, description="How it is.")
