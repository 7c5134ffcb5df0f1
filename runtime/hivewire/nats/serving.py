"""Everything of a runtime that exists between its start and its stop: session, shards, incoming messages."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection

from hivewire.agents.catalog import AgentCatalog
from hivewire.exceptions import BrokerUnavailableError
from hivewire.model.interventions import InterventionChain
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.nats.activations import Activations
from hivewire.nats.addressed_bucket import AddressedBucket
from hivewire.nats.broker import Broker
from hivewire.nats.buckets import Bucket
from hivewire.nats.event_stream import EventStream
from hivewire.nats.event_turns import EventTurns
from hivewire.nats.forwarder import Forwarder
from hivewire.nats.handling import Handling
from hivewire.nats.incoming import IncomingCalls
from hivewire.nats.janitor import Janitor
from hivewire.nats.observer import Observer
from hivewire.nats.options import RuntimeOptions
from hivewire.nats.outbox import Outbox
from hivewire.nats.owned_shard import ShardServices
from hivewire.nats.registry import Registry, TypeShape
from hivewire.nats.residency import Residency
from hivewire.nats.server_clock import ServerClock
from hivewire.nats.session import SessionKeeper
from hivewire.nats.shard_readers import ShardReaders
from hivewire.nats.shard_scope import ShardScope
from hivewire.nats.shards import Shards
from hivewire.nats.stateless import StatelessType
from hivewire.nats.subjects import Subjects
from hivewire.nats.subscription import BrokerSubscription
from hivewire.nats.system_watch import SystemWatch
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.tokens import slot_of_token, token
from hivewire.nats.turns import Turns
from hivewire.telemetry import MessageTracer, RuntimeMetrics
from hivewire.telemetry.system_metrics import SystemMetrics

log = logging.getLogger("hivewire.serving")

SETTLE_TIMEOUT_S = 10.0
"""How long a start waits for the shards that should be this process's: longer than a dead owner's session lives."""

_ANNOUNCE_TIMEOUT_S = 5.0
_CONCLUDE_TIMEOUT_S = 3.0
_SAVE_PERIOD_S = 0.25
_OVERDUE_PERIOD_S = 0.25
_BEAT_S = 1.0


class Serving:
    """Serves agent types from `open` until `close`; `types` are those that it serves."""

    def __init__(
        self,
        broker: Broker,
        outbox: Outbox,
        subjects: Subjects,
        registry: Registry,
        catalog: AgentCatalog,
        serializers: SerializerRegistry,
        interventions: InterventionChain,
        tracer: MessageTracer,
        metrics: RuntimeMetrics,
        tasks: TaskScope,
        options: RuntimeOptions,
        stream: EventStream,
        *,
        handling: type[Handling] = Handling,
    ) -> None:
        self._catalog = catalog
        self._metrics = metrics
        self._broker = broker
        self._subjects = subjects
        self._registry = registry
        self._tasks = tasks
        self._options = options
        self.types: dict[str, TypeShape] = {}
        self._stateless: dict[str, StatelessType] = {}
        self._control: BrokerSubscription | None = None
        self._control_session = ""
        self._event_stream = stream
        self._given_up = asyncio.Event()
        self._keeper = SessionKeeper(
            broker.server_url,
            subjects,
            deployment=options.deployment,
            instance=options.instance_id,
            on_lost=self._session_lost,
            credentials=broker.credentials,
        )
        self.turns = Turns(
            catalog,
            serializers,
            tracer,
            metrics,
            Activations(
                catalog,
                serializers,
                AddressedBucket(broker, subjects.state_bucket),
                subjects,
                metrics,
                stream=self._stream,
            ),
            concurrency=options.concurrency,
            record_payloads=options.record_payloads,
            residency=Residency(idle_s=options.passivate_after, max_agents=options.max_agents),
            max_turns=options.max_turns,
            may_start=self._keeper.valid,
            handling=handling,
        )
        self._calls = IncomingCalls(
            broker,
            outbox,
            subjects,
            self._keeper,
            self.turns,
            serializers,
            interventions,
            metrics,
            tasks,
            record_payloads=options.record_payloads,
            store_timeout=options.publish_timeout,
        )
        self._events = EventTurns(
            broker,
            subjects,
            self.turns,
            catalog,
            self._keeper,
            registry,
            metrics,
            tasks,
            deployment=options.deployment,
            instance=options.instance_id,
            record_payloads=options.record_payloads,
        )
        self._readers = ShardReaders(broker, subjects, stream, tasks, may_read=self._keeper.valid)
        services = ShardServices(
            broker=broker,
            subjects=subjects,
            positions=Bucket(broker, subjects.positions_bucket),
            calls=self._calls,
            events=self._events,
            turns=self.turns,
            readers=self._readers,
            passivate=self._passivate_shard,
            may_read=self._keeper.valid,
            relieve=self._relieve,
            tasks=tasks,
            metrics=metrics,
        )
        self._shards = Shards(services, registry, self._keeper, deployment=options.deployment, stream=stream)
        self._janitor = Janitor(
            broker, subjects, stream, retention_s=options.event_retention, is_alive=self._shards.is_alive
        )
        self._watch = SystemWatch(Observer(broker, subjects, stream), SystemMetrics(subjects.namespace))
        self._forwarder = Forwarder(
            broker,
            subjects,
            registry,
            ServerClock(broker, subjects.schedules_stream),
            tasks,
            instance=options.instance_id,
        )

    async def open(self) -> None:
        """Begin the session and the background work.

        Raises:
            BrokerUnavailableError: the session could not be written in time.
        """
        await self._keeper.open()
        await self._calls.listen()
        await self._listen_for_control()
        self._tasks.start(self._beat(), name="hivewire: beat")
        self._tasks.start(self._cancel_overdue(), name="hivewire: overdue turns")
        self._tasks.start(self._save_positions(), name="hivewire: positions")
        self._tasks.start(self._passivate_idle(), name="hivewire: passivation")
        self._tasks.start(self._shards.run(), name="hivewire: shards")
        if self._options.provision:
            self._tasks.start(self._janitor.run(lambda: self._shards.leads), name="hivewire: janitor")
            watching = self._watch.run(lambda: self._shards.leads, has_session=self._keeper.valid)
            self._tasks.start(watching, name="hivewire: system watch")
        self._forwarder.start()

    async def serve(self, shapes: dict[str, TypeShape]) -> None:
        """Serve types; returns when this process has its share of them and takes messages."""
        self.types.update(shapes)
        for agent_type in shapes:
            self._begin(agent_type)
        await self._keeper.announce(types=tuple(self.types))
        for agent_type, shape in shapes.items():
            if shape.kind == "stateless":
                served = self._stateless[agent_type] = StatelessType(
                    agent_type,
                    self._broker,
                    self._subjects,
                    self._registry,
                    self._calls,
                    self._events,
                    self.turns,
                    self._tasks,
                    stream=self._stream,
                )
                await served.start()
        await asyncio.gather(
            *(
                self._shards.serve(agent_type, shape.shards, timeout=SETTLE_TIMEOUT_S)
                for agent_type, shape in shapes.items()
                if shape.kind == "sharded"
            )
        )
        # Others may send as soon as this returns, so the server must know of the subscriptions.
        await self._broker.flush()

    async def serve_instance(self, agent_type: str, key: str) -> None:
        """Serve one registered instance."""
        if agent_type not in self.types:
            self.types[agent_type] = TypeShape(kind="instances", shards=1)
            self._begin(agent_type)
            await self._keeper.announce(types=tuple(self.types))
        await self._shards.serve_instance(agent_type, key, timeout=SETTLE_TIMEOUT_S)
        await self._broker.flush()

    def _begin(self, agent_type: str) -> None:
        self.turns.serve(agent_type)
        # So that it has its metrics before its first message.
        self._metrics.of_type(agent_type)

    def has_session(self) -> bool:
        """Tell whether this process certainly counts as alive among the others."""
        return self._keeper.valid()

    def shards_owned(self) -> Counter[str]:
        """Count the shards that this process owns, by type."""
        return self._shards.owned_by_type()

    def owns(self, agent_type: str, slot: int) -> bool:
        """Tell whether an agent with this slot lives in this process."""
        shape = self.types.get(agent_type)
        if shape is None:
            return False
        return shape.kind != "sharded" or self._shards.owns(agent_type, slot)

    async def is_idle(self) -> bool:
        """Tell whether nothing runs here, and nothing that is stored by now waits to be run here."""
        begun = self.turns.started
        if self.turns.running or not await self._shards.is_drained():
            return False
        for stateless in self._stateless.values():
            if not await stateless.is_drained():
                return False
        return not self.turns.running and self.turns.started == begun

    async def stream_changed(self) -> None:
        """Begin anew with another event stream."""
        await self._shards.stream_changed()

    async def drain(self, timeout: float) -> None:
        """Hand over all work and wait for running turns, at most `timeout` seconds."""
        try:
            await self._keeper.announce(types=tuple(self.types), state="draining", timeout=_ANNOUNCE_TIMEOUT_S)
        except BrokerUnavailableError as error:
            log.warning("draining without telling the others: %s", error)
        await asyncio.gather(
            self._shards.release_all(), self._forwarder.stop(), *(each.stop() for each in self._stateless.values())
        )
        try:
            async with asyncio.timeout(timeout):
                await self._until_idle_or_given_up()
        except TimeoutError:
            log.warning("%d turns did not finish within %g s and are cancelled", self.turns.running, timeout)
        else:
            if not self._given_up.is_set():
                await self._shards.conclude(_CONCLUDE_TIMEOUT_S)

    def give_up(self) -> None:
        """Take nothing more, and end a drain that is under way: the turns that run can't finish."""
        self._calls.refuse_all()
        self._given_up.set()

    async def _until_idle_or_given_up(self) -> None:
        idle, given_up = (asyncio.ensure_future(event.wait()) for event in (self.turns.idle, self._given_up))
        try:
            await asyncio.wait((idle, given_up), return_when=asyncio.FIRST_COMPLETED)
        finally:
            idle.cancel()
            given_up.cancel()

    async def _passivate_shard(self, scope: ShardScope, busy: Collection[str]) -> None:
        """Take the agents of a shard that was given up out of memory: another process goes on with them."""
        if scope.key is not None:
            return
        for agent_id in self._catalog.instances(scope.agent_type):
            key = token(agent_id.key)
            if key not in busy and slot_of_token(key) % scope.shards == scope.shard:
                await self.turns.passivate(agent_id)

    def _relieve(self) -> None:
        self._shards.relieve()

    def _stream(self) -> str:
        return self._event_stream.created

    async def close(self) -> None:
        """End the session."""
        await self._keeper.close()

    async def _beat(self) -> None:
        while True:
            self._keeper.loop_is_alive()
            self._calls.tick()
            if self._control_session != self._keeper.id:
                await self._listen_for_control()
            await asyncio.sleep(_BEAT_S)

    async def _passivate_idle(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            await self.turns.passivate_idle()

    async def _save_positions(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_PERIOD_S)
            await self._shards.save_positions()
            await self._readers.replan()

    async def _cancel_overdue(self) -> None:
        # Apart from all that waits for the broker: deadlines pass while it is away too.
        while True:
            await asyncio.sleep(_OVERDUE_PERIOD_S)
            self.turns.cancel_overdue()

    async def _listen_for_control(self) -> None:
        old, self._control_session = self._control, self._keeper.id
        self._control = await self._broker.subscribe(
            self._subjects.pod(self._options.deployment, self._keeper.id), self._shards.on_control
        )
        if old is not None:
            await old.unsubscribe()

    def _session_lost(self) -> None:
        if not self._tasks.closing:
            self._shards.session_lost()
