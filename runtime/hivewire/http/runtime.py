"""The agent API through a gateway: agents in a process that reaches nothing but one port."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Self, TypeVar

from typing_extensions import Unpack

from hivewire.agents.concurrency import checked_concurrency
from hivewire.agents.descriptions import described
from hivewire.agents.operating_host import OperatingHost
from hivewire.exceptions import (
    AgentNotFoundError,
    HivewireError,
    NotAccessibleError,
)
from hivewire.http import wire
from hivewire.http.channel import Channel, ChannelClosedError, IncomingRequest
from hivewire.http.declarations import Declarations, instance_registration, registration
from hivewire.http.dialling import check_extra
from hivewire.http.event_reports import EventReports
from hivewire.http.frames import Header
from hivewire.http.hosted import HostedAgents
from hivewire.http.link import Link
from hivewire.http.options import HttpOptionKeywords, HttpOptions
from hivewire.http.outgoing import Outgoing
from hivewire.http.requests import Requests
from hivewire.http.streams import HttpMessageStream, StreamRequest
from hivewire.http.traits import traits_of
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
from hivewire.telemetry import MessageTracer

__all__ = ["HttpAgentRuntime"]

log = logging.getLogger("hivewire.http")

AgentT = TypeVar("AgentT", bound=Agent)

_STOP_MARGIN_S = 15.0


class HttpAgentRuntime(OperatingHost):
    """An agent runtime that reaches NATS and all others through a gateway, by one WebSocket to its one port.

    Register agents before or after `start`; `async with` starts it and stops it. `gateway_url` is `http://host:8080` or
    `https://...`. Options are those of `HttpOptions`. The namespace is the gateway's.

    The API and its guarantees are those of `NatsAgentRuntime`: the gateway holds a session, shards and states for this
    process as if it were one on NATS. When the connection breaks, the runtime connects again, to any gateway behind the
    address, and registers everything anew. What was under way then has the outcomes of a killed process: its handlers
    are cancelled, its agents leave memory, events are handled again, and a call whose outcome is unknown ends with
    `WorkerLostError`. What is sent meanwhile waits for the connection, within its deadline.
    """

    def __init__(
        self, gateway_url: str, *, instance_id: str | None = None, **options: Unpack[HttpOptionKeywords]
    ) -> None:
        check_extra()
        self._options = (
            HttpOptions(**options) if instance_id is None else HttpOptions(instance_id=instance_id, **options)
        )
        checked_concurrency(self._options.concurrency, "runtime option `concurrency`")
        super().__init__(
            strict_ids=self._options.strict_ids,
            strict_payloads=self._options.strict_payloads,
            strict_unhandled=self._options.strict_unhandled,
        )
        interventions = InterventionChain(self._options.intervention_handlers)
        reports = EventReports(record_payloads=self._options.record_payloads)
        self._tracer = MessageTracer(self._options.tracer_provider, instance=self._options.instance_id, system="nats")
        self._link = Link(gateway_url, self, token=self._options.token)
        self._requests = Requests(self._link, self._tracer, delivery_timeout=self._options.delivery_timeout)
        self._outgoing = Outgoing(self._requests, self._serializers, interventions, reports, self._options)
        self._hosted = HostedAgents(
            self._catalog, self._serializers, interventions, self._tracer, reports, self._requests
        )
        self._declarations = Declarations()
        self._adopted: list[tuple[AgentId, Header, Sequence[Subscription]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<HttpAgentRuntime {self._state} types={sorted(self._catalog.types())}>"

    @property
    def unrouted_messages_count(self) -> int:
        """How many published messages nobody subscribed to, as far as the gateway knew."""
        return self._outgoing.unrouted

    @property
    def ready(self) -> Readiness:
        """Whether this process takes messages now, and why not. May be read from any thread."""
        if self._state != "started":
            draining = self._state == "stopping"
            return Readiness(False, "the runtime drains" if draining else f"the runtime is {self._state}")
        if not self._link.connected:
            return Readiness(False, f"no connection to the gateway: {self._link.trouble}")
        return Readiness(True)

    # Lifecycle

    async def connect(self) -> Self:
        """Connect, so that messages can be sent; nothing is received before `start`.

        Raises:
            AccessDeniedError: the gateway refuses the token, or a type that is registered.
            BrokerUnavailableError: no gateway answers there, or it has no broker.
            ValueError: a type is registered elsewhere with another shape.
            RuntimeStateError: connected already.
        """
        self._expect("new")
        self._state = "connecting"
        try:
            self._tracer.refresh()
            self._catalog.building = self._tracer.building if self._tracer.records else None
            self._declare_adopted()
            await self._link.open()
        except BaseException:
            self._state = "stopped"
            await self._link.close()
            raise
        self._state = "connected"
        return self

    async def start(self) -> None:
        """Begin to serve the registered agents; returns when this process takes its share of their messages.

        Raises:
            as `connect`, which it calls first if need be.
        """
        if self._state == "new":
            await self.connect()
        self._expect("connected")
        await self._settle_adopted()
        self._state = "starting"
        try:
            await self._requests.ask("start")
        except BaseException:
            self._state = "connected"
            await self.stop()
            raise
        self._state = "started"

    async def greet(self, channel: Channel) -> None:
        """Begin a connection. The link calls this."""
        header = {
            "protocol": 1,
            "instance": self._options.instance_id,
            "deployment": self._options.deployment,
            "options": self._options.for_gateway(),
        }
        answer = await channel.answer_to("hello", header)
        self._requests.max_payload = int(answer.header["max_payload"])
        self._outgoing.reconnected()
        await self._declarations.tell(channel)
        if self._state == "started":
            await channel.answer_to("start")

    async def serve(self, channel: Channel, request: IncomingRequest) -> tuple[Header, bytes]:
        """Answer the gateway. The link calls this."""
        if request.op == "leaving":
            self._link.leave(channel)
            return {}, b""
        return await self._hosted.serve(channel, request)

    async def forget(self, channel: Channel) -> None:
        """Drop the agents of a connection that has ended. The link calls this."""
        if self._state != "stopping":
            await self._hosted.drop_all()

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
            WorkerLostError: the worker vanished after it had accepted the message, or the connection to the gateway
                broke after it was sent.
            OverloadedError: the worker had no room for it until the deadline; it was not handled.
            StateConflictError: somebody else wrote the agent's state meanwhile; the message had no effect on it.
            BrokerUnavailableError: there is no connection to the gateway, or from there to NATS.
            AccessDeniedError: the gateway does not let this worker send to the agent.
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
                message, recipient, sender=sender, token=cancellation_token, message_id=message_id, timeout=timeout
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
        stream_id = secrets.token_hex(12) if resumable else None

        async def prepare() -> tuple[str, Header, bytes]:
            if cancellation_token is not None and cancellation_token.is_cancelled:
                raise asyncio.CancelledError("The token was cancelled before the message was sent")
            header, payload = await self._outgoing.enveloped(message, recipient, sender, cancellation_token, message_id)
            return "stream", {**header, "stream": stream_id}, payload

        asked = StreamRequest(
            self._requests,
            prepare,
            timeout=self._options.default_timeout if timeout is None else timeout,
            token=cancellation_token,
            reconnect_timeout=self._options.delivery_timeout,
        )
        decode = partial(self._outgoing.answered, recipient=recipient, sender=sender)
        return HttpMessageStream(asked, decode, id=stream_id, announced=resumable)

    def resume_stream(self, stream_id: str, *, after: int = 0, timeout: float | None = None) -> MessageStream:
        """Read a resumable stream, which any process may have opened, from the chunk that follows number `after`; see
        `AgentRuntime`.

        Raises:
            RuntimeStateError: not connected.
            ValueError: `after` is negative.
            BrokerUnavailableError: out of the iteration: there is no connection for long.
        """
        self._check_connected()
        check_position(after)
        check_timeout(timeout)

        async def prepare() -> tuple[str, Header, bytes]:
            return "resume", {"stream": stream_id, "after": after}, b""

        asked = StreamRequest(
            self._requests,
            prepare,
            timeout=timeout,
            token=None,
            reconnect_timeout=self._options.delivery_timeout,
        )
        return HttpMessageStream(asked, self._outgoing.decoded, after=after, id=stream_id)

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

        A message that nobody subscribes to counts as unrouted. What a turn publishes is stored once, also when the turn
        is run again within two minutes; and once when the connection to the gateway breaks meanwhile.

        Raises:
            BrokerUnavailableError: it was not stored within `publish_timeout`; whether it is stored is unknown.
            UndeliverableException: the event stream is full.
            AccessDeniedError: the gateway does not let this worker publish to the topic.
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
                message, topic_id, sender=sender, token=cancellation_token, message_id=message_id
            )

    async def _schedule(
        self, message: Any, target: AgentId | TopicId, rule: ScheduleRule, *, id: str | None, sender: AgentId | None
    ) -> Schedule:
        return await self._outgoing.schedule(message, target, rule, id=id, sender=sender)

    async def _all_schedules(self) -> list[Schedule]:
        return await self._outgoing.schedules()

    async def _find_schedule(self, id: str) -> Schedule:
        return wire.schedule_of((await self._requests.ask("get_schedule", {"schedule": id})).header)

    async def _cancel_schedule(self, id: str) -> bool:
        await self._ready()
        return bool((await self._requests.ask("cancel_schedule", {"schedule": id})).header["cancelled"])

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
            AccessDeniedError: the gateway does not let this worker serve the type.
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
            AccessDeniedError: the gateway does not let this worker serve the type, or read what it subscribes to.
        """
        traits = None if expected_class is None else traits_of(expected_class)
        request = registration(type.type, traits, subscriptions)
        messages = described(type.type, expected_class, agent_factory).to_json()
        await self._settle_adopted()
        await super().register_factory(type, agent_factory, expected_class=expected_class)
        added: Sequence[Subscription] = ()
        try:
            self._add_all(subscriptions)
            added = subscriptions
            if self._is_connected:
                await self._requests.ask("register", request, messages)
        except BaseException:
            self._catalog.remove_type(type.type)
            for subscription in added:
                self._subscriptions.remove(subscription.id)
            raise
        self._declarations.add_type(type.type, traits, subscriptions, messages)
        self._serializers.add(list(serializers))
        return type

    async def register_agent_instance(self, agent_instance: Agent, agent_id: AgentId) -> AgentId:
        """Register one agent that exists already; it is served while this process lives. Adds no subscription.

        Raises:
            ValueError: the id is taken, its type has a factory, or instances of another class.
            AccessDeniedError: the gateway does not let this worker serve the type.
        """
        await super().register_agent_instance(agent_instance, agent_id)
        await self._add_instance(agent_id, traits_of(agent_instance.__class__), ())
        return agent_id

    def adopt_instance(
        self,
        agent: Agent,
        agent_id: AgentId,
        *,
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> None:
        """Register an agent from code that cannot await; the gateway learns of it at the next await on this runtime.

        Raises:
            ValueError: as `register_agent_instance`.
        """
        for subscription in subscriptions:
            wire.subscription_value(subscription)
        super().adopt_instance(agent, agent_id, subscriptions=subscriptions, serializers=serializers)
        self._adopted.append((agent_id, traits_of(agent.__class__), subscriptions))

    async def add_subscription(self, subscription: Subscription) -> None:
        """Add a subscription; it holds for every event that is published after this returns, in any process.

        Before `start` it is part of what this process declares of a type that it registered, and goes away when the
        code no longer adds it. Later, or for a type of other processes, it stays until it is removed.

        Raises:
            ValueError: an equal one exists in this process, or it is not one of the built-in kinds.
            AccessDeniedError: the gateway does not let this worker read the topic.
        """
        value = wire.subscription_value(subscription)
        await self._settle_adopted()
        self._subscriptions.add(subscription)
        try:
            if self._is_connected:
                await self._requests.ask("subscribe", {"subscription": value})
        except BaseException:
            self._subscriptions.remove(subscription.id)
            raise
        if self._state in ("new", "connecting", "connected"):
            self._declarations.add(subscription)

    async def remove_subscription(self, id: str) -> None:
        """Remove a subscription of this process, for all processes; later events no longer reach its agents.

        Raises:
            SubscriptionNotFoundError: there is none of that id.
        """
        await self._settle_adopted()
        subscription = self._subscriptions.remove(id)
        self._declarations.remove(subscription)
        if self._is_connected:
            await self._requests.ask("unsubscribe", {"subscription": wire.subscription_value(subscription)})

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
        if not await self._lives_here(id):
            raise NotAccessibleError(f"Agent {id} lives in another process: send it a message instead")
        if self._state == "started":
            await self._requests.ask("activate", {"agent": wire.agent_value(id)})
        return await super().try_get_underlying_agent_instance(id, type)

    async def _operate(
        self, operation: Literal["metadata", "save_state", "load_state"], agent: AgentId, argument: Any = None
    ) -> Any:
        return await self._outgoing.operate(operation, agent, argument)

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

    @property
    def _is_connected(self) -> bool:
        return self._state in ("connected", "starting", "started")

    async def _add_instance(self, agent_id: AgentId, traits: Header, subscriptions: Sequence[Subscription]) -> None:
        messages = described(agent_id.type, self._catalog.agent_class(agent_id.type)).to_json()
        try:
            if self._is_connected:
                request = instance_registration(agent_id, traits, subscriptions)
                await self._requests.ask("register_instance", request, messages)
        except BaseException:
            self._forget_instance(agent_id)
            raise
        self._declarations.add_instance(agent_id, traits, subscriptions, messages)

    async def _settle_adopted(self) -> None:
        while self._adopted and self._is_connected:
            await self._add_instance(*self._adopted.pop(0))

    def _declare_adopted(self) -> None:
        while self._adopted:
            agent_id, traits, subscriptions = self._adopted.pop(0)
            messages = described(agent_id.type, self._catalog.agent_class(agent_id.type)).to_json()
            self._declarations.add_instance(agent_id, traits, subscriptions, messages)

    async def _lives_here(self, agent_id: AgentId) -> bool:
        if self._catalog.has_type(agent_id.type) and self._state != "started":
            return True
        if not self._is_connected:
            raise AgentNotFoundError(f"Recipient not found: no agent type {agent_id.type!r} is registered")
        return bool((await self._requests.ask("locate", {"agent": wire.agent_value(agent_id)})).header["here"])

    # Running

    async def _ready(self) -> None:
        if self._adopted:
            await self._settle_adopted()
        self._check_connected()

    async def _is_idle(self) -> bool:
        outgoing = self._outgoing
        if outgoing.publishing:
            return False
        answer = await self._requests.ask("idle")
        return bool(answer.header["idle"]) and not outgoing.publishing

    def _start_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop(self) -> None:
        self._state = "stopping"
        self._requests.stopping = True
        self._link.stay_away()
        try:
            await self._leave()
            await self._link.close()
            for agent_id in self._catalog.live_ids():
                await self._catalog.passivate(agent_id)
        finally:
            self._state = "stopped"
            self._stopped.set()

    async def _leave(self) -> None:
        """Have the gateway hand over all work, and wait for the handlers that run."""
        channel = self._link.current
        if channel is None:
            return
        try:
            async with asyncio.timeout(self._options.drain_timeout + _STOP_MARGIN_S):
                await channel.answer_to("stop")
        except (HivewireError, ChannelClosedError, TimeoutError) as error:
            log.warning("the gateway did not see this worker off: %s", error)
