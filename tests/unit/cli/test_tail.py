"""Events as lines and as JSON."""

import json
from datetime import UTC, datetime

import pytest

from hivewire.cli.errors import UsageError
from hivewire.cli.tail import SeenEvent, event_as_json, event_as_line, topic_filter
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import EventEnvelope
from hivewire.nats.topic_filters import TopicFilter

NOON = datetime(2026, 1, 2, 12, 0, 0, 345_678, UTC)


def seen(**fields: object) -> SeenEvent:
    values: dict[str, object] = {
        "topic": TopicId("news", "ada"),
        "message_id": "m-1",
        "type_name": "Text",
        "payload": b'{"x":1}',
        **fields,
    }
    return SeenEvent(sequence=7, stored_at=NOON, envelope=EventEnvelope(**values))  # type: ignore[arg-type]


def test_a_line_tells_time_topic_source_type_and_payload() -> None:
    time = NOON.astimezone().strftime("%H:%M:%S")
    assert event_as_line(seen(), 200) == f'{time}.345 news/ada Text {{"x":1}}'


def test_a_line_names_the_sender_if_there_is_one() -> None:
    assert "news/ada from worker/k Text" in event_as_line(seen(sender=AgentId("worker", "k")), 200)


def test_a_long_line_is_shortened_to_the_width() -> None:
    line = event_as_line(seen(payload=json.dumps("x" * 500).encode()), 80)
    assert len(line) == 80 and line.endswith("x…")


def test_a_line_has_no_control_characters() -> None:
    line = event_as_line(seen(topic=TopicId("news", "a\nb\x1b[2J"), content_type="text/plain", payload=b"\x1b"), 400)
    assert line.isprintable() and "a b\\x1b[2J" in line


def test_a_producer_that_names_no_type_is_shown() -> None:
    assert " news/ada ? {}" in event_as_line(seen(type_name="", payload=b"{}"), 200)


def test_json_has_everything() -> None:
    assert event_as_json(seen(sender=AgentId("worker", "k"))) == {
        "time": "2026-01-02T12:00:00.345678+00:00",
        "sequence": 7,
        "topic": "news",
        "source": "ada",
        "sender": "worker/k",
        "id": "m-1",
        "type": "Text",
        "content_type": "application/json",
        "payload": {"x": 1},
    }


def test_a_topic_is_exact_or_a_prefix() -> None:
    assert topic_filter("news.a") == TopicFilter(kind="exact", value="news.a")
    assert topic_filter("news.*") == TopicFilter(kind="prefix", value="news.")
    assert topic_filter("*") == TopicFilter(kind="prefix", value="")


@pytest.mark.parametrize("topic", ["", "a b", "a*b", "**", "news/*", "x." * 5_000 + "x"])
def test_what_can_be_no_topic_type_is_refused(topic: str) -> None:
    with pytest.raises(UsageError):
        topic_filter(topic)
