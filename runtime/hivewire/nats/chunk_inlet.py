"""Streamed answers where they arrive: in order, each chunk once, held until their reader takes them."""

from __future__ import annotations

import asyncio
from collections import deque

from hivewire.nats.envelope import ReplyEnvelope
from hivewire.nats.outbox import Outbox
from hivewire.nats.stream_credit import Receipt, ReceiveWindow


class ChunkInlet:
    """The reader's end of one streamed answer. One that `collects` takes chunks as they come and keeps them."""

    def __init__(self, outbox: Outbox, *, collects: bool = False) -> None:
        self._outbox = outbox
        self._collects = collects
        self._window = ReceiveWindow()
        self._sender = ""
        self.chunks: deque[ReplyEnvelope] = deque()
        self.changed = asyncio.Event()

    @property
    def taken(self) -> int:
        """How many chunks were taken."""
        return self._window.taken

    def arrive(self, reply: ReplyEnvelope, sender: str) -> ReplyEnvelope | None:
        """Take in a numbered reply; return it if it is the outcome and nothing before it is missing. `sender` is where
        receipts go."""
        assert reply.number is not None
        self._sender = sender or self._sender
        match self._window.arrive(reply.number):
            case "gap":
                self._tell(self._window.receipt(again=True))
            case "known":
                self._tell(self._window.receipt())
            case "next" if reply.status != "value":
                self._tell(self._window.receipt())
                return reply
            case "next":
                self.chunks.append(reply)
                self.changed.set()
                if self._collects and self._window.take(len(reply.payload)):
                    self._tell(self._window.receipt())
        return None

    def ask_again(self) -> None:
        """Ask for what may have been lost with the connection."""
        self._tell(self._window.receipt(again=True))

    def take(self) -> ReplyEnvelope:
        """Take the next chunk of those that are there."""
        chunk = self.chunks.popleft()
        if self._window.take(len(chunk.payload)):
            self._tell(self._window.receipt())
        return chunk

    def _tell(self, receipt: Receipt) -> None:
        if self._sender:
            self._outbox.post(self._sender, receipt.encode())
