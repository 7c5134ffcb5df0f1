"""A schedule as it is stored, and what it becomes when it fires.

Every schedule is a timer of the broker for its next firing, and the message of that timer holds all there is to know:
the event that is to be sent, and in one more header whom to, by which rule, and when it is due. The broker copies them
into the firing, so whoever gets that needs nothing else to send it on and to set the next timer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from hivewire.exceptions import SerializationError, UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import ScheduleRule, utc_text
from hivewire.model.schedules import Schedule
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import EventEnvelope, decode_event, encode_event
from hivewire.nats.formats import FORMAT, check_format
from hivewire.nats.header_text import quoted, unquoted
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import is_hashed, token

RULE_HEADER: Final = "Hw-Schedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRecord:
    """A schedule with its message. `due` is the time of its next firing, or, in a firing, of this one.

    `headers` are those of the event, as they are sent on.
    """

    id: str
    target: AgentId | TopicId
    rule: ScheduleRule
    due: datetime
    sender: AgentId | None
    type_name: str
    headers: Mapping[str, str]
    payload: bytes

    @classmethod
    def of(
        cls, schedule_id: str, target: AgentId | TopicId, rule: ScheduleRule, due: datetime, event: EventEnvelope
    ) -> ScheduleRecord:
        """Make the record of a new schedule."""
        headers, payload = encode_event(event)
        return cls(
            id=schedule_id,
            target=target,
            rule=rule,
            due=due,
            sender=event.sender,
            type_name=event.type_name,
            headers=_own(headers),
            payload=payload,
        )

    @property
    def schedule(self) -> Schedule:
        return Schedule(
            id=self.id,
            target=self.target,
            message_type=self.type_name,
            rule=self.rule,
            next_at=self.due,
            sender=self.sender,
        )

    def same_as(self, other: ScheduleRecord) -> bool:
        """Tell whether both send the same message to the same target by the same rule, whenever they are due next."""
        return (self.target, self.rule, self.sender, self.type_name, self.payload) == (
            other.target,
            other.rule,
            other.sender,
            other.type_name,
            other.payload,
        )

    def timer(self, subjects: Subjects) -> dict[str, str]:
        """Return the headers of the timer for the next firing. Its payload is that of the message."""
        target: dict[str, Any] = (
            {"agent": str(self.target)}
            if isinstance(self.target, AgentId)
            else {"topic": {"type": self.target.type, "source": self.target.source}}
        )
        record = {"format": FORMAT, "id": self.id, **target, "rule": self.rule.to_json(), "due": utc_text(self.due)}
        return {
            **self.headers,
            RULE_HEADER: quoted(json.dumps(record, separators=(",", ":"))),
            "Nats-Schedule": f"@at {utc_text(self.due)}",
            "Nats-Schedule-Target": subjects.due(self.id),
        }

    def next(self, now: datetime) -> ScheduleRecord | None:
        """Return the record for the firing after this one; None: this was the last.

        Raises:
            ValueError, KeyError: the rule can't be followed here, for instance since its time zone is not known.
        """
        due = self.rule.following(self.due, now)
        return None if due is None else replace(self, due=due)

    def firing(self, subjects: Subjects, sequence: int) -> tuple[str, dict[str, str]]:
        """Return the subject and the headers to send a firing with; `sequence` is its place in the stream."""
        headers = {**self.headers, "ce-id": quoted(self.schedule.firing_id)}
        identity = f"{subjects.due(self.id)} {sequence} {utc_text(self.due)}"
        headers["Nats-Msg-Id"] = sha256(identity.encode()).hexdigest()[:32]
        if isinstance(self.target, TopicId):
            return subjects.event(self.target.source, self.target.type), headers
        if is_hashed(token(self.target.key)):
            headers["Hw-Key"] = quoted(self.target.key)
        return subjects.inbox(self.target.type, self.target.key), headers

    @classmethod
    def decode(cls, headers: Mapping[str, str], payload: bytes) -> ScheduleRecord:
        """Read a timer or its firing.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            SerializationError: it is not a schedule.
        """
        try:
            data: dict[str, Any] = json.loads(unquoted(headers[RULE_HEADER]))
            check_format(data, "a schedule")
            event = decode_event(headers, payload)
            topic = data.get("topic")
            return cls(
                id=str(data["id"]),
                target=AgentId.from_str(data["agent"]) if topic is None else TopicId(topic["type"], topic["source"]),
                rule=ScheduleRule.from_json(data["rule"]),
                due=datetime.fromisoformat(data["due"]).astimezone(UTC),
                sender=event.sender,
                type_name=event.type_name,
                headers=_own(headers),
                payload=payload,
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise SerializationError(f"it is not a schedule: {error!r}") from error
        except UnsupportedFormatError:
            raise
        except ValueError as error:
            raise SerializationError(f"it is not a schedule: {error}") from error


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name != RULE_HEADER and not name.lower().startswith("nats-")
    }
