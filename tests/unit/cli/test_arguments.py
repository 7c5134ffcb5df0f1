"""What is typed to name agents, times, and dead letters."""

from datetime import datetime

import pytest

from hivewire.cli.arguments import agent_id, agent_type, since
from hivewire.cli.dead_selection import One, filtered, selected
from hivewire.cli.errors import UsageError
from hivewire.model.ids import AgentId
from hivewire.nats.dead_letter_store import DeadLetterFilter

ALL = DeadLetterFilter()
SOME = DeadLetterFilter(agent_type="a")


@pytest.mark.parametrize(
    ("text", "before_now_s"), [("90s", 90), ("30m", 1_800), ("1h", 3_600), ("1.5h", 5_400), ("2d", 172_800), ("0s", 0)]
)
def test_a_duration_is_taken_off_the_present(text: str, before_now_s: float) -> None:
    assert since(text, now=1e9) == 1e9 - before_now_s


def test_a_time_is_local_unless_it_says_its_zone() -> None:
    assert since("2026-01-31T12:00:00Z", now=0) == since("2026-01-31T13:00:00+01:00", now=0) == 1769860800
    assert since("2026-01-31", now=0) == datetime(2026, 1, 31).timestamp()


@pytest.mark.parametrize("text", ["", "1", "h", "-1h", "1w", "yesterday", "1h30m", "2026-13-01", "\u0661h"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        since(text, now=0)


@pytest.mark.parametrize("text", ["", "a", "/k", "a b/k", "a/\ud800"])
def test_what_is_no_agent_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        agent_id(text)


@pytest.mark.parametrize("text", ["", "a/b", "a b", "*", "\ud800"])
def test_what_is_no_agent_type_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        agent_type(text)


def test_one_some_or_all_dead_letters_are_selected() -> None:
    assert selected("a/b/c", 7, ALL, everything=False) == One(agent=AgentId("a", "b/c"), sequence=7)
    assert selected(None, None, SOME, everything=False) == SOME
    assert selected(None, None, ALL, everything=True) == ALL


@pytest.mark.parametrize(
    ("agent", "sequence", "wanted", "everything", "says"),
    [
        (None, None, ALL, False, "or --all"),
        ("a/b", None, ALL, False, "SEQUENCE"),
        ("a/b", 7, SOME, False, "exclude"),
        ("a/b", 7, ALL, True, "exclude"),
        (None, None, SOME, True, "exclude"),
        ("a", 7, ALL, False, "expected type/key"),
    ],
)
def test_a_selection_that_says_too_little_or_too_much_is_refused(
    agent: str | None, sequence: int | None, wanted: DeadLetterFilter, everything: bool, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        selected(agent, sequence, wanted, everything=everything)


def test_a_key_may_be_empty_and_must_be_unicode() -> None:
    assert filtered(agent_type=None, key="", since=None, error=None).key == ""
    with pytest.raises(UsageError, match="--key"):
        filtered(agent_type=None, key="\ud800", since=None, error=None)
