"""Turns that wait for something: their place, a slot of the process, or the time of their next attempt."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from typing import Any
from weakref import WeakSet

from hivewire.nats.turn import Turn, TurnWithdrawnError
from hivewire.nats.turn_slots import TurnSlots


class TurnWaits:
    """Each turn waits for one thing at a time, and is woken by its id, or withdrawn by whoever owns it."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._withdrawable: defaultdict[object, set[Turn]] = defaultdict(set)
        self._withdrawn: WeakSet[Any] = WeakSet()

    def is_withdrawn(self, turn: Turn) -> bool:
        """Tell whether the turns of its owner were withdrawn, those that come later included."""
        return turn.owner in self._withdrawn

    def withdraw(self, owner: object) -> None:
        """End all turns of an owner that have not started, or rest between two attempts, now or later."""
        self._withdrawn.add(owner)
        for turn in list(self._withdrawable.get(owner, ())):
            self.withdraw_one(turn)

    def withdraw_one(self, turn: Turn) -> bool:
        """End a turn that waits for its start, or rests between two attempts. False: it does neither."""
        waiting = self._waiting.get(turn.id)
        if turn.started or waiting is None or waiting.done():
            return False
        waiting.set_exception(TurnWithdrawnError(turn.id))
        return True

    async def wait(self, turn: Turn) -> None:
        waiting = self._waiting[turn.id] = asyncio.get_running_loop().create_future()
        of_owner = None
        if not turn.started:
            turn.token.link_future(waiting)
            of_owner = self._withdrawable[turn.owner] if turn.owner is not None else None
        if of_owner is not None:
            of_owner.add(turn)
        try:
            await waiting
        finally:
            self._waiting.pop(turn.id, None)
            if of_owner is not None:
                of_owner.discard(turn)
                if not of_owner:
                    self._withdrawable.pop(turn.owner, None)

    async def wait_for(self, name: str) -> None:
        waiting = self._waiting[name] = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            self._waiting.pop(name, None)

    def wake(self, turn_ids: Iterable[str]) -> None:
        for turn_id in turn_ids:
            waiting = self._waiting.get(turn_id)
            # One that was cancelled in the same moment gives its place on when it wakes.
            if waiting is not None and not waiting.done():
                waiting.set_result(None)


class TurnSlot:
    """A turn's slot of the process, which others have while the turn awaits calls of its own.

    Calls may go on in tasks of the handler after it has ended; the slot is not theirs any more.
    """

    __slots__ = ("_ended", "_held", "_outside", "_slots", "_taking", "_turn", "_waits")

    def __init__(self, slots: TurnSlots, waits: TurnWaits, turn: Turn) -> None:
        self._slots = slots
        self._waits = waits
        self._turn = turn
        self._held = False
        self._taking = False
        self._ended = False
        self._outside = 0

    async def take(self) -> None:
        if not self._slots.take(self._turn.agent.type, self._turn.id):
            await self._in_line(self._turn.id, self._waits.wait(self._turn))
        self._held = True

    def end(self) -> None:
        self._ended = True
        self._give()

    def step_out(self) -> None:
        self._outside += 1
        if self._outside == 1:
            self._give()

    async def step_in(self) -> None:
        self._outside -= 1
        if not self._is_needed() or self._held or self._taking:
            return
        self._taking = True
        # The turn may be run again, under its own name, while a task that it left behind stands in line here.
        name = f"{self._turn.id} again {id(self)}"
        try:
            if not self._slots.take(self._turn.agent.type, name, first=True):
                await self._in_line(name, self._waits.wait_for(name))
        finally:
            self._taking = False
        self._held = True
        if not self._is_needed():
            # Another call began, or the turn ended, while this one stood in line.
            self._give()

    def _is_needed(self) -> bool:
        return not self._outside and not self._ended

    async def _in_line(self, name: str, waiting: Awaitable[None]) -> None:
        agent_type = self._turn.agent.type
        try:
            await waiting
        except BaseException:
            if not self._slots.leave(agent_type, name):
                # It came in the same moment.
                self._waits.wake(self._slots.give(agent_type))
            raise

    def _give(self) -> None:
        if self._held:
            self._held = False
            self._waits.wake(self._slots.give(self._turn.agent.type))
