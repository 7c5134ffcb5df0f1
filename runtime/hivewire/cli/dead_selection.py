"""Which dead letters a command is about: one, those that filters select, or all."""

from __future__ import annotations

import time
from dataclasses import dataclass

from hivewire.cli import arguments
from hivewire.cli.errors import UsageError
from hivewire.model.ids import AgentId
from hivewire.nats.dead_letter_store import DeadLetterFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class One:
    """The dead letter of one agent and one message."""

    agent: AgentId
    sequence: int


def filtered(*, agent_type: str | None, key: str | None, since: str | None, error: str | None) -> DeadLetterFilter:
    """Read the filters as they were typed.

    Raises:
        UsageError: one of them is malformed.
    """
    try:
        (key or "").encode()
    except ValueError:
        raise UsageError(f"--key {key!a} is not valid Unicode") from None
    return DeadLetterFilter(
        agent_type=None if agent_type is None else arguments.agent_type(agent_type),
        key=key,
        since=None if since is None else arguments.since(since, now=time.time()),
        error=error,
    )


def selected(
    agent: str | None, sequence: int | None, wanted: DeadLetterFilter, *, everything: bool
) -> One | DeadLetterFilter:
    """Return what is to be changed: exactly one of the three ways to say it must have been typed.

    Raises:
        UsageError: none was, or more than one, or the agent is malformed.
    """
    filters = wanted != DeadLetterFilter()
    if agent is not None and sequence is None:
        raise UsageError(f"which dead letter of {agent}? Give its SEQUENCE too, or --type and --key for all")
    if (agent is not None) + filters + everything > 1:
        raise UsageError("TYPE/KEY SEQUENCE, filters, and --all exclude each other")
    if agent is not None and sequence is not None:
        return One(agent=arguments.agent_id(agent), sequence=sequence)
    if not filters and not everything:
        raise UsageError("which dead letters? Give TYPE/KEY SEQUENCE, or filters such as --type, or --all")
    return wanted
