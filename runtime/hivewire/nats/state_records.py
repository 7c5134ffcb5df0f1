"""What is stored of an agent: its state, and how far its messages are handled, in one record.

One key's events are handled in the order of the stream, so one number is the whole memory of what was handled: an event
at or below it is never handled again, however late it comes. Both are written in one compare-and-set, so they can't
part.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from hivewire.model.ids import AgentId
from hivewire.nats.formats import FORMAT, check_format


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """The stored record of one agent.

    `state` is the encoded state as JSON text, None while the agent has saved none. `last` is the sequence of the last
    event that is handled, in the event stream that was made at `stream`; `dead` the one of an event that was given up,
    while it is the last. `writer` tells this write from all others.
    """

    agent: AgentId
    state: str | None
    stream: str
    last: int = 0
    dead: int | None = None
    writer: str = ""

    def has_handled(self, sequence: int, *, stream: str) -> bool:
        """Tell whether an event of the present stream is handled. Sequences of another stream mean nothing."""
        return self.stream == stream and sequence <= self.last

    def to_json(self) -> bytes:
        head = {
            "format": FORMAT,
            "agent": str(self.agent),
            "stream": self.stream,
            "last": self.last,
            "dead": self.dead,
            "writer": self.writer,
        }
        text = json.dumps(head, separators=(",", ":"))
        return f'{text[:-1]},"state":{"null" if self.state is None else self.state}}}'.encode()

    @classmethod
    def from_json(cls, payload: bytes) -> StateRecord:
        """Read a record.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is not such a record.
        """
        data = json.loads(payload)
        check_format(data, f"the state of {data.get('agent')}")
        state = data["state"]
        return cls(
            agent=AgentId.from_str(data["agent"]),
            state=None if state is None else json.dumps(state, separators=(",", ":")),
            stream=data["stream"],
            last=int(data["last"]),
            dead=None if data["dead"] is None else int(data["dead"]),
            writer=data["writer"],
        )
