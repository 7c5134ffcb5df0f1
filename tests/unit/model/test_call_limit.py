"""How long calls may take within calls: a tree of deadlines and tokens."""

import math
from asyncio import Future
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.model import grace
from hivewire.model.call_limit import CallLimit, limit_of
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


def test_a_call_follows_its_own_token_and_the_turn_around_it() -> None:
    own, around = CancellationToken(), CancellationToken()
    turn = TurnContext("t", (), token=around)
    assert limit_of(5, own, turn, 0) == CallLimit(seconds=5, token=own, turn=turn)
    assert limit_of(5, around, turn, 0) == CallLimit(seconds=5, turn=turn)
    assert limit_of(5, None, turn, 0) == CallLimit(seconds=5, turn=turn)
    assert limit_of(5, own, None, 0) == CallLimit(seconds=5, token=own)


def test_the_first_call_after_the_turn_was_cancelled_tells_of_it_and_later_ones_clean_up() -> None:
    turn = TurnContext("t", ())
    turn.token.cancel()
    assert limit_of(60, None, turn, 0).is_cancelled
    assert limit_of(60, None, turn, 1) == CallLimit(seconds=grace.GRACE_S, inherited=True)
    assert limit_of(60, None, turn, 3) == CallLimit(seconds=grace.GRACE_S - 2, inherited=True)
    assert limit_of(0.5, None, turn, 3) == CallLimit(seconds=0.5)


def test_the_first_call_after_the_deadline_of_its_turn_tells_of_it_too() -> None:
    turn = TurnContext("t", (), deadline=9)
    limit = limit_of(60, None, turn, 10)
    assert limit.seconds < 0
    limit.pass_by()
    assert turn.token.is_cancelled
    assert limit_of(60, None, turn, 10) == CallLimit(seconds=grace.GRACE_S, inherited=True)


@pytest.mark.parametrize(
    "notice",
    [
        lambda token: token.is_cancelled(),
        lambda token: token.add_callback(lambda: None),
        lambda token: token.link_future(Future()),
    ],
    ids=["asking", "callback", "future"],
)
async def test_a_handler_that_learned_from_its_token_may_clean_up_at_once(
    notice: Callable[[CancellationToken], object],
) -> None:
    turn = TurnContext("t", ())
    turn.token.cancel()
    notice(turn.token)
    assert not limit_of(60, None, turn, 0).is_cancelled


def test_cleaning_up_ends_with_the_turn_and_with_a_token_of_its_own() -> None:
    own, turn = CancellationToken(), TurnContext("t", (), ends_at=7)
    turn.token.cancel()
    assert turn.token.is_cancelled
    assert limit_of(60, own, turn, 5) == CallLimit(seconds=2, token=own, inherited=True)


def test_tasks_that_outlive_their_turn_are_not_bound_by_it() -> None:
    around = CancellationToken()
    turn = TurnContext("t", (), deadline=3, token=around, ended=True)
    assert limit_of(60, None, turn, 10) == CallLimit(seconds=60)


def test_the_text_says_whose_time_it_is() -> None:
    assert str(CallLimit(seconds=5)) == "its timeout of 5 s"
    assert str(limit_of(60, None, TurnContext("t", (), deadline=2), 0)) == (
        "the 2 s that were left of the turn that it is part of"
    )
