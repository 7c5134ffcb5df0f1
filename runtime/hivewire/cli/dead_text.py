"""Dead letters as lines, as pages, and as JSON."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from typing import Any

from hivewire.cli.errors import one_line
from hivewire.cli.messages import payload_as_json
from hivewire.cli.terminal import indented, json_text, local_time
from hivewire.nats.dead_letters import LINEAGE_HEADER, DeadLetter
from hivewire.nats.envelope import EnvelopeError, EventEnvelope, decode_event

HEAD = f"{'WHEN':19}   ATTEMPTS   TYPE/KEY SEQUENCE   ERROR"


def name_of(letter: DeadLetter) -> str:
    """Return the agent and the sequence as they are typed to name a dead letter."""
    return f"{shlex.quote(one_line(letter.agent))} {letter.sequence}"


def as_line(letter: DeadLetter) -> str:
    return (
        f"{local_time(letter.time)}   {letter.attempts:>8}   {name_of(letter)}   "
        f"{one_line(letter.error)}: {one_line(letter.message)}"
    )


def as_json(letter: DeadLetter, *, whole: bool) -> dict[str, Any]:
    """Return what is known; without `whole` not what may be long: the traceback, the headers and the payload."""
    event = _event(letter)
    data = {
        "agent": str(letter.agent),
        "sequence": letter.sequence,
        "time": _iso(letter.time),
        "error": letter.error,
        "message": letter.message,
        "attempts": letter.attempts,
        "instance": letter.instance,
        "session": letter.session,
        "topic": event and event.topic.type,
        "source": event and event.topic.source,
        "id": event and event.message_id,
        "sender": event and event.sender and str(event.sender),
        "type": event and event.type_name,
        "lineage": _lineage(letter),
    }
    if not whole:
        return data
    return {
        **data,
        "stream": letter.stream,
        "subject": letter.subject,
        "traceback": letter.traceback,
        "headers": dict(letter.headers),
        "payload": _payload(letter, event),
    }


def as_page(letter: DeadLetter) -> str:
    """Return all that is known, to be read."""
    event = _event(letter)
    facts = {
        "error": f"{letter.error}: {letter.message}",
        "attempts": letter.attempts,
        "given up": f"{local_time(letter.time)} by {letter.instance}, session {letter.session}",
        "topic": "?" if event is None else event.topic,
        "type": "?" if event is None else event.type_name or "?",
        "id": "?" if event is None else event.message_id,
        "sender": "none" if event is None or event.sender is None else event.sender,
        "subject": letter.subject,
        "sequence": f"{letter.sequence} of the stream made at {letter.stream}",
    }
    lineage = _lineage(letter)
    if lineage:
        facts["lineage"] = f"was given up before as {', '.join(map(str, lineage))}"
    parts = {
        "headers": "\n".join(f"{name}: {value}" for name, value in letter.headers.items()) or "none",
        "payload": json_text(_payload(letter, event)),
        "traceback": letter.traceback or "none",
    }
    return "\n".join(
        [
            name_of(letter),
            *(f"{name:<10} {one_line(fact)}" for name, fact in facts.items()),
            *(f"\n{name}\n{indented(text)}" for name, text in parts.items()),
        ]
    )


def _event(letter: DeadLetter) -> EventEnvelope | None:
    try:
        return decode_event(letter.headers, letter.payload)
    except EnvelopeError:
        return None


def _payload(letter: DeadLetter, event: EventEnvelope | None) -> Any:
    if event is None:
        return json.loads(payload_as_json("", "", letter.payload))
    return json.loads(payload_as_json(event.type_name, event.content_type, event.payload))


def _lineage(letter: DeadLetter) -> list[int]:
    return [int(each) for each in letter.headers.get(LINEAGE_HEADER, "").split(",") if each.isdecimal()]


def _iso(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None
