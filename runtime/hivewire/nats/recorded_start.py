"""Starts the events of a shard whose owner died: only after it is written which ones, and suspects one by one.

What is to be done is the decision of a `CrashGuard`; this does it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection

from hivewire.exceptions import BrokerUnavailableError, MessageTooLargeError
from hivewire.nats.admitted import Admitted
from hivewire.nats.broker import JetStreamError
from hivewire.nats.buckets import WriteConflictError
from hivewire.nats.crash_guard import CrashGuard

log = logging.getLogger("hivewire.shards")

_AGAIN_S = 0.25


class RecordedStart:
    """Takes the events of one shard while its guard is careful. `run` does the work, until `leave`.

    `superseded` tells that a write found the shard in other hands.

    Args:
        write: Writes the shard's position with what the guard says now.
        start: Starts an event's turn, or, when it is doomed, gives it up.
        on_buried: Called when an event that killed its processes was given up.
        busy_keys: Asked for the keys of which an event runs or waits in its turn.
        trial: Held while an event of the process is written down as a suspect and tried: if several were, each of them
            would seem to have killed it.
    """

    def __init__(
        self,
        guard: CrashGuard,
        *,
        write: Callable[[], Awaitable[None]],
        start: Callable[[Admitted, bool], asyncio.Task[None]],
        busy_keys: Callable[[], Collection[str]],
        on_buried: Callable[[], None],
        trial: asyncio.Lock,
    ) -> None:
        self._guard = guard
        self._write = write
        self._start = start
        self._busy_keys = busy_keys
        self._on_buried = on_buried
        self._trial = trial
        self._waiting: deque[Admitted] = deque()
        self._changed = asyncio.Event()
        self._leaving = asyncio.Event()
        self.superseded = False

    def takes(self, admitted: Admitted) -> bool:
        """Take an event if its start has to be recorded. False: it may start at once."""
        if not self._guard.careful and not self._waiting:
            return False
        self._waiting.append(admitted)
        self._changed.set()
        return True

    def look_again(self) -> None:
        """An event has ended, or the position was written."""
        self._changed.set()

    def leave(self) -> None:
        """Start nothing more. A write that is under way is not cut off: what it has written would count as
        another's."""
        self._leaving.set()
        self._changed.set()

    async def run(self) -> None:
        """Start events until all is well, or the shard is left."""
        while not self._leaving.is_set():
            self._changed.clear()
            if not self._waiting:
                if not self._guard.careful:
                    return
                await self._changed.wait()
                continue
            try:
                await self._start_next()
            except WriteConflictError:
                self.superseded = True
                return
            except (BrokerUnavailableError, JetStreamError, MessageTooLargeError) as error:
                log.warning("writing what is started: %s", error)
                await asyncio.sleep(_AGAIN_S)

    async def _start_next(self) -> None:
        guard, waiting = self._guard, self._waiting
        batch = self._next_recorded()
        first = batch[0] if batch else self._next_alone()
        if first is None:
            # All that could be tried wait for an earlier event of their keys.
            self._changed.clear()
            await self._changed.wait()
            return
        assert first.sequence is not None
        treatment = guard.treatment(first.sequence)
        if treatment == "alone":
            if await self._waits_for_trial():
                try:
                    # What killed may have been found meanwhile.
                    if guard.treatment(first.sequence) == "alone":
                        await self._try(first, first.sequence)
                finally:
                    self._trial.release()
        elif treatment == "doomed":
            waiting.remove(first)
            if await self._ends(self._start(first, True)):
                guard.buried(first.sequence)
                self._on_buried()
        else:
            if guard.careful:
                guard.record(max(each.sequence or 0 for each in batch))
                await self._write()
            for each in () if self._leaving.is_set() else batch:
                waiting.remove(each)
                self._start(each, False)

    async def _waits_for_trial(self) -> bool:
        """Wait until no other event of the process is tried; False: the shard is given up before."""
        taking, leaving = asyncio.ensure_future(self._trial.acquire()), asyncio.ensure_future(self._leaving.wait())
        taken = False
        try:
            await asyncio.wait((taking, leaving), return_when=asyncio.FIRST_COMPLETED)
            taken = taking.done()
        finally:
            leaving.cancel()
            if not taken and not taking.cancel():
                self._trial.release()
        return taken

    async def _try(self, first: Admitted, sequence: int) -> None:
        self._guard.attempt(sequence)
        await self._write()
        if self._leaving.is_set():
            return
        self._waiting.remove(first)
        first.turn.alone = True
        first.turn.tried = asyncio.Event()
        running = self._start(first, False)
        if await self._ends(running, first.turn.tried):
            self._guard.survived(sequence)

    def _next_recorded(self) -> list[Admitted]:
        """Return the events that can be started now together, each with all earlier ones of its key."""
        batch, passed_over = [], set()
        for each in self._waiting:
            assert each.sequence is not None
            if each.key not in passed_over and self._guard.treatment(each.sequence) in ("free", "recorded"):
                batch.append(each)
            else:
                passed_over.add(each.key)
        return batch

    def _next_alone(self) -> Admitted | None:
        """Return the first event that would run at once: one behind another of its key may have to wait for long."""
        busy = self._busy_keys()
        return next((each for each in self._waiting if each.key not in busy), None)

    async def _ends(self, running: asyncio.Task[None], tried: asyncio.Event | None = None) -> bool:
        """Wait until a turn has ended, or was tried; False: the shard is given up before."""
        waits = [asyncio.ensure_future(event.wait()) for event in (self._leaving, tried) if event is not None]
        try:
            await asyncio.wait((running, *waits), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        return running.done() or (tried is not None and tried.is_set())
