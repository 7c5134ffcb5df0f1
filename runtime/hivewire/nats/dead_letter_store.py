"""The dead letters of a namespace: found, sent to their agents again, and removed.

A message that is sent again goes to the inbox of the agent that gave it up, and to nobody else. Its own id stays the
same, so what the agent publishes from it can be traced, but it is a new message of the event stream, with a sequence of
its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256

from hivewire.exceptions import AgentNotFoundError, HivewireError, SerializationError, UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.nats.broker import Broker
from hivewire.nats.buckets import Bucket
from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.header_text import quoted
from hivewire.nats.registry import TypeRecord
from hivewire.nats.stored_messages import StoredMessage, delete_message, last_message_of, messages_of
from hivewire.nats.subjects import Subjects, type_token
from hivewire.nats.tokens import is_hashed, token


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters are meant; what is None leaves it open.

    `since` is in seconds since 1970. `error` is the class of the error, with or without its module.
    """

    agent_type: str | None = None
    key: str | None = None
    since: float | None = None
    error: str | None = None

    def matches(self, letter: DeadLetter) -> bool:
        return (
            self.agent_type in (None, letter.agent.type)
            and self.key in (None, letter.agent.key)
            and (self.since is None or letter.time >= self.since)
            and (self.error is None or f".{letter.error}".endswith(f".{self.error}"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLetter:
    """An entry of the stream of dead letters, at its place there. `letter` is None when it can't be read, and
    `problem` says why."""

    place: int
    subject: str
    letter: DeadLetter | None
    problem: HivewireError | None = None


class DeadLetterStore:
    """Finds, replays and removes dead letters.

    All methods raise `JetStreamError` for what JetStream refuses, and `BrokerUnavailableError` when nobody answers.
    """

    def __init__(self, broker: Broker, subjects: Subjects) -> None:
        self._broker = broker
        self._subjects = subjects
        self._registry = Bucket(broker, subjects.registry_bucket)
        self._checked: set[str] = set()

    async def get(self, agent: AgentId, sequence: int) -> StoredLetter | None:
        """Return the dead letter of one agent and message; None when there is none."""
        subject = self._subjects.dead(agent.type, agent.key, sequence)
        message = await last_message_of(self._broker, self._subjects.dead_stream, subject)
        return None if message is None else _read(message)

    async def find(self, wanted: DeadLetterFilter) -> AsyncIterator[StoredLetter]:
        """Return those that are stored by now and match, the oldest first.

        Those that can't be read come too, if their subject matches.
        """
        pattern = self._subjects.dead_of(wanted.agent_type, wanted.key)
        async for message in messages_of(self._broker, self._subjects.dead_stream, pattern):
            stored = _read(message)
            if stored.letter is None or wanted.matches(stored.letter):
                yield stored

    async def replay(self, stored: StoredLetter) -> int:
        """Send the message to its agent again and remove the entry; return the message's new sequence.

        The entry goes only after the message is stored. Within the deduplication window of the event stream a repeated
        replay of one entry stores nothing twice.

        Raises:
            AgentNotFoundError: no process has registered the agent's type, so nobody would ever read the message.
            SerializationError, UnsupportedFormatError: the entry can't be read.
        """
        letter = stored.letter
        if letter is None:
            assert stored.problem is not None
            raise stored.problem
        agent = letter.agent
        await self._check_registered(agent)
        headers = letter.replay()
        if is_hashed(token(agent.key)):
            headers["Hw-Key"] = quoted(agent.key)
        identity = f"{self._subjects.dead_stream} {stored.place} {stored.subject} {letter.stream} {letter.time}"
        headers["Nats-Msg-Id"] = sha256(identity.encode()).hexdigest()[:32]
        subject = self._subjects.inbox(agent.type, agent.key)
        sent = await self._broker.store(subject, letter.payload, headers=headers)
        await self.remove(stored)
        return sent.sequence

    async def remove(self, stored: StoredLetter) -> None:
        """Remove an entry; one that is gone is no error.

        Raises:
            UnsupportedFormatError: a newer version wrote it. It stays.
        """
        if isinstance(stored.problem, UnsupportedFormatError):
            raise stored.problem
        await delete_message(self._broker, self._subjects.dead_stream, stored.place)

    async def _check_registered(self, agent: AgentId) -> None:
        if agent.type in self._checked:
            return
        entry = await self._registry.get(f"{type_token(agent.type)}.type")
        if entry.value is None or TypeRecord.from_json(entry.value).shape is None:
            raise AgentNotFoundError(
                f"Recipient not found: no process has registered the type of {agent}, so nobody would read the message"
            )
        self._checked.add(agent.type)


def _read(message: StoredMessage) -> StoredLetter:
    letter: DeadLetter | None = None
    problem: HivewireError | None = None
    try:
        letter = DeadLetter.decode(message.headers, message.payload)
    except UnsupportedFormatError as error:
        problem = error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        problem = SerializationError(f"it is not a dead letter: {error!r}")
    return StoredLetter(place=message.sequence, subject=message.subject, letter=letter, problem=problem)
