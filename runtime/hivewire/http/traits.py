"""What the gateway has to know of an agent's class."""

from __future__ import annotations

from typing import Any

from hivewire.agents.concurrency import persists
from hivewire.agents.retries import RetryPolicy
from hivewire.agents.stateless import is_stateless_worker
from hivewire.http.frames import Header

__all__ = ["traits_of"]


def traits_of(agent_class: type[Any]) -> Header:
    """Return the traits of a class as JSON. Which errors are final is not among them: each error says so itself."""
    policy = getattr(agent_class, "retry_policy", None)
    traits: Header = {
        "persists": persists(agent_class),
        "stateless": is_stateless_worker(agent_class),
        "concurrency": getattr(agent_class, "concurrency", None),
        "shards": getattr(agent_class, "shards", None),
        "event_timeout": getattr(agent_class, "event_timeout", None),
    }
    if isinstance(policy, RetryPolicy):
        traits["retries"] = {
            name: getattr(policy, name) for name in ("attempts", "first_delay_s", "factor", "max_delay_s", "jitter")
        }
    return traits
