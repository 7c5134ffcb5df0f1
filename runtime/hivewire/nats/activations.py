"""The agents of this process that persist: loaded from their stored state, and written back after each turn.

Every write is a compare-and-set on the revision that the turn started from. So it does not matter who thinks that he
owns an agent: of two that handle its messages at once, one is refused, and what he did in memory is thrown away.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakValueDictionary

from hivewire.agents.catalog import AgentCatalog
from hivewire.exceptions import (
    BrokerUnavailableError,
    MessageTooLargeError,
    SerializationError,
    UndeliverableException,
    UnsupportedFormatError,
)
from hivewire.model.ids import AgentId
from hivewire.model.runtime import Agent
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.state_values import decode_state, encode_state
from hivewire.nats.broker import JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.state_records import StateRecord
from hivewire.nats.subjects import Subjects
from hivewire.telemetry import RuntimeMetrics

log = logging.getLogger("hivewire.state")

_READ_TIMEOUT_S = 20.0
_WRITE_TIMEOUT_S = 20.0


class SupersededError(Exception):
    """Another activation of the agent wrote newer state than the turn started from."""


class StateUnreadableError(BrokerUnavailableError):
    """The stored state could not be read in time; nothing was handled."""


class StateFormatError(UnsupportedFormatError):
    """A newer version of Hivewire stored the state; nothing was handled."""


class StateRefusedError(UndeliverableException):
    """The broker does not take the state, for instance because the bucket is full. It is not stored."""


class WriteUnknownError(Exception):
    """The state was sent and its acknowledgement did not come: it may be stored, or be stored later."""


@dataclass(slots=True, eq=False)
class Activation:
    """An agent in memory with what is stored of it.

    `stored` is the state as it is stored, or, where none is, as the agent began with. `dropped` says that what is in
    memory must not be written any more.
    """

    agent: Agent
    record: StateRecord
    revision: int
    stored: str
    dropped: bool = False
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _handling: set[str] = field(default_factory=set)

    @contextmanager
    def handling(self, turn_id: str) -> Iterator[None]:
        """Note, for the body of the `with` statement, that the handler of a turn runs."""
        self._handling.add(turn_id)
        try:
            yield
        finally:
            self._handling.discard(turn_id)

    def is_handling(self, turn_ids: Iterable[str]) -> bool:
        """Tell whether the handler of one of these turns runs."""
        return any(turn_id in self._handling for turn_id in turn_ids)


class Activations:
    """Loads and stores the state of one process's agents.

    Turns of one agent may overlap here: they share one activation, and their writes follow one another.

    Args:
        stream: Asked for the creation time of the event stream that sequences belong to.
    """

    def __init__(
        self,
        catalog: AgentCatalog,
        serializers: SerializerRegistry,
        bucket: Bucket,
        subjects: Subjects,
        metrics: RuntimeMetrics,
        *,
        stream: Callable[[], str],
    ) -> None:
        self._catalog = catalog
        self._serializers = serializers
        self._bucket = bucket
        self._subjects = subjects
        self._metrics = metrics
        self._stream = stream
        self._active: dict[AgentId, Activation] = {}
        self._loading: WeakValueDictionary[AgentId, asyncio.Lock] = WeakValueDictionary()
        # With what the registered instances began: they can't be built again.
        self._begun_with: dict[AgentId, str] = {}
        self._writer = secrets.token_hex(8)
        self._writes = iter(range(1, 1 << 62))

    @property
    def stream(self) -> str:
        """The creation time of the event stream that sequences belong to."""
        return self._stream()

    async def get(self, agent_id: AgentId) -> Activation:
        """Return the agent with its state, loading it if it is not in memory.

        Raises:
            StateFormatError: a newer version of Hivewire stored its state.
            StateUnreadableError: the state could not be read in time.
            BaseException: what the factory or `load_state` raised; nothing of the agent is kept.
        """
        activation = self._active.get(agent_id)
        if activation is not None:
            return activation
        loading = self._loading.get(agent_id)
        if loading is None:
            loading = self._loading[agent_id] = asyncio.Lock()
        async with loading:
            activation = self._active.get(agent_id)
            if activation is None:
                activation = await self._activated(agent_id)
            return activation

    async def commit(self, activation: Activation, *, sequence: int | None = None, stream: str = "") -> None:
        """Store the agent's state, with `sequence` as that of the last event handled, in the stream made at `stream`;
        without one, only if the state has changed.

        Raises:
            SupersededError: somebody else wrote since it was loaded.
            WriteUnknownError: whether it is stored is unknown.
            StateRefusedError: the broker does not take it.
            SerializationError, MessageTooLargeError: the state can't be stored; the text names the agent.
            BaseException: what `save_state` raised.
        """
        agent_id = activation.record.agent
        # Two that write at once from the same revision would refuse each other.
        async with activation.writing:
            state = self._encoded(agent_id, await activation.agent.save_state())
            if activation.dropped:
                raise SupersededError(f"the activation of {agent_id} was dropped while the turn ran")
            if sequence is None and state == activation.stored:
                return
            if sequence is not None and stream != self._stream():
                raise SupersededError(f"event {sequence} is of a stream that is gone")
            record = self._next(activation.record, state=state)
            if sequence is not None:
                record = replace(record, last=sequence, dead=None)
            await self._store(activation, record)

    async def bury(self, agent_id: AgentId, sequence: int) -> bool:
        """Note that an event is given up, so that nobody can commit it any more. The state stays as it is.

        Returns whether it was noted: False when the event is handled after all.

        Raises:
            SupersededError, WriteUnknownError: as for `commit`; to be tried again.
            StateFormatError: a newer version of Hivewire stored the state; nothing is written.
        """
        await self.drop(agent_id)
        record, revision = await self._read(agent_id)
        if record.has_handled(sequence, stream=self._stream()):
            return record.dead == sequence
        record = replace(self._next(record, state=record.state), last=sequence, dead=sequence)
        await self._put(record, revision)
        return True

    async def drop(self, agent_id: AgentId) -> None:
        """Throw away what is in memory: it holds what was not committed, or may not hold what was."""
        activation = self._active.pop(agent_id, None)
        if activation is not None:
            activation.dropped = True
            await self._take_out(agent_id)

    async def passivate(self, agent_id: AgentId) -> None:
        """Take an agent, whether it persists or not, out of memory and close it."""
        activation = self._active.pop(agent_id, None)
        if activation is not None:
            activation.dropped = True
        await self._catalog.passivate(agent_id)

    async def _take_out(self, agent_id: AgentId) -> None:
        # A registered instance can't be made again: its next activation gives it the stored state.
        if not self._catalog.is_registered_instance(agent_id):
            await self._catalog.passivate(agent_id)

    async def _activated(self, agent_id: AgentId) -> Activation:
        agent = await self._catalog.activate(agent_id)
        try:
            activation = await self._load(agent_id, agent)
        except BaseException:
            self._metrics.of_type(agent_id.type).failed_activations.inc()
            await self._take_out(agent_id)
            raise
        self._metrics.of_type(agent_id.type).activations.inc()
        self._active[agent_id] = activation
        return activation

    async def _load(self, agent_id: AgentId, agent: Agent) -> Activation:
        record, revision = await self._read(agent_id)
        is_instance = self._catalog.is_registered_instance(agent_id)
        known = record.state or self._begun_with.get(agent_id)
        if is_instance and agent_id not in self._begun_with:
            self._begun_with[agent_id] = self._encoded(agent_id, await agent.save_state())
        if known is not None:
            # What the state holds is looked for where its class is at home, before any message of it was read.
            for cls in type(agent).__mro__:
                self._serializers.remember_module(cls.__module__)
            await agent.load_state(decode_state(known, self._serializers))
            return Activation(agent, record, revision, known)
        return Activation(agent, record, revision, self._encoded(agent_id, await agent.save_state()))

    async def _read(self, agent_id: AgentId) -> tuple[StateRecord, int]:
        key = self._subjects.state_key(agent_id.type, agent_id.key)
        begun = time.monotonic()
        try:
            entry = await self._bucket.get(key, timeout=_READ_TIMEOUT_S)
        except BrokerUnavailableError as error:
            raise StateUnreadableError(f"The state of {agent_id} can't be read: {error}") from error
        finally:
            self._metrics.of_type(agent_id.type).state_load.observe(time.monotonic() - begun)
        if entry.value is None:
            return StateRecord(agent=agent_id, state=None, stream=self._stream()), entry.revision
        try:
            return StateRecord.from_json(entry.value), entry.revision
        except UnsupportedFormatError as error:
            raise StateFormatError(str(error)) from error

    def _next(self, record: StateRecord, *, state: str | None) -> StateRecord:
        stream = self._stream()
        # The sequences of another stream mean nothing in this one.
        known = record if record.stream == stream else replace(record, stream=stream, last=0, dead=None)
        return replace(known, state=state, writer=f"{self._writer}-{next(self._writes)}")

    def _encoded(self, agent_id: AgentId, state: Any) -> str:
        try:
            return encode_state(state, self._serializers)
        except SerializationError as error:
            raise SerializationError(f"The state of {agent_id} can't be stored: {error}") from error

    async def _store(self, activation: Activation, record: StateRecord) -> None:
        activation.revision = await self._put(record, activation.revision)
        activation.record = record
        activation.stored = record.state or activation.stored

    async def _put(self, record: StateRecord, revision: int) -> int:
        agent_id = record.agent
        payload = record.to_json()
        key = self._subjects.state_key(agent_id.type, agent_id.key)
        of_type, begun = self._metrics.of_type(agent_id.type), time.monotonic()
        try:
            return await self._bucket.put(key, payload, revision=revision, timeout=_WRITE_TIMEOUT_S)
        except WriteConflictError as error:
            of_type.state_conflicts.inc()
            raise SupersededError(str(error)) from error
        except MessageTooLargeError as error:
            raise MessageTooLargeError(
                f"The state of {agent_id} has {len(payload)} bytes, and can't be stored: keep less in it, or keep a "
                f"reference to the data ({error})"
            ) from error
        except JetStreamError as error:
            raise StateRefusedError(f"the state of {agent_id} is not stored: {error}") from error
        except BrokerUnavailableError as error:
            raise WriteUnknownError(f"whether the state of {agent_id} is stored is unknown: {error}") from error
        finally:
            of_type.state_save.observe(time.monotonic() - begun)
