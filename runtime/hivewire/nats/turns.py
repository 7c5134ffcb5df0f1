"""Runs messages on the agents of this process, one turn a message.

A turn is: wait for its place if the agent takes one turn at a time, wait for a slot of the process, see that the
session still holds, activate the agent, handle, and store the state if the agent persists. What becomes of the outcome,
a reply, a finished event or another attempt, is the business of who started the turn.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.trace import Span

from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.concurrency import Concurrency, is_serial, persists
from hivewire.agents.stateless import is_stateless_worker
from hivewire.exceptions import (
    BrokerUnavailableError,
    DeadlineExceededError,
    StateConflictError,
    UndeliverableException,
    UnsupportedFormatError,
    WorkerLostError,
)
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.model.ids import AgentId
from hivewire.model.runtime import Agent
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.nats.activations import (
    Activation,
    Activations,
    StateFormatError,
    StateRefusedError,
    StateUnreadableError,
    SupersededError,
    WriteUnknownError,
)
from hivewire.nats.handling import Handling
from hivewire.nats.mailbox import Mailbox
from hivewire.nats.residency import Residency
from hivewire.nats.subjects import type_token
from hivewire.nats.turn import GivenUpError, SessionLapsedError, Turn, TurnWithdrawnError
from hivewire.nats.turn_slots import DEFAULT_MAX_TURNS, TurnSlots
from hivewire.nats.turn_waits import TurnSlot, TurnWaits
from hivewire.nats.waiting_room import WaitingRoom
from hivewire.telemetry import MessageTracer, RuntimeMetrics

log = logging.getLogger("hivewire.turns")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)

_QUIET_WAIT_S = 2.0
_CLOSE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Mode:
    """How agents of one class take turns."""

    persists: bool
    serial: bool


class Turns:
    """The turns of one process.

    `started` counts all that were ever begun, so that somebody who looks twice sees whether anything happened between;
    `idle` is set while none runs. `slots` tells how many run, and how many more could.

    Args:
        may_start: Asked before each turn whether this process still holds its session.
        handling: What hands messages to the agents.
    """

    def __init__(
        self,
        catalog: AgentCatalog,
        serializers: SerializerRegistry,
        tracer: MessageTracer,
        metrics: RuntimeMetrics,
        activations: Activations,
        *,
        concurrency: Concurrency | None,
        record_payloads: bool,
        residency: Residency | None = None,
        max_turns: int = DEFAULT_MAX_TURNS,
        may_start: Callable[[], bool] = lambda: True,
        handling: type[Handling] = Handling,
    ) -> None:
        self._catalog = catalog
        self._metrics = metrics
        catalog.on_built, catalog.on_left = self._built, self._left_memory
        self._handling = handling(serializers, metrics, record_payloads=record_payloads)
        self._tracer = tracer
        self._record_payloads = record_payloads
        self._activations = activations
        self._concurrency = concurrency
        self._residency = residency or Residency()
        self._may_start = may_start
        self.slots = TurnSlots(max_turns)
        self._max_waiting = max_turns
        self._room = WaitingRoom(max_turns)
        self._mailboxes: dict[AgentId, Mailbox] = {}
        self._waits = TurnWaits()
        self._modes: dict[type, _Mode] = {}
        self._leaving: dict[AgentId, asyncio.Event] = {}
        self.trial = asyncio.Lock()
        self._trial = asyncio.Lock()
        self._alone: Turn | None = None
        self._trial_over = asyncio.Event()
        self.running = 0
        self.started = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def mailboxes(self) -> int:
        """How many agents have turns that run or wait in order."""
        return len(self._mailboxes)

    def serve(self, agent_type: str) -> None:
        """Keep a share of the slots, and of the room to wait, for a type."""
        self.slots.serve(agent_type)
        self._room.serve(agent_type)

    def admit(self, call_id: str, agent_id: AgentId, chain: tuple[str, ...] = ()) -> bool:
        """Let a direct message wait here, until its turn starts or it is dismissed. False: there is no room.

        One that a turn caused which others wait for always finds room: what fills the room may wait for that turn.
        """
        if not chain:
            free = self.slots.free
            usable = min(free, 1) if self._mode(agent_id).serial else free
            if not self._room.has_place(agent_id, free_slots=free, usable_slots=usable):
                return False
        self._room.enter(call_id, agent_id)
        return True

    def dismiss(self, call_id: str) -> None:
        """Take note that a direct message does not wait any more."""
        self._room.leave(call_id)

    def is_inner(self, agent_id: AgentId, chain: tuple[str, ...]) -> bool:
        """Tell whether a message with this chain was caused by a turn of the agent that runs here."""
        box = self._mailboxes.get(agent_id)
        return box is not None and box.is_inner(chain)

    def persists(self, agent_id: AgentId) -> bool:
        """Tell whether an agent's state is stored."""
        return self._mode(agent_id).persists

    def is_crowded(self, agent_type: str) -> bool:
        """Tell whether so many turns of a type wait for a slot that no more of its events should be read."""
        return self.slots.waiting_of(agent_type) >= self._max_waiting

    async def run(self, turn: Turn) -> Any:
        """Handle a message and return what the handler returned.

        An event of an agent that persists keeps its place in front of later events after an error: call `run` again, or
        `abandon`.

        Raises:
            TurnWithdrawnError, SessionLapsedError: the turn was not started.
            CancelledError: the message was cancelled before its turn came, or the handler raised it.
            DeadlineExceededError: its deadline passed.
            SupersededError, WriteUnknownError: an event's turn is to be run again, as its state could not be stored.
            StateRefusedError: the same, as the broker does not take it.
            StateConflictError, WorkerLostError, UndeliverableException: the same for a direct message.
            StateUnreadableError, or BrokerUnavailableError for a direct message: its state could not be read in time.
            GivenUpError: the event was given up before.
            SerializationError: the message can't be decoded.
            AgentNotFoundError: this process does not have the agent.
            BaseException: what the factory or the handler raised.
        """
        self.running += 1
        self.started += 1
        self.idle.clear()
        self._residency.begin(turn.agent)
        context = self._tracer.attach(turn.trace) if self._tracer.enabled else None
        try:
            if self._leaving:
                await self._left(turn.agent)
            mode = self._mode(turn.agent)
            if mode is _PLAIN:
                agent = self._catalog.live(turn.agent)
                if agent is None:
                    agent = await self._catalog.activate(turn.agent)
                    mode = self._mode(turn.agent)
                if mode is _PLAIN:
                    return await self._in_slot(turn, mode)
            return await self._in_mailbox(turn, mode)
        except (SupersededError, WriteUnknownError, StateFormatError, StateRefusedError, StateUnreadableError) as error:
            if turn.sequence is not None:
                raise
            # What reaches callers has to be an error that their process knows.
            if isinstance(error, StateFormatError):
                raise UnsupportedFormatError(str(error)) from error
            if isinstance(error, StateRefusedError):
                raise UndeliverableException(f"The message to {turn.agent} was not applied: {error}") from error
            if isinstance(error, StateUnreadableError):
                raise BrokerUnavailableError(f"The message to {turn.agent} was not handled: {error}") from error
            if isinstance(error, SupersededError):
                raise StateConflictError(f"The message to {turn.agent} was not applied: {error}") from error
            raise WorkerLostError(f"The outcome of the message to {turn.agent} is unknown: {error}") from error
        finally:
            if context is not None:
                self._tracer.detach(context)
            self._residency.end(turn.agent)
            self.running -= 1
            if not self.running:
                self.idle.set()

    def withdraw(self, owner: object) -> None:
        """End all turns of an owner that have not started, or rest between two attempts, now or later."""
        self._waits.withdraw(owner)

    def withdraw_one(self, turn: Turn) -> bool:
        """End a turn that waits for its start, or rests between two attempts. False: it does neither."""
        return self._waits.withdraw_one(turn)

    async def rest(self, turn: Turn, seconds: float) -> None:
        """Wait before the next attempt of an event.

        Raises:
            TurnWithdrawnError: its shard was given up meanwhile, or before.
        """
        if self._waits.is_withdrawn(turn):
            raise TurnWithdrawnError(turn.id)
        timer = asyncio.get_running_loop().call_later(seconds, self._waits.wake, [turn.id])
        try:
            await self._waits.wait(turn)
        finally:
            timer.cancel()

    def abandon(self, turn: Turn) -> None:
        """Give up the place of an event that is finished, or will not be run again here."""
        box = self._mailboxes.get(turn.agent)
        if turn.resting and box is not None:
            turn.resting = False
            self._waits.wake(box.drop(turn.id) or ())
            self._forget_if_idle(turn.agent, box)

    async def activate(self, agent_id: AgentId) -> Agent:
        """Build an agent of this process, with its stored state."""
        turn = Turn(
            id=f"activation {self.started} of {agent_id}",
            agent=agent_id,
            type_name="",
            content_type="",
            payload=b"",
            message_id="",
            operation="metadata",
        )
        await self.run(turn)
        return await self._catalog.activate(agent_id)

    async def passivate(self, agent_id: AgentId) -> None:
        """Take an agent out of memory and close it. A message that comes meanwhile waits for the next activation."""
        if agent_id in self._leaving:
            return
        left = self._leaving[agent_id] = asyncio.Event()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._activations.passivate(agent_id)
        except TimeoutError:
            log.error("%s took longer than %g s to close", agent_id, _CLOSE_TIMEOUT_S)
        finally:
            del self._leaving[agent_id]
            left.set()

    async def passivate_idle(self) -> None:
        """Passivate the agents that were not used for long, and the least used ones of too many."""
        for agent_id in self._residency.due():
            # While one is closed, a message for the next one may come.
            in_use = agent_id in self._mailboxes or self._residency.is_used(agent_id)
            if not in_use and not self._catalog.is_registered_instance(agent_id):
                await self.passivate(agent_id)

    def cancel_overdue(self) -> None:
        """Cancel the turns that are over their limit; to be called several times a second."""
        self._handling.cancel_overdue()

    # Order

    async def _in_mailbox(self, turn: Turn, mode: _Mode) -> Any:
        box = self._mailboxes.get(turn.agent)
        if box is None:
            box = self._mailboxes[turn.agent] = Mailbox(serial=mode.serial)
        is_event = turn.sequence is not None and mode.persists
        if turn.resting:
            turn.resting = False
            started = box.resume(turn.id)
            let_in = turn.id in started
            self._waits.wake(started)
        else:
            let_in = box.arrive(turn.id, is_event=is_event, chain=turn.chain)
        if not let_in:
            await self._wait_in(box, turn)
        try:
            outcome = await self._in_slot(turn, mode)
        except BaseException:
            if is_event:
                turn.resting = True
                self._waits.wake(box.rest(turn.id))
            else:
                self._leave(box, turn)
            raise
        self._leave(box, turn)
        return outcome

    async def _wait_in(self, box: Mailbox, turn: Turn) -> None:
        try:
            await self._waits.wait(turn)
        except BaseException:
            started = box.drop(turn.id)
            if started is None:
                # Its place came in the same moment: it is given on.
                self._leave(box, turn)
            else:
                self._waits.wake(started)
                self._forget_if_idle(turn.agent, box)
            raise

    def _leave(self, box: Mailbox, turn: Turn) -> None:
        self._waits.wake(box.finish(turn.id))
        self._forget_if_idle(turn.agent, box)

    def _forget_if_idle(self, agent_id: AgentId, box: Mailbox) -> None:
        if box.idle and self._mailboxes.get(agent_id) is box:
            del self._mailboxes[agent_id]

    async def _in_slot(self, turn: Turn, mode: _Mode) -> Any:
        if turn.alone:
            async with self._trial:
                return await self._run_alone(turn, mode)
        while self._alone is not None and self._alone.id not in turn.chain:
            await self._trial_over.wait()
        slot = TurnSlot(self.slots, self._waits, turn)
        await slot.take()
        try:
            return await self._checked(turn, mode, slot)
        finally:
            slot.end()

    async def _run_alone(self, turn: Turn, mode: _Mode) -> Any:
        """Run a turn while no other one starts, after giving those that run a moment to end."""
        self._alone = turn
        self._trial_over.clear()
        try:
            quiet_by = time.monotonic() + _QUIET_WAIT_S
            while self.slots.running and time.monotonic() < quiet_by:  # noqa: ASYNC110  a bounded look, not a wait
                await asyncio.sleep(0.01)
            return await self._checked(turn, mode, None)
        finally:
            turn.alone = False
            self._alone = None
            self._trial_over.set()
            if turn.tried is not None:
                turn.tried.set()

    # Handling

    async def _checked(self, turn: Turn, mode: _Mode, slot: TurnSlot | None) -> Any:
        if turn.token.is_cancelled:
            raise asyncio.CancelledError("The message was cancelled before its turn came")
        if time.monotonic() >= turn.deadline:
            raise DeadlineExceededError(f"The call to {turn.agent} had expired before its turn came")
        gone = turn.sequence is not None and turn.stream != self._activations.stream
        if gone or self._waits.is_withdrawn(turn):
            # While it was on its way here, its agent was built, or another turn had the process to itself.
            raise TurnWithdrawnError(turn.id)
        if not self._may_start():
            raise SessionLapsedError(turn.id)
        turn.started = turn.ran = True
        if turn.meter is not None and turn.operation == "message":
            turn.meter.begins()
        if turn.sequence is None:
            self._room.leave(turn.id)
        try:
            if mode.persists:
                return await self._persisting(turn, mode, slot)
            agent = self._catalog.live(turn.agent)
            if agent is None:
                agent = await self._catalog.activate(turn.agent)
            # Only a turn that others wait for can be blocked by a call that comes back, so only those are in the chain.
            in_chain = mode is not _PLAIN or turn.alone
            if self._tracer.records and turn.operation == "message":
                with self._span_of(turn) as turn.span:
                    return await self._handling.handle(turn, agent, nested=slot, in_chain=in_chain, apart=mode.serial)
            return await self._handling.handle(turn, agent, nested=slot, in_chain=in_chain, apart=mode.serial)
        except BaseException:
            # Only what runs has begun, as far as the next owner of a shard is concerned.
            turn.started = turn.sequence is None
            raise

    async def _persisting(self, turn: Turn, mode: _Mode, slot: TurnSlot | None) -> Any:
        sequence = turn.sequence
        if turn.operation == "bury":
            assert sequence is not None
            return await self._activations.bury(turn.agent, sequence)
        activation = await self._activations.get(turn.agent)
        if sequence is not None and activation.record.has_handled(sequence, stream=self._activations.stream):
            if activation.record.dead == sequence:
                raise GivenUpError(turn.id)
            turn.handled_before = True
            return None
        if self._tracer.records and turn.operation == "message":
            with self._span_of(turn) as turn.span:
                return await self._handled(turn, mode, slot, activation)
        return await self._handled(turn, mode, slot, activation)

    async def _handled(self, turn: Turn, mode: _Mode, slot: TurnSlot | None, activation: Activation) -> Any:
        """Let an agent that persists handle a message, and store what that made of it."""
        try:
            with activation.handling(turn.id):
                outcome = await self._handling.handle(
                    turn, activation.agent, nested=slot, in_chain=True, apart=mode.serial
                )
            # What a turn within another one did is stored with that one, unless it has ended before.
            if turn.operation in _CHANGING and not activation.is_handling(turn.chain):
                await self._activations.commit(activation, sequence=turn.sequence, stream=turn.stream)
        except BaseException:
            # What is in memory may hold half of what the handler did.
            if not activation.is_handling(turn.chain):
                await self._activations.drop(turn.agent)
            raise
        return outcome

    def _span_of(self, turn: Turn) -> AbstractContextManager[Span]:
        return self._tracer.processing(
            turn.agent,
            message_id=turn.message_id,
            type_name=turn.type_name,
            topic=turn.topic,
            parent=turn.trace,
            attempt=None if turn.sequence is None else turn.attempt,
            group=type_token(turn.agent.type) if turn.sequence is None else turn.group,
            open_after_error=turn.sequence is not None,
            payload=turn.payload.decode(errors="replace") if self._record_payloads else None,
        )

    async def _left(self, agent_id: AgentId) -> None:
        while (left := self._leaving.get(agent_id)) is not None:
            await left.wait()

    def _built(self, agent_id: AgentId, error: BaseException | None) -> None:
        of_type = self._metrics.of_type(agent_id.type)
        if error is not None:
            of_type.failed_activations.inc()
        elif not self.persists(agent_id):
            # The others are counted once they have their states.
            of_type.activations.inc()

    def _left_memory(self, agent_id: AgentId) -> None:
        self._metrics.of_type(agent_id.type).passivations.inc()

    def _mode(self, agent_id: AgentId) -> _Mode:
        agent = self._catalog.live(agent_id)
        cls = type(agent) if agent is not None else self._catalog.agent_class(agent_id.type)
        if cls is None:
            return _PLAIN
        known = self._modes.get(cls)
        if known is None:
            # Nobody owns the agents of a stateless type, so nothing of them can be stored.
            keeps = persists(cls) and not is_stateless_worker(cls)
            serial = is_serial(cls, self._concurrency, default_persisting=True)
            known = self._modes[cls] = _Mode(keeps, serial) if keeps or serial else _PLAIN
        return known


_CHANGING: Final = ("message", "load_state")
_PLAIN: Final = _Mode(persists=False, serial=False)
