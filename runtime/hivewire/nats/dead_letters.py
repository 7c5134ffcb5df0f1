"""Messages that were given up: what is kept of them, and where.

A dead letter is the whole message, its payload and its own headers as they were, with the story of its failure in one
more header. It has a subject of its own, by agent and sequence, which is written at most once: however often and by
whomever an event is given up, there is one entry.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from hivewire.exceptions import MessageTooLargeError, RemoteAgentError
from hivewire.model.ids import AgentId
from hivewire.model.remote_errors import is_passed_on
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.formats import FORMAT, check_format
from hivewire.nats.header_text import quoted, unquoted
from hivewire.nats.subjects import Subjects

STORY_HEADER: Final = "Hw-Dead"
LINEAGE_HEADER: Final = "Hw-Lineage"
"""Where a replayed message came from: the sequences that it had before, joined with a comma, the oldest first."""

STORY_BYTES: Final = 4_096
"""What an event leaves free of the size that the broker takes, for the story of its failure."""

TRACEBACK_CHARS: Final = 8_000
_HEADERS_TOO_LARGE = 10097
_WRONG_LAST_SEQUENCE = (10071, 10164)
_STORE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Why a message was given up, and the message.

    `sequence` is its place in the event stream that was made at `stream`, `subject` the one that it was stored under
    there. `error` is the class of the last error, `attempts` how often it was handled. `instance` and `session` tell
    the process that gave it up, `time` when, in seconds since 1970.
    """

    agent: AgentId
    sequence: int
    stream: str
    subject: str
    error: str
    message: str
    traceback: str
    attempts: int
    instance: str
    session: str
    time: float
    headers: Mapping[str, str]
    payload: bytes

    def encode(self, *, traceback_chars: int = TRACEBACK_CHARS) -> dict[str, str]:
        """Return the headers to store it with."""
        story = {
            "format": FORMAT,
            "agent": str(self.agent),
            "sequence": self.sequence,
            "stream": self.stream,
            "subject": self.subject,
            "error": self.error,
            "message": self.message[:2_000] if traceback_chars else self.message[:200],
            # The end tells where it went wrong.
            "traceback": self.traceback[-traceback_chars:] if traceback_chars else "",
            "attempts": self.attempts,
            "instance": self.instance,
            "session": self.session,
            "time": self.time,
        }
        kept = {name: value for name, value in self.headers.items() if not name.lower().startswith("nats-")}
        return {**kept, STORY_HEADER: quoted(json.dumps(story, separators=(",", ":")))}

    @classmethod
    def decode(cls, headers: Mapping[str, str], payload: bytes) -> DeadLetter:
        """Read a stored dead letter.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is not a dead letter.
        """
        story: dict[str, Any] = json.loads(unquoted(headers[STORY_HEADER]))
        check_format(story, "a dead letter")
        own = {
            name: value
            for name, value in headers.items()
            if name != STORY_HEADER and not name.lower().startswith("nats-")
        }
        return cls(
            agent=AgentId.from_str(story["agent"]),
            sequence=int(story["sequence"]),
            stream=story["stream"],
            subject=story["subject"],
            error=story["error"],
            message=story["message"],
            traceback=story["traceback"],
            attempts=int(story["attempts"]),
            instance=story["instance"],
            session=story["session"],
            time=float(story["time"]),
            headers=own,
            payload=payload,
        )

    def replay(self) -> dict[str, str]:
        """Return the headers to send the message again with: its own, and where it comes from."""
        lineage = [*filter(None, [self.headers.get(LINEAGE_HEADER)]), str(self.sequence)]
        return {**self.headers, LINEAGE_HEADER: ",".join(lineage)}


def describe(error: BaseException) -> tuple[str, str, str]:
    """Return the class of an error, its text, and its traceback."""
    if isinstance(error, RemoteAgentError) and is_passed_on(error):
        return error.type_name, error.message, error.remote_traceback
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    return name, str(error), "".join(traceback.format_exception(error))


async def store_dead_letter(broker: Broker, subjects: Subjects, letter: DeadLetter) -> None:
    """Store a dead letter; one that is stored already is left as it is.

    Raises:
        BrokerUnavailableError: it was not acknowledged in time.
        JetStreamError: the stream refuses it, for instance because it is full.
    """
    subject = subjects.dead(letter.agent.type, letter.agent.key, letter.sequence)
    for traceback_chars in (TRACEBACK_CHARS, 1_000, 0):
        headers = letter.encode(traceback_chars=traceback_chars)
        # One entry for each message and agent: expected is that there is none.
        headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        try:
            await broker.store(subject, letter.payload, headers=headers, timeout=_STORE_TIMEOUT_S)
            return
        except MessageTooLargeError:
            # The story gives way to the message.
            if not traceback_chars:
                raise
        except JetStreamError as error:
            if error.code == _HEADERS_TOO_LARGE and traceback_chars:
                continue
            if error.code not in _WRONG_LAST_SEQUENCE:
                raise
            return
