"""The distributed runtime: the agent API over NATS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self, TypeVar

from typing_extensions import Unpack

from hivewire._version import __version__
from hivewire.agents.concurrency import checked_concurrency
from hivewire.agents.descriptions import described
from hivewire.agents.operating_host import OperatingHost
from hivewire.exceptions import (
    AgentNotFoundError,
    NotAccessibleError,
    RuntimeStateError,
    ScheduleNotFoundError,
)
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.model.call_limit import check_timeout
from hivewire.model.cancellation import CancellationToken
from hivewire.model.ids import AgentId, AgentType, check_strict_agent_id
from hivewire.model.interventions import InterventionChain
from hivewire.model.readiness import Readiness
from hivewire.model.runtime import Agent
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.schedules import Schedule
from hivewire.model.serialization import MessageSerializer
from hivewire.model.streams import MessageStream, check_position
from hivewire.model.subscriptions import Subscription
from hivewire.model.topics import TopicId, check_strict_topic_id
from hivewire.model.type_messages import TypeMessages
from hivewire.nats.broker import Broker
from hivewire.nats.calls import Calls
from hivewire.nats.declarations import Declarations, filter_of, says_shards, shape_of, subscriber_of
from hivewire.nats.event_stream import EventStream
from hivewire.nats.handling import Handling
from hivewire.nats.kept_streams import KeptStreams
from hivewire.nats.measured_calls import MeasuredCalls
from hivewire.nats.measurements import Measurements
from hivewire.nats.message_records import MessageRecords
from hivewire.nats.options import OptionKeywords, RuntimeOptions
from hivewire.nats.outbox import Outbox
from hivewire.nats.outgoing import Outgoing
from hivewire.nats.provisioned import ProvisionedElsewhere
from hivewire.nats.provisioner import Provisioner, Provisioning
from hivewire.nats.registry import Registry
from hivewire.nats.retention import checked_retention
from hivewire.nats.schedules import Scheduling
from hivewire.nats.serving import Serving
from hivewire.nats.stream_watch import StreamWatch
from hivewire.nats.subjects import Subjects
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.tokens import slot
from hivewire.nats.topic_filters import TopicFilter
from hivewire.telemetry import MessageTracer, RuntimeMetrics

log = logging.getLogger("hivewire.runtime")
_event_log = logging.getLogger(EVENT_LOGGER_NAME)

AgentT = TypeVar("AgentT", bound=Agent)

_IDLE_POLL_S = 0.02
_TICK_S = 1.0


class NatsAgentRuntime(OperatingHost):
    """An agent runtime over NATS: any number of processes, one agent API.

    Register agents before or after `start`; `async with` starts it and stops it. `broker_url` is `nats://host:4222` or
    `tls://...`, several separated by commas, or `"embedded"`, which runs a nats-server of its own for the time of this
    runtime. Options are those of `RuntimeOptions`.

    Guarantees: a direct message ends in exactly one outcome and runs at most once. A publish that returned is stored,
    and every agent that subscribes handles it, or gives it up to the dead letters after the retries of its class. All
    messages of one agent key meet in one process, however many serve its type. An agent that overrides `save_state` is
    stored after its messages, and each event of its key counts once in its state, in the order of the stream, whatever
    crashes. Not guaranteed: order between direct messages and events, and that an agent without state handles an event
    only once when an attempt fails or a process dies.
    """

    _handling: ClassVar[type[Handling]] = Handling
    _component: ClassVar[str] = "worker"
    _tracing: ClassVar[type[MessageTracer]] = MessageTracer

    def __init__(self, broker_url: str, *, instance_id: str | None = None, **options: Unpack[OptionKeywords]) -> None:
        self._options = (
            RuntimeOptions(**options) if instance_id is None else RuntimeOptions(instance_id=instance_id, **options)
        )
        checked_concurrency(self._options.concurrency, "runtime option `concurrency`")
        checked_retention(self._options.event_retention)
        super().__init__(
            strict_ids=self._options.strict_ids,
            strict_payloads=self._options.strict_payloads,
            strict_unhandled=self._options.strict_unhandled,
        )
        self._subjects = Subjects(self._options.namespace)
        self._broker = Broker(
            broker_url,
            name=f"hivewire {self._options.instance_id}",
            credentials=self._options.credentials,
            inbox=self._subjects.replies(self._options.deployment),
        )
        self._provisioning: Provisioning = (
            Provisioner(broker=self._broker, subjects=self._subjects)
            if self._options.provision
            else ProvisionedElsewhere(broker=self._broker, subjects=self._subjects)
        )
        self._interventions = InterventionChain(self._options.intervention_handlers)
        self._tracer = self._tracing(
            self._options.tracer_provider,
            instance=self._options.instance_id,
            system="nats",
            template_of=self._subjects.template_of,
        )
        self._metrics = RuntimeMetrics(self._options.namespace, component=self._component, version=__version__)
        self._tasks = TaskScope(on_failure=self._fail)
        self._declarations = Declarations()
        self._adopted: list[tuple[AgentId, list[TopicFilter]]] = []
        self._event_stream: EventStream
        self._registry: Registry
        self._calls: Calls
        self._outgoing: Outgoing
        self._scheduling: Scheduling
        self._kept_streams: KeptStreams
        self._serving: Serving
        self._measurements: Measurements

    def __repr__(self) -> str:
        types = sorted(self._catalog.types())
        return f"<NatsAgentRuntime {self._state} namespace={self._options.namespace!r} types={types}>"

    @property
    def instance_id(self) -> str:
        """The label of this process, for people."""
        return self._options.instance_id

    @property
    def deployment(self) -> str:
        """The group of interchangeable processes that this one belongs to."""
        return self._options.deployment

    @property
    def unrouted_messages_count(self) -> int:
        """How many published messages nobody subscribed to, as far as this process knew."""
        return self._outgoing.unrouted if self._state != "new" else 0

    @property
    def broker_url(self) -> str:
        """The address of the NATS server, also of an embedded one; empty before `connect`."""
        return self._broker.server_url

    @property
    def ready(self) -> Readiness:
        """Whether this process takes messages now, and why not. May be read from any thread."""
        if self._state != "started":
            draining = self._state == "stopping"
            return Readiness(False, "the runtime drains" if draining else f"the runtime is {self._state}")
        if not self._broker.connected.is_set():
            return Readiness(False, self._broker.trouble)
        if not self._serving.has_session():
            return Readiness(False, "this process has no session: it could not be renewed in time")
        return Readiness(True)

    # Lifecycle

    async def connect(self) -> Self:
        """Connect, so that messages can be sent; nothing is received before `start`.

        Raises:
            BrokerUnavailableError: no server answers there, or it is too old or has no JetStream.
            ValueError: the URL's scheme is unknown, or a type is registered elsewhere with another shape.
            RuntimeStateError: connected already.
        """
        self._expect("new")
        self._state = "connecting"
        try:
            await self._broker.open()
            created = await self._provisioning.ensure()
            stream = self._event_stream = EventStream(self._broker, self._subjects.events_stream, created)
            self._tracer.refresh()
            self._catalog.building = self._tracer.building if self._tracer.records else None
            self._registry = Registry(self._broker, self._subjects, stream)
            outbox = Outbox(self._broker)
            self._calls = Calls(
                self._broker,
                outbox,
                self._subjects,
                self._registry,
                delivery_timeout=self._options.delivery_timeout,
            )
            self._outgoing = Outgoing(
                self._broker,
                self._subjects,
                self._registry,
                MeasuredCalls(self._calls, self._registry, self._metrics),
                outbox,
                self._serializers,
                self._interventions,
                self._tracer,
                self._metrics,
                self._options,
            )
            self._scheduling = Scheduling(
                self._broker,
                self._subjects,
                self._serializers,
                self._interventions,
                self._tracer,
                timeout=self._options.publish_timeout,
            )
            self._kept_streams = KeptStreams(
                self._broker, self._subjects, self._tasks, store_timeout=self._options.publish_timeout
            )
            self._serving = Serving(
                self._broker,
                outbox,
                self._subjects,
                self._registry,
                self._catalog,
                self._serializers,
                self._interventions,
                self._tracer,
                self._metrics,
                self._tasks,
                self._options,
                stream,
                handling=self._handling,
            )
            self._measurements = Measurements(self._metrics, self._broker, self._catalog, self._serving)
            watch = StreamWatch(stream, provision=self._provisioning.ensure, begin_anew=self._begin_anew)
            await self._tasks.open()
            self._tasks.start(self._registry.run(), name="hivewire: registry")
            self._tasks.start(outbox.run(), name="hivewire: outbox")
            self._tasks.start(self._tick(), name="hivewire: tick")
            self._tasks.start(self._measurements.run(), name="hivewire: metrics")
            self._tasks.start(watch.run(), name="hivewire: stream watch")
            await self._registry.ready(10)
            self._state = "connected"
            await self._settle_adopted()
            messages = MessageRecords(self._broker, self._subjects)
            await self._declarations.announce(self._registry, self._provisioning, messages)
        except BaseException:
            self._state = "stopped"
            await self._tasks.close()
            await self._broker.close()
            self._metrics.end()
            raise
        return self

    async def start(self) -> None:
        """Begin to serve the registered agents; returns when this process takes its share of their messages.

        Raises:
            as `connect`, which it calls first if need be.
        """
        if self._state == "new":
            await self.connect()
        self._expect("connected")
        self._state = "starting"
        try:
            await self._declarations.settle()
            await self._serving.open()
            await self._serving.serve(self._declarations.shapes)
            for agent_id in self._declarations.instances:
                await self._serving.serve_instance(agent_id.type, agent_id.key)
        except BaseException:
            self._state = "connected"
            await self.stop()
            raise
        self._state = "started"

    # Messages

    async def send_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Send a message to one agent and return its answer; see `AgentRuntime`.

        Raises:
            AgentNotFoundError: no process registered the type, or has the instance.
            DeadlineExceededError: `timeout`, or the runtime's `default_timeout` or `delivery_timeout`, passed.
            WorkerLostError: the worker vanished after it had accepted the message, or whether the agent's state was
                stored is unknown.
            OverloadedError: the worker had no room for it until the deadline; it was not handled.
            StateConflictError: somebody else wrote the agent's state meanwhile; the message had no effect on it.
            BrokerUnavailableError: there is no connection to NATS.
            MessageTooLargeError: the message, or the agent's state, exceeds the broker's limit.
            RuntimeStateError: not connected, or stopped while the call waited.
        """
        check_timeout(timeout)
        await self._ready()
        if self._options.strict_ids:
            check_strict_agent_id(recipient)
        if cancellation_token is not None and cancellation_token.is_cancelled:
            raise asyncio.CancelledError("The token was cancelled before the message was sent")
        with self._span_of(message, recipient):
            return await self._outgoing.send(
                message,
                recipient,
                sender=sender,
                cancellation_token=cancellation_token,
                message_id=message_id,
                timeout=timeout,
            )

    def stream_message(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
        timeout: float | None = None,
        resumable: bool = False,
    ) -> MessageStream:
        """Send a message to one agent and iterate over what its handler yields; see `AgentRuntime`.

        Raises:
            RuntimeStateError: not connected. Whatever `send_message` raises comes out of the iteration.
        """
        check_timeout(timeout)
        self._check_connected()
        if self._options.strict_ids:
            check_strict_agent_id(recipient)
        if resumable:
            return self._outgoing.stream_kept(
                message,
                recipient,
                sender=sender,
                cancellation_token=cancellation_token,
                message_id=message_id,
                timeout=timeout,
                streams=self._kept_streams,
            )
        return self._outgoing.stream(
            message,
            recipient,
            sender=sender,
            cancellation_token=cancellation_token,
            message_id=message_id,
            timeout=timeout,
            tasks=self._tasks,
        )

    def resume_stream(self, stream_id: str, *, after: int = 0, timeout: float | None = None) -> MessageStream:
        """Read a resumable stream, which any process may have opened, from the chunk that follows number `after`; see
        `AgentRuntime`.

        Raises:
            RuntimeStateError: not connected.
            ValueError: `after` is negative.
            BrokerUnavailableError: out of the iteration: there is no connection to NATS for long.
        """
        self._check_connected()
        check_position(after)
        check_timeout(timeout)
        return self._kept_streams.resume(stream_id, self._outgoing.decoded, after=after, timeout=timeout)

    async def publish_message(
        self,
        message: Any,
        topic_id: TopicId,
        *,
        sender: AgentId | None = None,
        cancellation_token: CancellationToken | None = None,
        message_id: str | None = None,
    ) -> None:
        """Publish an event; returns when the broker has stored it. See `AgentRuntime`.

        A message that nobody subscribes to counts as unrouted and is logged. What a turn publishes is stored once, also
        when the turn is run again within two minutes.

        Raises:
            BrokerUnavailableError: it was not stored within `publish_timeout`; whether it is stored is unknown.
            UndeliverableException: the event stream is full.
            MessageTooLargeError: the message exceeds the broker's limit.
            RuntimeStateError: not connected.
        """
        await self._ready()
        if self._options.strict_ids:
            check_strict_topic_id(topic_id)
        if cancellation_token is not None and cancellation_token.is_cancelled:
            raise asyncio.CancelledError("The token was cancelled before the message was published")
        with self._span_of(message, topic_id):
            await self._outgoing.publish(
                message, topic_id, sender=sender, cancellation_token=cancellation_token, message_id=message_id
            )

    async def _schedule(
        self, message: Any, target: AgentId | TopicId, rule: ScheduleRule, *, id: str | None, sender: AgentId | None
    ) -> Schedule:
        return await self._scheduling.schedule(message, target, rule, schedule_id=id, sender=sender)

    async def _all_schedules(self) -> list[Schedule]:
        records, unreadable = await self._scheduling.store.all()
        for problem in unreadable:
            log.error("a schedule can't be read: %s", problem)
        return [record.schedule for record in records]

    async def _find_schedule(self, id: str) -> Schedule:
        record = await self._scheduling.store.get(id)
        if record is None:
            raise ScheduleNotFoundError(f"There is no schedule {id!r}, or it has fired for the last time")
        return record.schedule

    async def _cancel_schedule(self, id: str) -> bool:
        await self._ready()
        return await self._scheduling.store.cancel(id)

    # Agents

    async def register_factory(
        self,
        type: str | AgentType,
        agent_factory: Callable[[], AgentT | Awaitable[AgentT]],
        *,
        expected_class: type[AgentT] | None = None,
    ) -> AgentType:
        """Register how agents of a type are made, in this and any number of other processes. Adds no subscription.

        Raises:
            ValueError: the type is not a valid one, is taken in this process, or has another shape in another process.
        """
        agent_type = type if isinstance(type, AgentType) else AgentType(type)
        return await self.register_type(
            agent_type, agent_factory, expected_class=expected_class, subscriptions=(), serializers=()
        )

    async def register_type(
        self,
        type: AgentType,
        agent_factory: Callable[[], AgentT | Awaitable[AgentT]],
        *,
        expected_class: type[AgentT] | None,
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> AgentType:
        """Register a type with its subscriptions and serializers, all or nothing.

        Raises:
            ValueError: as `register_factory`, or a subscription is refused.
        """
        own = [filter_of(each) for each in subscriptions if subscriber_of(each) == type.type]
        of_others = [each for each in subscriptions if subscriber_of(each) != type.type]
        shape = shape_of(expected_class)
        await self._settle_adopted()
        await super().register_factory(type, agent_factory, expected_class=expected_class)
        added: Sequence[Subscription] = ()
        try:
            self._add_all(subscriptions)
            added = subscriptions
            messages = self._described(type.type, expected_class, agent_factory)
            any_shards = not says_shards(expected_class)
            await self._declarations.add_type(type.type, shape, own, any_shards=any_shards, messages=messages)
            for subscription in of_others:
                await self._declarations.add(subscription, serving=self._state == "started")
            await self._serve_new(type.type)
        except BaseException:
            self._declarations.forget(type.type)
            self._catalog.remove_type(type.type)
            for subscription in added:
                self._subscriptions.remove(subscription.id)
            raise
        self._serializers.add(list(serializers))
        return type

    async def register_agent_instance(self, agent_instance: Agent, agent_id: AgentId) -> AgentId:
        """Register one agent that exists already; it is served while this process lives. Adds no subscription.

        Raises:
            ValueError: the id is taken, its type has a factory or instances of another class.
        """
        await super().register_agent_instance(agent_instance, agent_id)
        await self._add_instance(agent_id)
        return agent_id

    def adopt_instance(
        self,
        agent: Agent,
        agent_id: AgentId,
        *,
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> None:
        """Register an agent from code that cannot await; the broker learns of it at the next await on this runtime.

        Raises:
            ValueError: as `register_agent_instance`.
        """
        filters = [filter_of(subscription) for subscription in subscriptions]
        super().adopt_instance(agent, agent_id, subscriptions=subscriptions, serializers=serializers)
        self._adopted.append((agent_id, filters))

    async def add_subscription(self, subscription: Subscription) -> None:
        """Add a subscription; it holds for every event that is published after this returns, in any process.

        Before `start` it is part of what this process declares of a type that it registered, and goes away when the
        code no longer adds it. Later, or for a type of other processes, it stays until it is removed.

        Raises:
            ValueError: an equal one exists in this process, or it is not one of the built-in kinds.
        """
        filter_of(subscription)
        await self._settle_adopted()
        self._subscriptions.add(subscription)
        try:
            await self._declarations.add(subscription, serving=self._state == "started")
        except BaseException:
            self._subscriptions.remove(subscription.id)
            raise

    async def remove_subscription(self, id: str) -> None:
        """Remove a subscription of this process, for all processes; later events no longer reach its agents.

        Raises:
            SubscriptionNotFoundError: there is none of that id.
        """
        await self._settle_adopted()
        await self._declarations.remove(self._subscriptions.remove(id))

    async def try_get_underlying_agent_instance(
        self,
        id: AgentId,
        type: type[AgentT] = Agent,  # type: ignore[assignment]  # mypy: a default for a type variable
    ) -> AgentT:
        """Return the agent object, building it first if need be.

        Raises:
            LookupError: the agent is unknown.
            NotAccessibleError: it lives in another process.
            TypeError: it is of another class.
        """
        await self._settle_adopted()
        if not self._lives_here(id):
            raise NotAccessibleError(f"Agent {id} lives in another process: send it a message instead")
        if self._state == "started":
            await self._serving.turns.activate(id)
        return await super().try_get_underlying_agent_instance(id, type)

    async def _operate(
        self, operation: Literal["metadata", "save_state", "load_state"], agent: AgentId, argument: Any = None
    ) -> Any:
        return await self._outgoing.operate(operation, agent, argument)

    async def save_state(self) -> Mapping[str, Any]:
        """Return the states of the agents that are active in this process, by their ids as text."""
        return await super().save_state()

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Give agents the states that `save_state` returned, in whatever processes they live. Types that this process
        does not register are ignored.

        Raises:
            StateConflictError: somebody else wrote an agent's state at the same time.
        """
        for id_text, agent_state in state.items():
            agent_id = AgentId.from_str(id_text)
            if self._catalog.has_type(agent_id.type):
                await self.agent_load_state(agent_id, agent_state)

    # Registration

    async def _serve_new(self, agent_type: str) -> None:
        if self._state == "started":
            await self._serving.serve({agent_type: self._declarations.shapes[agent_type]})

    async def _add_instance(self, agent_id: AgentId, filters: Sequence[TopicFilter] = ()) -> None:
        try:
            messages = self._described(agent_id.type, self._catalog.agent_class(agent_id.type))
            await self._declarations.add_instance(agent_id, filters, messages=messages)
            if self._state == "started":
                await self._serving.serve_instance(agent_id.type, agent_id.key)
        except BaseException:
            self._forget_instance(agent_id)
            raise

    async def _settle_adopted(self) -> None:
        while self._adopted and self._state in ("new", "connected", "started"):
            await self._add_instance(*self._adopted.pop(0))

    def _described(
        self, agent_type: str, agent_class: type[Any] | None, factory: Callable[..., Any] | None = None
    ) -> TypeMessages:
        return described(agent_type, agent_class, factory)

    def _lives_here(self, agent_id: AgentId) -> bool:
        if not self._catalog.has_type(agent_id.type):
            record = self._registry.get(agent_id.type) if self._state in ("connected", "started") else None
            if record is not None and record.shape is not None:
                return False
            raise AgentNotFoundError(f"Recipient not found: no agent type {agent_id.type!r} is registered")
        return self._state != "started" or self._serving.owns(agent_id.type, slot(agent_id.key))

    # Running

    async def _ready(self) -> None:
        if self._adopted:
            await self._settle_adopted()
        self._check_connected()

    async def _is_idle(self) -> bool:
        outgoing = self._outgoing
        return not outgoing.publishing and await self._serving.is_idle() and not outgoing.publishing

    async def _tick(self) -> None:
        """Count the seconds in which the event loop was responsive; in others nobody could have been heard."""
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(_TICK_S)
            if loop.time() - begun < 2 * _TICK_S:
                self._calls.tick()

    async def _begin_anew(self) -> None:
        """Go on with an event stream that took the place of another one."""
        registered = [record.name for record in self._registry.types()]
        # Who provisions sees to all types, the others to their own.
        types = registered if self._options.provision else [name for name in registered if self._catalog.has_type(name)]
        for name in types:
            if (record := self._registry.get(name)) is not None:
                # A stateless type gets what is stored once its consumer is there, so this comes first.
                await self._provisioning.ensure_type(record)
        await self._serving.stream_changed()
        await self._registry.begin_anew(types)

    async def _stop(self, *, draining: bool = True) -> None:
        was_started = self._state in ("started", "starting")
        self._state = "stopping"
        try:
            if was_started and draining and self._tasks.failure is None:
                await self._serving.drain(self._options.drain_timeout)
            self._calls.close(RuntimeStateError("The runtime stopped while the call waited for its answer"))
            await self._tasks.close()
            for agent_id in self._catalog.live_ids():
                await self._catalog.passivate(agent_id)
            await self._serving.close()
            await self._broker.close()
        finally:
            self._measurements.end()
            self._state = "stopped"
            self._stopped.set()

    def _start_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.start(work, name=name)

    def _fail(self) -> None:
        """A part of the runtime is broken: stop, so that others take over and the process ends."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="hivewire: stop after a failure")

    def _raise_failure(self) -> None:
        if self._tasks.failure is not None:
            raise RuntimeStateError("The runtime failed and has stopped") from self._tasks.failure
