"""What one process of a namespace does for all, where those that serve agents may not: on Kubernetes, the operator.

It makes the streams, buckets and consumers and repairs what becomes of them, registers types and subscriptions, removes
the events that all have finished, takes part in forwarding schedules, and watches the system for the metrics. All of it
may be done by several at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Final, Self

from nats.aio.msg import Msg

from hivewire.exceptions import BrokerUnavailableError, HivewireError, RuntimeStateError
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.buckets import Bucket, BucketView, WriteConflictError
from hivewire.nats.delivery import DeliveryPolicy
from hivewire.nats.event_stream import EventStream
from hivewire.nats.forwarder import Forwarder
from hivewire.nats.history import Histories, HistoryProgress
from hivewire.nats.janitor import Janitor
from hivewire.nats.observation import Observation
from hivewire.nats.observer import Observer
from hivewire.nats.permissions import OPERATOR
from hivewire.nats.provisioner import Provisioner
from hivewire.nats.recent_observer import RecentObserver
from hivewire.nats.registry import Registry, TypeRecord, TypeShape
from hivewire.nats.removal import remove_namespace, remove_type
from hivewire.nats.retention import checked_retention
from hivewire.nats.server_clock import ServerClock
from hivewire.nats.session import read_session
from hivewire.nats.stream_watch import StreamWatch
from hivewire.nats.subjects import Subjects, type_of_token
from hivewire.nats.system_watch import SystemWatch
from hivewire.nats.task_scope import TaskScope
from hivewire.nats.topic_filters import TopicFilter
from hivewire.nats.wakes import COMING, NOT_COMING
from hivewire.telemetry.system_metrics import SystemMetrics

log = logging.getLogger("hivewire.upkeep")

_VIEW_TIMEOUT_S: Final = 10.0
_FOLLOW_EVERY_S: Final = 0.2
_AGAIN_S: Final = 2.0


class Upkeep:
    """Keeps a namespace from `open` until `close`, or within `async with`.

    Args:
        replicas: Replicas of every stream and bucket, which are only ever raised.
        duplicate_window_s: How long the broker remembers the ids of published events.
        events_max_bytes: Size at which the event stream refuses new events; None leaves it as it is.
        event_retention_s: How long an event stays at least once all types have finished it.
        instance: A label of this process.
        on_wake: Called with the name of an agent type that nobody serves when a direct message waits for it; tells
            whether a process that serves it will come, for which the callers then wait.
    """

    def __init__(
        self,
        broker_url: str,
        *,
        namespace: str,
        credentials: str | None = None,
        replicas: int = 1,
        duplicate_window_s: float = 120,
        events_max_bytes: int | None = None,
        event_retention_s: float = 7 * 24 * 3600.0,
        instance: str = "upkeep",
        on_wake: Callable[[str], bool] | None = None,
    ) -> None:
        checked_retention(event_retention_s)
        self._subjects = Subjects(namespace)
        self._broker = Broker(
            broker_url,
            name=f"hivewire {instance} of {namespace}",
            credentials=credentials,
            inbox=self._subjects.replies(OPERATOR),
        )
        self._provisioner = Provisioner(
            broker=self._broker,
            subjects=self._subjects,
            replicas=replicas,
            duplicate_window_s=duplicate_window_s,
            events_max_bytes=events_max_bytes,
        )
        self._retention_s = event_retention_s
        self._instance = instance
        self._on_wake = on_wake
        self._tasks = TaskScope(on_failure=lambda: None)
        self._sessions = BucketView(Bucket(self._broker, self._subjects.leases_bucket))
        self._seen_to: dict[str, TypeRecord] = {}
        self._seeing_to = asyncio.Lock()
        self._stream: EventStream
        self._registry: Registry
        self._forwarder: Forwarder
        self._observer: RecentObserver

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @property
    def failure(self) -> BaseException | None:
        """What ended the work before its time; None: nothing has."""
        return self._tasks.failure

    @property
    def login_trouble(self) -> str:
        """Why the credentials that are there now are not used; empty: they are. What was there before still is."""
        return self._broker.login_trouble

    async def open(self) -> None:
        """Connect, make what is missing, and begin to keep it so.

        Raises:
            BrokerUnavailableError: no server answers there, or it is too old or has no JetStream.
            RuntimeStateError: something is there that can't be changed into what is planned.
            AccessDeniedError: the credentials don't allow something that it takes.
        """
        await self._broker.open()
        try:
            created = await self._provisioner.ensure()
            stream = self._stream = EventStream(self._broker, self._subjects.events_stream, created)
            self._registry = Registry(self._broker, self._subjects, stream)
            await self._begin(stream)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """End the work; firings that came are still forwarded."""
        if self._tasks.failure is None and hasattr(self, "_forwarder"):
            await self._forwarder.stop()
        await self._tasks.close()
        await self._broker.close()

    async def ensure(self) -> None:
        """Make everything once more that is missing or has changed.

        Raises:
            as `open`.
        """
        await self._provisioner.ensure()
        for record in self._registry.types():
            await self._provision(record, again=True)

    async def observe(self, *, timeout: float = 8.0) -> Observation:
        """Return how the system was at some moment of the last second.

        Raises:
            BrokerUnavailableError: it could not be read within `timeout` seconds, or the broker refuses.
        """
        try:
            return await self._observer.observe(timeout=timeout)
        except JetStreamError as error:
            raise BrokerUnavailableError(f"NATS does not tell what there is: {error}") from error
        except TimeoutError as error:
            raise BrokerUnavailableError(f"NATS did not tell within {timeout:g} s what there is") from error

    async def register_type(self, agent_type: str, shape: TypeShape) -> None:
        """Register a type before its processes come, so that it can be called and its events wait for them.

        Raises:
            ValueError: it is registered with another shape.
        """
        await self._provision(await self._registry.register(agent_type, shape))

    async def remove_type(self, agent_type: str) -> None:
        """Remove all that there is of a type, its states above all. May be repeated.

        Raises:
            RuntimeStateError: a process serves it.
            BrokerUnavailableError: JetStream did not answer in time; some of it may be gone.
        """
        serving = self._serving(agent_type)
        if serving:
            raise RuntimeStateError(f"{agent_type} is not removed, as {', '.join(serving)} serves it: stop that first")
        await self._removed(remove_type(self._broker, self._subjects, agent_type))
        self._seen_to.pop(agent_type, None)

    async def remove_namespace(self) -> None:
        """Remove all that there is in the namespace, and end the work: nothing but `close` may follow.

        Raises:
            as `remove_type`.
        """
        serving = self._serving(None)
        if serving:
            raise RuntimeStateError(f"the namespace is not removed, as {', '.join(serving)} is there: stop that first")
        await self._forwarder.stop()
        await self._tasks.close()
        await self._removed(remove_namespace(self._broker, self._subjects))

    async def _removed(self, removal: Coroutine[None, None, None]) -> None:
        try:
            await removal
        except WriteConflictError as error:
            raise RuntimeStateError(f"somebody still writes what is to be removed: {error}") from error
        except JetStreamError as error:
            raise BrokerUnavailableError(f"JetStream refuses to remove it: {error}") from error

    def _serving(self, agent_type: str | None) -> list[str]:
        """Return the processes that serve a type, or anything at all."""
        records = [read_session(entry.value) for entry in self._sessions.entries.values() if entry.value]
        return sorted(
            f"{each.deployment}/{each.instance}"
            for each in records
            if each is not None and (agent_type is None or agent_type in each.types)
        )

    async def add_subscription(
        self, agent_type: str, topics: TopicFilter, delivery: DeliveryPolicy | None = None
    ) -> None:
        """Add a subscription that stays until it is removed; it holds for every event that is published after this
        returns.

        `delivery` takes the place of the policy that the subscription had, from the next failure of any of its events;
        None: what the agent's class says.

        Raises:
            ValueError: the filter is too long for a subject.
        """
        topics.tail()
        await self._provision(await self._registry.subscribe(agent_type, topics, delivery))

    async def send_history(
        self, agent_type: str, topics: TopicFilter, delivery: DeliveryPolicy | None = None
    ) -> HistoryProgress:
        """Give a type the stored events that it did not get, and then the subscription to those that come: some of it
        at each call, until that is `done`. Afterwards it is as with `add_subscription`.

        Raises:
            ValueError: the filter is too long for a subject.
            AgentNotFoundError: nobody has registered the type, so nobody would keep the events for it.
            UndeliverableException: the event stream is full.
            BrokerUnavailableError: JetStream does not answer or refuses, or another process is at it.
        """
        topics.tail()
        histories = Histories(
            self._broker, self._subjects, self._stream, self._registry, self._tasks, provision=self._provision
        )
        try:
            return await histories.advance(agent_type, topics, delivery)
        except JetStreamError as error:
            raise BrokerUnavailableError(f"JetStream refuses to read the past events: {error}") from error

    async def remove_subscription(self, agent_type: str, topics: TopicFilter) -> None:
        """Remove a subscription; it holds for no event that is published after this returns."""
        await self._provision(await self._registry.remove(agent_type, topics))

    async def _begin(self, stream: EventStream) -> None:
        subjects, tasks = self._subjects, self._tasks
        watch = StreamWatch(stream, provision=self._provisioner.ensure, begin_anew=self._begin_anew)
        janitor = Janitor(self._broker, subjects, stream, retention_s=self._retention_s, is_alive=self._is_alive)
        self._observer = RecentObserver(Observer(self._broker, subjects, stream))
        system = SystemWatch(self._observer, SystemMetrics(subjects.namespace))
        clock = ServerClock(self._broker, subjects.schedules_stream)
        await tasks.open()
        tasks.start(self._registry.run(), name="hivewire: registry")
        tasks.start(self._sessions.run(), name="hivewire: sessions")
        await self._registry.ready(_VIEW_TIMEOUT_S)
        try:
            async with asyncio.timeout(_VIEW_TIMEOUT_S):
                await self._sessions.ready.wait()
        except TimeoutError:
            raise BrokerUnavailableError(f"The sessions could not be read within {_VIEW_TIMEOUT_S:g} s") from None
        tasks.start(watch.run(), name="hivewire: stream watch")
        tasks.start(self._follow_types(), name="hivewire: consumers of stateless types")
        tasks.start(janitor.run(lambda: True), name="hivewire: janitor")
        tasks.start(system.run(lambda: True, has_session=lambda: True), name="hivewire: system watch")
        self._forwarder = Forwarder(self._broker, subjects, self._registry, clock, tasks, instance=self._instance)
        self._forwarder.start()
        if self._on_wake is not None:
            await self._broker.subscribe(subjects.wakes, self._answer_wake)

    async def _answer_wake(self, message: Msg) -> None:
        assert self._on_wake is not None
        agent_type = type_of_token(message.subject.rpartition(".")[2])
        is_coming = agent_type is not None and self._on_wake(agent_type)
        if message.reply:
            await self._broker.publish(message.reply, COMING if is_coming else NOT_COMING)

    async def _follow_types(self) -> None:
        """Give each stateless type the consumer that its subscriptions need, whoever changes them."""
        seen = -1
        while True:
            pause, changes = _FOLLOW_EVERY_S, self._registry.changes
            if changes != seen:
                try:
                    for record in self._registry.types():
                        await self._provision(record)
                    seen = changes
                except (HivewireError, JetStreamError) as error:
                    log.warning("the consumers of stateless types are seen to later: %s", error)
                    pause = _AGAIN_S
            await asyncio.sleep(pause)

    async def _provision(self, record: TypeRecord, *, again: bool = False) -> None:
        async with self._seeing_to:
            known = None if again else self._seen_to.get(record.name)
            # The view of the registry may be behind what was changed here, and must not undo it.
            if known is None or known.change < record.change or known.shape is None:
                await self._provisioner.ensure_type(record)
                self._seen_to[record.name] = record

    async def _begin_anew(self) -> None:
        """Go on with an event stream that took the place of another one."""
        registered = self._registry.types()
        for record in registered:
            # A stateless type gets what is stored once its consumer is there, so this comes first.
            await self._provision(record, again=True)
        await self._registry.begin_anew([record.name for record in registered])

    def _is_alive(self, session: str) -> bool:
        return any(key.endswith(f".{session}") for key in self._sessions.entries)
