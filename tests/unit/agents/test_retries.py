"""When an event that failed is handled again."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.agents.base import BaseAgent
from hivewire.agents.retries import RetryPolicy, retry_policy_of
from hivewire.exceptions import SerializationError

seconds = st.floats(0, 1e9)
policies = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 50),
    first_delay_s=seconds,
    factor=st.floats(1, 1e9),
    max_delay_s=seconds,
    jitter=st.floats(0, 1),
)
chances = st.floats(0, 1)


def delays(policy: RetryPolicy, chance: float | None = None) -> list[float]:
    found = []
    for attempt in range(1, policy.attempts + 10):
        delay = policy.delay_after(attempt, ValueError(), chance=chance)
        if delay is not None:
            found.append(delay)
    return found


@given(policies)
def test_an_event_is_handled_as_often_as_the_policy_says(policy: RetryPolicy) -> None:
    assert len(delays(policy)) == policy.attempts - 1
    assert policy.delay_after(policy.attempts, ValueError()) is None


@given(policies, chances)
def test_a_delay_is_within_its_bounds(policy: RetryPolicy, chance: float) -> None:
    for longest, delay, any_delay in zip(delays(policy, 0), delays(policy, chance), delays(policy), strict=True):
        assert 0 <= longest <= policy.max_delay_s
        for each in (delay, any_delay):
            assert longest * (1 - policy.jitter) * (1 - 1e-9) <= each <= longest


@given(policies)
def test_delays_grow_up_to_the_cap_and_stay_there(policy: RetryPolicy) -> None:
    found = delays(policy, 0)
    for earlier, later in pairwise(found):
        assert later == min(earlier * policy.factor, policy.max_delay_s)
    if found:
        assert found[0] == min(policy.first_delay_s, policy.max_delay_s)


def test_an_enormous_number_of_attempts_overflows_nothing() -> None:
    policy = RetryPolicy(attempts=10**6, factor=10.0)
    assert policy.delay_after(10**6 - 1, ValueError(), chance=0) == policy.max_delay_s


class Refused(Exception):
    pass


class RefusedForGood(Refused):
    pass


@given(st.integers(1, 100))
def test_an_error_that_is_final_is_not_retried(attempt: int) -> None:
    policy = RetryPolicy(attempts=1000, final=(Refused,))
    assert policy.delay_after(attempt, Refused()) is None
    assert policy.delay_after(attempt, RefusedForGood()) is None
    assert policy.delay_after(attempt, SerializationError("x")) is not None
    assert RetryPolicy().delay_after(attempt, SerializationError("x")) is None


@pytest.mark.parametrize(
    "numbers",
    [
        {"attempts": 0},
        {"first_delay_s": -1},
        {"max_delay_s": -0.1},
        {"factor": 0.5},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"first_delay_s": float("nan")},
        {"factor": float("nan")},
        {"max_delay_s": float("inf")},
        {"jitter": float("nan")},
    ],
)
def test_a_number_out_of_its_range_is_refused(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(numbers))):
        RetryPolicy(**numbers)  # type: ignore[arg-type]


def test_an_agent_class_says_its_policy() -> None:
    class Patient(BaseAgent):
        retry_policy = RetryPolicy(attempts=100)

    class Wrong(BaseAgent):
        retry_policy = 5

    assert retry_policy_of(Patient).attempts == 100
    assert retry_policy_of(BaseAgent) == retry_policy_of(None) == RetryPolicy()
    with pytest.raises(TypeError, match="must be a RetryPolicy, not 5"):
        retry_policy_of(Wrong)
