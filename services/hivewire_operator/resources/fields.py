"""What the fields of several resources have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "hivewire.dev"
VERSION = "v1alpha1"
SECRET_PREFIX = "hivewire-"
"""Secrets named so are the operator's own: nobody else may mount them."""


class Part(BaseModel):
    """A part of a resource, named in camel case as everything in Kubernetes. What is unknown is left to the API
    server, which prunes it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Return what puts CEL rules beside a model's schema: pairs of a rule and of what to say when it does not hold."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


def ruled(*pairs: tuple[str, str]) -> ConfigDict:
    """Return the configuration of a model whose instances keep to CEL rules."""
    return ConfigDict(json_schema_extra=rules(*pairs))


def list_map(*keys: str) -> dict[str, Any]:
    """Return what makes a list one whose items are known by their keys: unique, and merged one by one."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A name of an object in Kubernetes, as far as it is a label too (RFC 1123)."""

AgentTypeName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]

Seconds = Annotated[int, Field(ge=0, le=86_400)]


class SecretKey(Part):
    """One key of a Secret in the same namespace."""

    model_config = ruled(
        (f"!self.name.startsWith('{SECRET_PREFIX}')", f"Secrets named {SECRET_PREFIX}* belong to the operator")
    )
    name: Name = Field(description="Name of the Secret.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key of its data.")
    optional: bool = Field(default=False, description="Whether the pod starts without it.")


class ConfigMapKey(Part):
    """One key of a ConfigMap in the same namespace."""

    name: Name = Field(description="Name of the ConfigMap.")
    key: Annotated[str, Field(min_length=1, max_length=253)] = Field(description="Key of its data.")
    optional: bool = Field(default=False, description="Whether the pod starts without it.")


class Condition(Part):
    """One aspect of how an object is."""

    type: Annotated[str, Field(max_length=64)] = Field(description="What this tells of, such as Ready.")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$")] = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=128)] = Field(description="Why, in one word for programs.")
    message: Annotated[str, Field(max_length=4096)] = Field(description="Why, for people.")
    last_transition_time: Annotated[str, Field(max_length=32)] = Field(
        description="When the status last changed.", json_schema_extra={"format": "date-time"}
    )
    observed_generation: int = Field(default=0, description="The generation of the spec that it tells of.")


Conditions = Annotated[list[Condition], Field(max_length=16, json_schema_extra=list_map("type"))]
