"""Which dead letters a filter takes."""

import pytest

from hivewire.model.ids import AgentId
from hivewire.nats.dead_letter_store import DeadLetterFilter
from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.stored_messages import _headers
from hivewire.nats.subjects import Subjects

LETTER = DeadLetter(
    agent=AgentId("shop", "k"),
    sequence=3,
    stream="s",
    subject="n.events.0.0.k.orders",
    error="shop.errors.NoStock",
    message="",
    traceback="",
    attempts=1,
    instance="",
    session="",
    time=100.0,
    headers={},
    payload=b"",
)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (DeadLetterFilter(), True),
        (DeadLetterFilter(agent_type="shop", key="k", since=100.0, error="NoStock"), True),
        (DeadLetterFilter(error="shop.errors.NoStock"), True),
        (DeadLetterFilter(error="errors.NoStock"), True),
        (DeadLetterFilter(error="Stock"), False),
        (DeadLetterFilter(error="nostock"), False),
        (DeadLetterFilter(agent_type="sho"), False),
        (DeadLetterFilter(key=""), False),
        (DeadLetterFilter(since=100.1), False),
    ],
)
def test_a_filter_takes_what_fits_all_of_it(wanted: DeadLetterFilter, taken: bool) -> None:
    assert wanted.matches(LETTER) is taken


def test_the_wildcard_names_what_is_known() -> None:
    subjects = Subjects("n")
    assert subjects.dead_of() == subjects.dead_letters
    assert subjects.dead_of(key="a.b") == "n.dead.*.a=2Eb.*"
    assert subjects.dead_of("shop", "") == "n.dead.shop.=.*"


def test_a_header_block_is_read() -> None:
    assert _headers(b"NATS/1.0\r\nA: b:c \r\nEmpty:\r\n\r\n") == {"A": "b:c", "Empty": ""}
    assert _headers(b"") == {}
