"""What a soak makes of its numbers."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

import pytest
from soak.agents import Counted
from soak.load import Accepted
from soak.verdict import compare, miscounts


def samples(*values: float, name: str = "tasks") -> list[dict[str, float]]:
    return [{name: value} for value in values]


def accepted(**fields: Any) -> Accepted:
    known: dict[str, Any] = {"events": Tally(a=3), "doomed": 1, "answered": Tally(a=2), "unanswered": Tally(a=1)}
    return Accepted(**{**known, **fields})


def test_the_first_quarter_after_the_warm_up_is_compared_with_the_last_one() -> None:
    (tasks,) = compare("worker", samples(900, 900, 900, 10, 12, 99, 99, 99, 11, 13), sampled_s=100)
    assert (tasks.first, tasks.last, tasks.is_flat) == (10, 13, True)


@pytest.mark.parametrize(("seconds", "first"), [(100.0, 30), (600.0, 30), (1800.0, 10)])
def test_the_warm_up_is_a_share_of_the_run_and_at_most_three_minutes(seconds: float, first: float) -> None:
    (tasks,) = compare("worker", samples(*(float(number) for number in range(100))), sampled_s=seconds)
    assert first <= tasks.first <= first + 25


def test_what_grew_is_not_flat() -> None:
    (tasks,) = compare("worker", samples(*(number * 10.0 for number in range(40))), sampled_s=1200)
    assert not tasks.is_flat


def test_what_is_not_named_may_not_grow_at_all() -> None:
    (keys,) = compare("broker", samples(*[200.0] * 20, *[201.0] * 20, name="keys of state"), sampled_s=1200)
    assert (keys.limit, keys.is_flat) == (200.0, False)


def test_too_few_samples_are_an_error() -> None:
    with pytest.raises(ValueError, match="too few"):
        compare("worker", samples(1, 1, 1), sampled_s=30)


def test_nothing_is_wrong_when_the_counters_show_what_was_accepted() -> None:
    assert miscounts(accepted(), {"a": Counted(events=3, calls=2)}, dead_letters=1) == []
    assert miscounts(accepted(), {"a": Counted(events=3, calls=3)}, dead_letters=1) == []


@pytest.mark.parametrize(
    ("counted", "dead_letters", "said"),
    [
        (Counted(events=2, calls=2), 1, "a: 2 events counted, 3 published"),
        (Counted(events=4, calls=2), 1, "a: 4 events counted, 3 published"),
        (Counted(events=3, calls=1), 1, "a: 1 calls counted, 2 answered of 3"),
        (Counted(events=3, calls=4), 1, "a: 4 calls counted, 2 answered of 3"),
        (Counted(events=3, calls=2), 0, "0 dead letters of 1 events that always fail"),
        (Counted(events=3, calls=2), 2, "2 dead letters of 1 events that always fail"),
    ],
)
def test_too_few_and_too_many_are_wrong(counted: Counted, dead_letters: int, said: str) -> None:
    assert miscounts(accepted(), {"a": counted}, dead_letters=dead_letters) == [said]
