"""The agent types that are served somewhere, as the registry is to have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from hivewire.provisioning import TypeShape
from hivewire_operator.resources.fields import AgentTypeName, Part, ruled


class AgentType(Part):
    """An agent type, and how it is spread over those that serve it."""

    model_config = ruled(
        ("self.stateless == oldSelf.stateless", "stateless can't be changed: use another agent type"),
        ("self.shards == oldSelf.shards", "shards can't be changed: use another agent type"),
    )
    name: AgentTypeName = Field(description="The name under which the code registers it.")
    shards: Literal[1, 2, 4, 8, 16, 32, 64, 128, 256] = Field(
        default=16, description="Shares of its keys, of which a pod serves some: at most so many pods have work."
    )
    stateless: bool = Field(default=False, description="Whether any pod handles any message (@stateless_worker).")


def shapes_of(types: Iterable[AgentType]) -> dict[str, TypeShape]:
    """Return them as the registry has them."""
    return {
        each.name: TypeShape(kind="stateless", shards=1) if each.stateless else TypeShape(shards=each.shards)
        for each in types
    }
