"""Dead letters: the message as it was, and the story of its failure in one header."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.exceptions import MessageTooLargeError, UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.nats.broker import JetStreamError
from hivewire.nats.dead_letters import (
    LINEAGE_HEADER,
    STORY_HEADER,
    TRACEBACK_CHARS,
    DeadLetter,
    describe,
    store_dead_letter,
)
from hivewire.nats.subjects import Subjects

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
letters = st.builds(
    DeadLetter,
    agent=st.builds(AgentId, st.sampled_from(["worker", "my.type"]), texts),
    sequence=st.integers(1, 1 << 62),
    stream=texts,
    subject=texts,
    error=texts,
    message=texts,
    traceback=texts,
    attempts=st.integers(1, 100),
    instance=texts,
    session=texts,
    time=st.floats(0, 1e10),
    headers=st.dictionaries(st.sampled_from(["ce-id", "ce-type", LINEAGE_HEADER, "X-Own"]), texts),
    payload=st.binary(max_size=20),
)
LETTER = DeadLetter(
    agent=AgentId("worker", "k"),
    sequence=42,
    stream="S",
    subject="default.events.1.193.k.task",
    error="ValueError",
    message="boom",
    traceback="Traceback\n",
    attempts=6,
    instance="host-1",
    session="s1",
    time=1.5,
    headers={"ce-id": "m1"},
    payload=b"{}",
)


@given(letters)
def test_a_dead_letter_comes_back_as_it_was(letter: DeadLetter) -> None:
    headers = letter.encode()
    assert headers[STORY_HEADER].isascii()
    assert headers[STORY_HEADER].isprintable()
    assert DeadLetter.decode(headers, letter.payload) == letter


def test_what_the_broker_put_into_the_headers_does_not_stay() -> None:
    letter = replace(LETTER, headers={"Nats-Msg-Id": "x", "nats-time-stamp": "t", "ce-id": "m1"})
    assert letter.encode().keys() == {"ce-id", STORY_HEADER}
    stored = {**letter.encode(), "Nats-Expected-Last-Subject-Sequence": "0"}
    assert DeadLetter.decode(stored, b"{}") == LETTER


def test_a_replay_tells_where_the_message_has_been() -> None:
    assert LETTER.replay() == {"ce-id": "m1", LINEAGE_HEADER: "42"}
    again = replace(LETTER, headers=LETTER.replay(), sequence=99)
    assert again.replay() == {"ce-id": "m1", LINEAGE_HEADER: "42,99"}


def test_the_end_of_a_long_traceback_is_kept() -> None:
    letter = replace(LETTER, traceback="x" * TRACEBACK_CHARS + "the end", message="m" * 5_000)
    stored = DeadLetter.decode(letter.encode(), b"")
    assert stored.traceback.endswith("the end")
    assert len(stored.traceback) == TRACEBACK_CHARS
    assert len(stored.message) == 2_000
    least = DeadLetter.decode(letter.encode(traceback_chars=0), b"")
    assert (least.traceback, len(least.message)) == ("", 200)


def test_a_dead_letter_of_a_newer_format_is_refused() -> None:
    headers = {STORY_HEADER: LETTER.encode()[STORY_HEADER].replace("%22format%22:1", "%22format%22:2")}
    with pytest.raises(UnsupportedFormatError, match="a dead letter has format 2"):
        DeadLetter.decode(headers, b"")


@pytest.mark.parametrize("headers", [{}, {STORY_HEADER: ""}, {STORY_HEADER: "[]"}, {STORY_HEADER: "{}"}])
def test_what_is_no_dead_letter_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        DeadLetter.decode(headers, b"")


def test_an_error_is_described_by_its_class_its_text_and_its_traceback() -> None:
    try:
        raise ValueError("boom")
    except ValueError as error:
        name, message, text = describe(error)
    assert (name, message) == ("ValueError", "boom")
    assert "test_dead_letters.py" in text
    assert describe(MessageTooLargeError("x"))[0] == "hivewire.exceptions.MessageTooLargeError"


class Broker:
    """Refuses what it is told to, then takes it."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.stored: list[tuple[str, dict[str, str]]] = []

    async def store(self, subject: str, payload: bytes, *, headers: dict[str, str], timeout: float) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.stored.append((subject, headers))


async def stored_by(broker: Any, letter: DeadLetter) -> DeadLetter:
    await store_dead_letter(broker, Subjects("default"), letter)
    [(subject, headers)] = broker.stored
    assert subject == "default.dead.worker.k.42"
    assert headers["Nats-Expected-Last-Subject-Sequence"] == "0"
    return DeadLetter.decode(headers, letter.payload)


async def test_the_story_gives_way_to_the_message() -> None:
    letter = replace(LETTER, traceback="t" * 5_000)
    assert await stored_by(Broker(), letter) == letter
    # The server takes 64 KiB of headers, whatever the payload.
    for error in (MessageTooLargeError("x"), JetStreamError(10097, "header size exceeds maximum allowed of 64k")):
        assert len((await stored_by(Broker(error), letter)).traceback) == 1_000
        assert (await stored_by(Broker(error, error), letter)).traceback == ""
        with pytest.raises(type(error)):
            await stored_by(Broker(error, error, error), letter)


async def test_one_that_is_stored_already_is_left_as_it_is() -> None:
    broker: Any = Broker(JetStreamError(10071, "wrong last sequence"))
    await store_dead_letter(broker, Subjects("default"), LETTER)
    assert broker.stored == []
    with pytest.raises(JetStreamError):
        await stored_by(Broker(JetStreamError(10077, "maximum messages exceeded")), LETTER)
