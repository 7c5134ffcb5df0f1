"""How events that come by one subscription are delivered, where this is said outside of the agent's code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from hivewire.agents.retries import RetryPolicy
from hivewire.nats.topic_filters import TopicFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """What holds for the events of a subscription in place of what the agent's class says. None: as the class says.

    `attempts`, `first_delay_s` and `max_delay_s` are those of `RetryPolicy`, `timeout_s` is the class's
    `event_timeout`. `dead_letters` False: an event whose attempts are used up is logged and forgotten.

    Raises:
        ValueError: a number is out of its range.
    """

    attempts: int | None = None
    first_delay_s: float | None = None
    max_delay_s: float | None = None
    timeout_s: float | None = None
    dead_letters: bool = True

    def __post_init__(self) -> None:
        if self.attempts is not None and self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: an event is handled at least once")
        for name, delay in (("first_delay_s", self.first_delay_s), ("max_delay_s", self.max_delay_s)):
            if delay is not None and not 0 <= delay < math.inf:
                raise ValueError(f"{name}={delay}: a delay is finite and not negative")
        if self.first_delay_s is not None and self.max_delay_s is not None and self.first_delay_s > self.max_delay_s:
            raise ValueError(f"first_delay_s={self.first_delay_s} is longer than max_delay_s={self.max_delay_s}")
        if self.timeout_s is not None and not 0 < self.timeout_s < math.inf:
            raise ValueError(f"timeout_s={self.timeout_s}: an attempt takes some time, and not forever")

    def retries(self, of_class: RetryPolicy) -> RetryPolicy:
        """Return the policy of the agent's class with what is said here."""
        said = {"attempts": self.attempts, "first_delay_s": self.first_delay_s, "max_delay_s": self.max_delay_s}
        changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        return replace(of_class, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return it as the registry keeps it, without what is left to the class."""
        said = {name: value for name, value in asdict(self).items() if value is not None}
        if self.dead_letters:
            del said["dead_letters"]
        return said

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DeliveryPolicy:
        """Read what `to_json` returned; members that are unknown here are left out.

        Raises:
            ValueError, TypeError, AttributeError: it is not such a policy.
        """
        return cls(
            attempts=data.get("attempts"),
            first_delay_s=data.get("first_delay_s"),
            max_delay_s=data.get("max_delay_s"),
            timeout_s=data.get("timeout_s"),
            dead_letters=bool(data.get("dead_letters", True)),
        )


Deliveries = tuple[tuple[TopicFilter, DeliveryPolicy], ...]
"""The policies of a type, the most specific filter first: exact ones, then prefixes from the longest."""


def ordered(deliveries: Iterable[tuple[TopicFilter, DeliveryPolicy]]) -> Deliveries:
    return tuple(sorted(deliveries, key=lambda each: (each[0].kind, -len(each[0].value), each[0].value)))


def with_delivery(deliveries: Deliveries, topics: TopicFilter, policy: DeliveryPolicy | None) -> Deliveries:
    """Put a policy in the place of the one that the filter has; None: it has none any more."""
    others = [each for each in deliveries if each[0] != topics]
    return ordered(others if policy is None else [*others, (topics, policy)])


def delivery_of(deliveries: Deliveries, topic_type: str) -> DeliveryPolicy | None:
    """Return the policy of the most specific filter that matches."""
    return next((policy for topics, policy in deliveries if topics.matches(topic_type)), None)
