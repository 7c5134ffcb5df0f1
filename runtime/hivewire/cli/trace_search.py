"""Which of the messages that pass belong to the one that is looked for.

A message is found by its id, which several may have. What a turn publishes has an id made of the agent, the sequence
that the turn handles, and a count, so what came of a message is known by the ids that its turns can have given. What no
such id tells, as a turn of a direct message leads to it, is found by the trace that both belong to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from hivewire.cli.message_heads import MessageHead, id_of, is_structured, trace_of
from hivewire.model.contexts import TurnContext
from hivewire.model.ids import AgentId
from hivewire.nats.stream_reader import StreamMessage
from hivewire.nats.tokens import token

KEPT: Final = 1_000
"""How many messages of each kind are shown."""

_IDS_AHEAD = 32
_is_trace_id: Final = re.compile(r"[0-9a-f]{32}").fullmatch


@dataclass(frozen=True, slots=True)
class Cause:
    """The turn that published a message: the sequence that it handled, and for whom."""

    sequence: int
    agent: AgentId


class Search:
    """Takes messages in the order of the stream and keeps those that belong to what is looked for.

    `own` have the id, `caused` came of those, `related` only share their trace; each by its sequence. `more` counts
    what belongs here too and is not kept, `unread` the messages whose payload would tell their id.

    Args:
        wanted: An id, or a trace id.
        stream: When the stream was made, which is part of derived ids.
        read: Reads the headers of a message.
        recipients: Tells who handles a message.
    """

    def __init__(
        self,
        wanted: str,
        *,
        stream: str,
        read: Callable[[StreamMessage], MessageHead | None],
        recipients: Callable[[MessageHead], Iterable[AgentId]],
    ) -> None:
        self._wanted = wanted
        self._stream = stream
        self._read = read
        self._recipients = recipients
        self._derived: dict[str, tuple[Cause, int]] = {}
        self._turns: dict[Cause, TurnContext] = {}
        self.trace_ids: set[str] = {wanted} if _is_trace_id(wanted) else set()
        self.own: dict[int, MessageHead] = {}
        self.caused: dict[int, MessageHead] = {}
        self.related: dict[int, MessageHead] = {}
        self.causes: dict[int, Cause] = {}
        self.seen = 0
        self.more = 0
        self.unread = 0
        self.look_again_below = 0
        """Before this sequence there may be messages of traces that were not known then."""

    @property
    def found(self) -> Mapping[int, MessageHead]:
        """All that is kept, in the order of the stream."""
        return dict(sorted({**self.own, **self.caused, **self.related}.items()))

    def take(self, message: StreamMessage) -> None:
        """Look at the next message."""
        self.seen += 1
        self.look(message)
        if "ce-id" not in message.headers and id_of(message.headers) is None:
            self.unread += is_structured(message.headers)

    def look(self, message: StreamMessage) -> None:
        """Look at a message that was counted before."""
        headers = message.headers
        own_id = id_of(headers)
        if own_id is None:
            return
        derived = self._derived.get(headers.get("Nats-Msg-Id", "")) or self._derived.get(own_id)
        if own_id == self._wanted:
            self._keep(message, self.own, derived)
        elif derived is not None:
            self._keep(message, self.caused, derived)
        elif self.trace_ids and (trace := trace_of(headers)) is not None and trace[0] in self.trace_ids:
            self._keep(message, self.related, None)

    def know_trace(self, trace_id: str, *, before: int) -> None:
        """Look for the messages of a trace from now on. What was read before a sequence did not know of it."""
        if trace_id not in self.trace_ids:
            self.trace_ids.add(trace_id)
            self.look_again_below = max(self.look_again_below, before)

    def _keep(self, message: StreamMessage, kind: dict[int, MessageHead], derived: tuple[Cause, int] | None) -> None:
        if message.sequence in self.own or message.sequence in self.caused or message.sequence in self.related:
            return
        if len(kind) >= KEPT:
            self.more += 1
            return
        head = self._read(message)
        if head is None:
            return
        kind[head.sequence] = head
        if derived is not None:
            cause, number = derived
            self.causes[head.sequence] = cause
            if number >= self._turns[cause].published - _IDS_AHEAD // 2:
                self._expect_more(cause)
        if kind is not self.related and head.trace_id is not None:
            self.know_trace(head.trace_id, before=head.sequence)
        for agent in self._recipients(head):
            cause = Cause(head.sequence, agent)
            key = head.key_token if head.recipient is not None else token(agent.key)
            origin = f"{agent.type}/{key}/{self._stream}/{head.sequence}"
            self._turns[cause] = TurnContext("", (), origin)
            self._expect_more(cause)

    def _expect_more(self, cause: Cause) -> None:
        turn = self._turns[cause]
        for _ in range(_IDS_AHEAD):
            number = turn.published
            self._derived[turn.next_id()] = cause, number
