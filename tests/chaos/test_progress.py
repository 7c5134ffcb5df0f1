"""The longest time without progress, as the report tells it."""

import pytest

from chaos.model import Handled, Sent
from chaos.progress import longest_gap_s


def sent(id: str, begun_s: float) -> Sent:
    return Sent(id=id, key=id[0], kind="event", begun_s=begun_s, deadline_s=begun_s + 30)


def handled(id: str, at_s: float) -> Handled:
    return Handled(id=id, key=id[0], at_s=at_s)


def gap(messages: list[tuple[str, float, float]]) -> float:
    return longest_gap_s(
        [sent(id, begun_s) for id, begun_s, _ in messages],
        [handled(id, at_s) for id, _, at_s in messages],
        part_of=lambda key: key,
    )


def test_a_shard_with_nothing_to_do_does_not_stand_still() -> None:
    assert gap([("a1", 0, 0.5), ("a2", 100, 100.5)]) == 0.5


def test_a_shard_that_finishes_nothing_while_something_waits_stands_still() -> None:
    assert gap([("a1", 0, 1), ("a2", 2, 9), ("a3", 8, 9.5)]) == 7


def test_a_message_that_waits_behind_others_does_not_stand_still_while_they_are_finished() -> None:
    assert gap([("a1", 0, 1), ("a2", 0, 2), ("a3", 0, 3)]) == 1


def test_what_is_overtaken_waits_too() -> None:
    # The one that was sent first comes last: from 2 to 9 it alone waits.
    assert gap([("a1", 0, 9), ("a2", 1, 2), ("a3", 8.5, 8.8)]) == pytest.approx(6.8)


def test_one_shard_that_works_does_not_hide_another_that_stands_still() -> None:
    assert gap([("a1", 0, 5), ("b1", 0, 1), ("b2", 0, 2), ("b3", 0, 3)]) == 5


def test_nothing_handled_is_no_gap() -> None:
    assert gap([]) == 0


def test_what_was_not_asked_for_is_no_progress() -> None:
    # A call was handled in between, which says nothing about the events.
    turns = [handled("a1", 1), handled("a2", 5), handled("a3", 9)]
    assert longest_gap_s([sent("a1", 0), sent("a3", 1)], turns, part_of=lambda key: key) == 8
