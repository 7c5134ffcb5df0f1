"""Where messages wait for serial agents."""

from __future__ import annotations

import asyncio

from hivewire.local.work import Turn
from hivewire.model.ids import AgentId
from hivewire.model.turns import TurnOrder

__all__ = ["Mailboxes"]


class Mailboxes:
    """One mailbox for each serial agent that is busy. An idle agent has none, so memory follows the work at hand."""

    def __init__(self) -> None:
        self._boxes: dict[AgentId, _Mailbox] = {}

    @property
    def waiting(self) -> int:
        """How many turns wait, of all agents together."""
        return sum(len(box.admissions) for box in self._boxes.values())

    async def enter(self, turn: Turn) -> None:
        """Wait until the turn may start. Each turn that entered has to leave.

        Raises:
            Exception: the one that `refuse_waiting` was given.
        """
        box = self._boxes.get(turn.recipient)
        if box is None:
            box = self._boxes[turn.recipient] = _Mailbox()
        callers = (
            [] if turn.caused_by is None else [above for above in turn.caused_by.chain() if isinstance(above, Turn)]
        )
        if box.order.arrive(turn.turn_id, [caller.turn_id for caller in callers]):
            return
        admission: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        box.admissions[turn.turn_id] = admission
        try:
            await admission
        except BaseException:
            box.admissions.pop(turn.turn_id, None)
            # The turn may have been let in and its task cancelled in the same round of the loop.
            if not box.order.drop(turn.turn_id) and turn.turn_id in box.order.running:
                self.leave(turn)
            raise

    def leave(self, turn: Turn) -> None:
        """End a turn and let in what waited for that. Does nothing for one that is not in."""
        box = self._boxes.get(turn.recipient)
        if box is None or turn.turn_id not in box.order.running:
            return
        for turn_id in box.order.finish(turn.turn_id):
            admission = box.admissions.pop(turn_id)
            if not admission.done():
                admission.set_result(None)
        if box.order.idle:
            del self._boxes[turn.recipient]

    def refuse_waiting(self, error: Exception) -> None:
        """Fail all turns that wait."""
        for box in self._boxes.values():
            for turn_id, admission in box.admissions.items():
                box.order.drop(turn_id)
                if not admission.done():
                    admission.set_exception(error)
            box.admissions.clear()


class _Mailbox:
    __slots__ = ("admissions", "order")

    def __init__(self) -> None:
        self.order = TurnOrder(serial=True)
        self.admissions: dict[str, asyncio.Future[None]] = {}
