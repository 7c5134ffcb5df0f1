"""How long calls may take within calls: a tree of deadlines and tokens."""

import math

from hypothesis import given
from hypothesis import strategies as st

from hivewire.model.call_limit import GRACE_S, CallLimit, limit_of
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import TurnContext


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 10)), min_size=1, max_size=8))
def test_no_call_of_a_tree_ends_later_than_any_call_above_it(calls: list[tuple[int, int]]) -> None:
    now, turn, latest = 0.0, None, math.inf
    for timeout, elapsed in calls:
        now += elapsed
        limit = limit_of(timeout, None, turn, now)
        assert limit.seconds <= timeout
        assert now + limit.seconds <= latest
        assert limit.inherited == (now + timeout > latest)
        latest = min(latest, now + limit.seconds)
        turn = TurnContext("t", (), deadline=latest)


def test_a_call_follows_its_own_token_and_that_of_the_turn_around_it() -> None:
    own, around = CancellationToken(), CancellationToken()
    turn = TurnContext("t", (), token=around)
    assert limit_of(5, own, turn, 0).tokens == (own, around)
    assert limit_of(5, around, turn, 0).tokens == (around,)
    assert limit_of(5, None, turn, 0).tokens == (around,)
    assert limit_of(5, own, None, 0).tokens == (own,)


def test_a_call_that_cleans_up_after_a_cancelled_turn_has_little_time_and_is_not_cancelled() -> None:
    around = CancellationToken()
    around.cancel()
    turn = TurnContext("t", (), deadline=-100, token=around)
    assert limit_of(60, None, turn, 0) == CallLimit(seconds=GRACE_S, inherited=True)


def test_tasks_that_outlive_their_turn_are_not_bound_by_it() -> None:
    around = CancellationToken()
    turn = TurnContext("t", (), deadline=3, token=around, ended=True)
    assert limit_of(60, None, turn, 10) == CallLimit(seconds=60)


def test_the_text_says_whose_time_it_is() -> None:
    assert str(CallLimit(seconds=5)) == "its timeout of 5 s"
    assert str(limit_of(60, None, TurnContext("t", (), deadline=2), 0)) == (
        "the 2 s that were left of the message that it was sent for"
    )
