"""How often, and when, an event that failed is handled again."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from hivewire.exceptions import CantHandleException, MessageTooLargeError, SerializationError
from hivewire.model.runtime import Agent

__all__ = ["RetryPolicy", "retry_policy_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """What an agent class does about events that its handlers fail on: class attribute `retry_policy`.

    The n-th retry comes after `first_delay_s * factor ** (n - 1)` seconds, at most `max_delay_s`, of which a random
    part, up to the share `jitter`, is taken off. After `attempts` in all, or at once for an error that is an instance
    of one in `final`, the event goes to the dead letters. Only the distributed runtime retries; direct messages are
    never retried, their callers get the error.

    Raises:
        ValueError: a number is out of its range.
    """

    attempts: int = 6
    first_delay_s: float = 0.25
    factor: float = 4.0
    max_delay_s: float = 60.0
    jitter: float = 0.5
    final: tuple[type[BaseException], ...] = (
        SerializationError,
        MessageTooLargeError,
        CantHandleException,
    )

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts={self.attempts}: an event is handled at least once")
        # Written so that what is not a number is refused too.
        if not (
            0 <= self.first_delay_s < math.inf and 0 <= self.max_delay_s < math.inf and 1 <= self.factor < math.inf
        ):
            raise ValueError("first_delay_s, max_delay_s and factor are finite, none negative, and factor not below 1")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter={self.jitter}: it is a share from 0 to 1")

    def delay_after(self, attempt: int, error: BaseException, *, chance: float | None = None) -> float | None:
        """Return the seconds until the next attempt; None: it was the last.

        `attempt` counts from 1. `chance`, from 0 to 1, stands for the random number.
        """
        if attempt >= self.attempts or isinstance(error, self.final):
            return None
        # Not the power of a large number, which overflows.
        delay = self.first_delay_s
        for _ in range(attempt - 1):
            if delay >= self.max_delay_s:
                break
            delay *= self.factor
        return min(delay, self.max_delay_s) * (1 - self.jitter * (random.random() if chance is None else chance))


_DEFAULT = RetryPolicy()


def retry_policy_of(agent: type | Agent | None) -> RetryPolicy:
    """Return the policy of an agent or an agent class.

    Raises:
        TypeError: its attribute `retry_policy` is something else.
    """
    policy = getattr(agent, "retry_policy", None)
    if policy is None:
        return _DEFAULT
    if not isinstance(policy, RetryPolicy):
        raise TypeError(f"The attribute `retry_policy` of an agent class must be a RetryPolicy, not {policy!r}")
    return policy
