"""How far the sender of a streamed answer may run ahead of its reader, and what has to be sent once more.

Chunks are numbered from 1, and the end of the stream has the number after its last chunk. The reader tells what it
has taken and what it has received; the sender stops while too much is not taken, and keeps what is not received, so
nothing is lost with a connection. A receipt says all that came before it too, so it may itself be lost or come twice:
a sender that waits in silence asks for one, by what it sent last, or by the number 0, which comes again and again.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

WINDOW_CHUNKS: Final = 48
WINDOW_BYTES: Final = 128 * 1024
"""A chunk may be sent while less than both is sent and not taken; so one larger chunk can always be under way."""

MessageT = TypeVar("MessageT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The numbers of the last chunk that the reader took, and of the last one that it has. `again`: what follows is to
    be sent once more."""

    taken: int
    received: int
    again: bool = False

    def encode(self) -> bytes:
        return f"{self.taken} {self.received}{' again' if self.again else ''}".encode()

    @classmethod
    def decode(cls, payload: bytes) -> Receipt:
        """Read a receipt.

        Raises:
            ValueError: it is none.
        """
        match = _receipt(payload)
        if match is None or int(match[1]) > int(match[2]):
            raise ValueError(f"not the receipt of a stream: {payload[:80]!r}")
        return cls(taken=int(match[1]), received=int(match[2]), again=match[3] is not None)


class SendWindow(Generic[MessageT]):
    """The sender's side. `last` is the number of the last message that was sent."""

    def __init__(self) -> None:
        self.last = 0
        self._untaken: deque[tuple[int, int]] = deque()
        self._untaken_bytes = 0
        self._kept: OrderedDict[int, MessageT] = OrderedDict()

    @property
    def is_open(self) -> bool:
        """Whether the next chunk may be sent."""
        return len(self._untaken) < WINDOW_CHUNKS and self._untaken_bytes < WINDOW_BYTES

    @property
    def waits(self) -> bool:
        """Whether something is wanted of the reader."""
        return bool(self._kept) or not self.is_open

    @property
    def newest_unreceived(self) -> MessageT | None:
        """What to send again when nothing was heard for long: who misses something tells it then."""
        return next(reversed(self._kept.values())) if self._kept else None

    def send(self, message: MessageT, size: int) -> None:
        """Take note of the message with the number `last` + 1."""
        self.last += 1
        self._untaken.append((self.last, size))
        self._untaken_bytes += size
        self._kept[self.last] = message

    def receive(self, receipt: Receipt) -> list[MessageT]:
        """Take note of a receipt, and return what has to be sent once more."""
        while self._untaken and self._untaken[0][0] <= receipt.taken:
            self._untaken_bytes -= self._untaken.popleft()[1]
        while self._kept and next(iter(self._kept)) <= receipt.received:
            self._kept.popitem(last=False)
        return list(self._kept.values()) if receipt.again else []


class ReceiveWindow:
    """The reader's side: what it has `received` in order, and `taken`."""

    def __init__(self) -> None:
        self.received = 0
        self.taken = 0
        self._told = 0
        self._untold_bytes = 0
        self._highest = 0
        self._asked_at = -1

    def arrive(self, number: int) -> Literal["next", "known", "gap", "asked"]:
        """Say what a message is: the next one, one that came before, or one that shows that others are missing. Those
        are to be asked for at a ``gap``; ``asked`` is one for which they have been."""
        if number == self.received + 1:
            self.received = number
            self._highest = max(self._highest, number)
            return "next"
        if number <= self.received:
            return "known"
        # One that is repeated shows that what was asked for did not come.
        asked = self._asked_at == self.received and number > self._highest
        self._asked_at = self.received
        self._highest = max(self._highest, number)
        return "asked" if asked else "gap"

    def take(self, size: int) -> bool:
        """Take the next chunk, and tell whether the sender should know by now."""
        self.taken += 1
        self._untold_bytes += size
        return self.taken - self._told >= WINDOW_CHUNKS // 2 or self._untold_bytes >= WINDOW_BYTES // 2

    def receipt(self, *, again: bool = False) -> Receipt:
        """Return what the sender is told now."""
        self._told, self._untold_bytes = self.taken, 0
        return Receipt(taken=self.taken, received=self.received, again=again)


_receipt = re.compile(rb"([0-9]{1,15}) ([0-9]{1,15})( again)?").fullmatch
