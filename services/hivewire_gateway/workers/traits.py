"""What a worker tells of an agent's class."""

from __future__ import annotations

from typing import Any

from hivewire.relay import AgentTraits, RemoteRetries, wire

__all__ = ["read_traits"]


def read_traits(header: object) -> AgentTraits:
    """Read the traits of a class.

    Raises:
        ValueError: they are none, or a number is none, or out of its range.
    """
    if not isinstance(header, dict):
        raise ValueError(f"not the traits of a class: {header!r:.80}")
    concurrency = header.get("concurrency")
    shards = header.get("shards")
    if shards is not None and not isinstance(shards, int):
        raise ValueError(f"'shards' is to be a whole number, and not {shards!r:.80}")
    return AgentTraits(
        persists=bool(header.get("persists")),
        is_stateless=bool(header.get("stateless")),
        concurrency=concurrency if concurrency in ("serial", "interleaved") else None,
        shards=shards,
        event_timeout_s=wire.seconds_of(header, "event_timeout"),
        retries=_retries_of(header.get("retries")),
    )


def _retries_of(value: object) -> RemoteRetries:
    if not isinstance(value, dict):
        return RemoteRetries()
    numbers = {name: wire.seconds_of(value, name) for name in ("first_delay_s", "factor", "max_delay_s", "jitter")}
    attempts = value.get("attempts")
    given: dict[str, Any] = {name: number for name, number in numbers.items() if number is not None}
    if isinstance(attempts, int):
        given["attempts"] = attempts
    return RemoteRetries(**given)
