"""Schedules as they are stored and forwarded."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.exceptions import SerializationError, UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import EventEnvelope, decode_event
from hivewire.nats.header_text import quoted, unquoted
from hivewire.nats.schedule_records import RULE_HEADER, ScheduleRecord
from hivewire.nats.subjects import Subjects

SUBJECTS = Subjects("default")
SHOP = AgentId("shop", "paris")
DUE = datetime(2030, 1, 1, 9, tzinfo=UTC)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=150)


def record(target: AgentId | TopicId = SHOP, *, id: str = "daily", every: float = 60, **event: Any) -> ScheduleRecord:
    topic = target if isinstance(target, TopicId) else TopicId(target.type, target.key)
    envelope = EventEnvelope(
        topic=topic, message_id=id, type_name="Order", payload=b"{}", direct=isinstance(target, AgentId), **event
    )
    return ScheduleRecord.of(id, target, ScheduleRule.of(every=every), DUE, envelope)


@given(texts.filter(bool), texts, st.booleans(), st.binary(max_size=50))
def test_a_timer_is_read_back_and_its_firing_too(id: str, key: str, direct: bool, payload: bytes) -> None:
    target = AgentId("shop", key) if direct else TopicId("orders", key)
    made = record(target, id=id, sender=AgentId("boss", key))
    timer = made.timer(SUBJECTS)

    assert ScheduleRecord.decode(timer, made.payload) == made
    fired = {name: value for name, value in timer.items() if not name.startswith("Nats-")}
    fired |= {"Nats-Scheduler": SUBJECTS.schedule(id), "Nats-Schedule-Next": "purge"}
    assert ScheduleRecord.decode(fired, made.payload) == made


def test_the_timer_is_for_the_time_that_it_is_due_and_fires_into_its_own_subject() -> None:
    timer = record().timer(SUBJECTS)

    assert timer["Nats-Schedule"] == "@at 2030-01-01T09:00:00Z"
    assert timer["Nats-Schedule-Target"] == "default.due.daily"
    assert json.loads(unquoted(timer[RULE_HEADER])) == {
        "format": 1,
        "id": "daily",
        "agent": "shop/paris",
        "rule": {"every": 60.0},
        "due": "2030-01-01T09:00:00Z",
    }


def test_a_firing_for_an_agent_is_a_direct_message_in_its_inbox() -> None:
    subject, headers = record(AgentId("shop", "k" * 200)).firing(SUBJECTS, 7)

    assert subject == SUBJECTS.inbox("shop", "k" * 200)
    assert headers["Hw-Key"] == "k" * 200
    event = decode_event(headers, b"{}")
    assert (event.direct, event.message_id) == (True, "daily@2030-01-01T09:00:00Z")
    assert not {name for name in headers if name.startswith(("Nats-Schedule", "Hw-Schedule"))}


def test_a_firing_for_a_topic_is_an_event() -> None:
    subject, headers = record(TopicId("orders", "paris"), trace={"traceparent": "00-1-2-01"}).firing(SUBJECTS, 7)

    assert subject == SUBJECTS.event("paris", "orders")
    event = decode_event(headers, b"{}")
    assert (event.direct, event.topic, event.trace) == (
        False,
        TopicId("orders", "paris"),
        {"traceparent": "00-1-2-01"},
    )


def test_each_firing_has_ids_of_its_own_that_do_not_depend_on_who_forwards_it() -> None:
    first = record()
    second = first.next(DUE)
    assert second is not None
    firings = [each.firing(SUBJECTS, sequence)[1] for each, sequence in ((first, 7), (second, 8), (first, 9))]

    assert len({headers["Nats-Msg-Id"] for headers in firings}) == 3
    assert firings[0] == first.firing(SUBJECTS, 7)[1]
    assert firings[0]["ce-id"] != firings[1]["ce-id"]


def test_the_next_one_is_in_phase_and_the_last_one_has_none() -> None:
    following = record().next(DUE + timedelta(seconds=150))

    assert following is not None and following.due == DUE + timedelta(seconds=180)
    once = ScheduleRecord.decode(_with(rule={"after": 1}), b"{}")
    assert once.next(DUE) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {RULE_HEADER: "no JSON"},
        {RULE_HEADER: "[]"},
        {RULE_HEADER: "%FF"},
        {name: value for name, value in record().timer(SUBJECTS).items() if name != "ce-id"},
    ],
)
def test_what_is_no_schedule_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SerializationError):
        ScheduleRecord.decode(headers, b"{}")


@pytest.mark.parametrize(
    "changes",
    [{"agent": "no id"}, {"rule": {}}, {"rule": 5}, {"due": "soon"}, {"topic": {"type": "a"}}, {"agent": None}],
)
def test_one_with_a_member_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SerializationError):
        ScheduleRecord.decode(_with(**changes), b"{}")


def test_one_of_a_newer_version_is_told_apart() -> None:
    with pytest.raises(UnsupportedFormatError):
        ScheduleRecord.decode(_with(format=2), b"{}")


def test_members_of_a_later_version_are_ignored() -> None:
    assert ScheduleRecord.decode(_with(new=1), b"{}") == record()


def _with(**changes: Any) -> dict[str, str]:
    timer = record().timer(SUBJECTS)
    return {**timer, RULE_HEADER: quoted(json.dumps({**json.loads(unquoted(timer[RULE_HEADER])), **changes}))}
