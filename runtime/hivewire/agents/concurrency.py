"""Whether the handlers of one agent may overlap.

State that is loaded before and saved after a message can only be right when one message is handled at a time. An agent
that keeps nothing gains from handling several.
"""

from __future__ import annotations

from typing import Literal

from hivewire.agents.base import BaseAgent
from hivewire.model.runtime import Agent

__all__ = ["Concurrency", "checked_concurrency", "is_serial", "persists"]

Concurrency = Literal["serial", "interleaved"]


def persists(agent: type | Agent) -> bool:
    """Whether an agent, or an agent class, keeps state: whether it has a `save_state` of its own."""
    cls = agent if isinstance(agent, type) else type(agent)
    save_state = getattr(cls, "save_state", None)
    return save_state is not None and save_state not in (BaseAgent.save_state, Agent.save_state)


def is_serial(agent: type | Agent, option: Concurrency | None, *, default_persisting: bool) -> bool:
    """Whether an agent takes one turn at a time.

    Its class attribute `concurrency` decides, else the runtime's option, else, where `default_persisting`, whether it
    keeps state.

    Raises:
        ValueError: the class attribute has another value than `"serial"`, `"interleaved"` or None.
    """
    declared = checked_concurrency(getattr(agent, "concurrency", None), "attribute `concurrency` of an agent class")
    chosen = declared or option
    if chosen is None:
        return default_persisting and persists(agent)
    return chosen == "serial"


def checked_concurrency(value: object, what: str) -> Concurrency | None:
    """Return the value if it is one that the concurrency of agents can have.

    Raises:
        ValueError: it is none.
    """
    if value is None:
        return None
    if value == "serial":
        return "serial"
    if value == "interleaved":
        return "interleaved"
    raise ValueError(f"The {what} must be 'serial', 'interleaved' or None, not {value!r}")
