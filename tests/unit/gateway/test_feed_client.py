"""One client of the feed: each event once, in order, and no more than may wait."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire import TopicId
from hivewire.relay import PassedEvent, TopicFilter
from hivewire_gateway.event_documents import EventPosition
from hivewire_gateway.feed_client import FeedClient
from hivewire_gateway.out_settings import EventStreamSettings
from hivewire_gateway.outlets import Outlet

SETTINGS = EventStreamSettings(max_waiting_events=16, max_waiting_bytes=1_000)


def new_client(kind="exact", value="a", sources=()):
    return FeedClient(Outlet(), TopicFilter(kind=kind, value=value), frozenset(sources), SETTINGS)


def an_event(topic_type, source):
    topic = TopicId(topic_type, source)
    return PassedEvent(
        sequence=1, stored_at=datetime.now(UTC), topic=topic, attributes={}, content_type="application/json", data=b"1"
    )


def pieces(client):
    return client.outlet.take(10_000).decode()


def test_a_client_wants_what_its_filters_say():
    assert new_client().wants(an_event("a", "x"))
    assert not new_client().wants(an_event("ab", "x"))
    assert new_client("prefix", "a").wants(an_event("ab", "x"))
    assert new_client(sources=["x", "y"]).wants(an_event("a", "y"))
    assert not new_client(sources=["x", "y"]).wants(an_event("a", "z"))


async def test_what_comes_while_the_past_is_read_is_held_back_and_nothing_comes_twice():
    client = new_client()
    client.begin_in("f" * 12, 2)
    assert "event: begin\nid: ffffffffffff-2" in pieces(client)
    client.hold()
    client.take(4, b"[4]")
    client.take(5, b"[5]")
    client.hand_on(3, b"[3]")
    client.hand_on(4, b"[4]")
    assert client.release()
    client.take(5, b"[5]")
    client.take(6, b"[6]")
    assert pieces(client) == "[3][4][5][6]"
    assert client.after == 6


async def test_too_much_that_is_held_back_is_read_from_the_stream():
    client = new_client()
    client.hold()
    for sequence in range(1, 100):
        client.take(sequence, b"x")
    assert not client.release()
    assert client.outlet.waiting == 0
    # It is tried again, with another target.
    client.hold()
    assert client.release()


async def test_a_client_for_which_too_much_waits_is_cut_off():
    client = new_client()
    client.release()
    for sequence in range(1, 18):
        client.take(sequence, b"x")
    assert client.outlet.ended
    assert client.outlet.waiting == 0


async def test_large_events_cut_off_only_who_does_not_keep_up():
    client = new_client()
    client.release()
    client.take(1, b"x" * 600)
    client.take(2, b"x" * 600)
    assert not client.outlet.ended
    assert client.room(100) <= 0
    client.outlet.since -= 10
    assert not client.keeps_up
    client.take(3, b"x" * 600)
    assert client.outlet.ended


async def test_another_stream_is_told_and_read_from_its_begin():
    client = new_client()
    client.begin_in("a" * 12, 7)
    client.hold()
    client.take(8, b"[old]")
    client.restart_in("b" * 12)
    client.take(1, b"[new]")
    assert client.release()
    text = pieces(client)
    assert "event: reset\nid: bbbbbbbbbbbb-0\n" in text
    assert text.endswith("[new]")
    assert "[old]" not in text
    assert client.restarts == 1


@given(st.from_regex(r"[0-9a-f]{12}", fullmatch=True), st.integers(0, 10**18 - 1))
def test_a_position_is_read_as_it_was_written(stream, sequence):
    position = EventPosition(stream=stream, sequence=sequence)
    assert EventPosition.from_str(str(position)) == position


@pytest.mark.parametrize(
    "text", ["", "1", "abc-1", "0123456789ab", "0123456789AB-1", "0123456789ab--1", "0123456789ab-1\n"]
)
def test_what_is_no_position_is_refused(text):
    with pytest.raises(ValueError, match="is not the id of an event"):
        EventPosition.from_str(text)
