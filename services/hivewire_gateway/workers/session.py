"""One worker: its requests, and the runtime that stands in for it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Final

from hivewire import (
    AccessDeniedError,
    AgentId,
    MessageStream,
    RuntimeStateError,
    ScheduleRule,
    SerializationError,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
)
from hivewire.relay import (
    Channel,
    ChannelClosedError,
    Encoded,
    IncomingRequest,
    RelayRuntime,
    StandInRuntime,
    TypeMessages,
    is_relaying,
    wire,
)
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.principals import Principal
from hivewire_gateway.workers.remote import RemoteAgents
from hivewire_gateway.workers.settings import WorkerSettings
from hivewire_gateway.workers.socket import GOING_AWAY, WorkerSocket
from hivewire_gateway.workers.traits import read_traits

__all__ = ["WorkerSession"]

log = logging.getLogger("hivewire.gateway.workers")

_LONGEST_S: Final = 7 * 24 * 3600.0
_MOST_TURNS: Final = 100_000

Answer = tuple[dict[str, Any], bytes]


class WorkerSession:
    """Stands in for one worker from its first request to the end of its connection."""

    def __init__(
        self, socket: WorkerSocket, relay: RelayRuntime, principal: Principal, settings: WorkerSettings
    ) -> None:
        self._socket = socket
        self._relay = relay
        self._principal = principal
        self._settings = settings
        self._channel = Channel(socket, self._serve, context_of=self._context_of)
        self._agents = RemoteAgents(self._channel)
        self._runtime: StandInRuntime | None = None
        self._ended = asyncio.Event()
        self._operations: dict[str, Callable[[StandInRuntime, IncomingRequest], Awaitable[Answer]]] = {
            "register": self._register,
            "register_instance": self._register_instance,
            "subscribe": self._subscribe,
            "unsubscribe": self._unsubscribe,
            "start": self._start,
            "stop": self._stop,
            "idle": self._idle,
            "send": self._send,
            "stream": self._stream,
            "resume": self._resume,
            "cancel_stream": self._cancel_stream,
            "publish": self._publish,
            "schedule": self._schedule,
            "schedules": self._schedules,
            "get_schedule": self._get_schedule,
            "cancel_schedule": self._cancel_schedule,
            "operate": self._operate,
            "locate": self._locate,
            "activate": self._activate,
        }

    async def run(self) -> None:
        """Serve the worker until its connection ends, and then give up what it had."""
        is_relaying.set(True)
        try:
            await self._channel.run()
        finally:
            try:
                if self._runtime is not None:
                    await self._runtime.abandon()
            finally:
                self._ended.set()
                closed = self._channel.closed
                log.info("a worker has left: %s", closed.reason if closed is not None else "it was let go")

    async def drain(self, timeout_s: float) -> None:
        """Hand over all work, and send the worker to another gateway."""
        try:
            await self._channel.say({"id": 0, "op": "leaving"})
            if self._runtime is not None:
                await self._runtime.stop_within(timeout_s)
        except ChannelClosedError:
            pass
        await self._socket.close(GOING_AWAY, "the gateway ends; another one goes on")
        self._channel.close("the gateway ends")
        await self._ended.wait()

    def _context_of(self, request: IncomingRequest) -> Context | None:
        return self._agents.context_of(request.header.get("turn"))

    async def _serve(self, request: IncomingRequest) -> Answer:
        try:
            if request.op == "hello":
                return await self._hello(request)
            operation = self._operations.get(request.op)
            if operation is None:
                raise SerializationError(
                    f"The gateway knows no request {request.op!r}: it may be older than the worker"
                )
            if self._runtime is None:
                raise RuntimeStateError("The first request of a worker is to be `hello`")
            return await operation(self._runtime, request)
        except Problem as problem:
            raise AccessDeniedError(problem.detail) from None

    # The worker's life

    async def _hello(self, request: IncomingRequest) -> Answer:
        if self._runtime is not None:
            raise RuntimeStateError("The worker is connected already")
        header = request.header
        options = header.get("options")
        runtime = StandInRuntime(
            self._relay.broker_url,
            instance_id=wire.text_of(header, "instance"),
            namespace=self._relay.namespace,
            deployment=wire.text_of(header, "deployment"),
            credentials=self._relay.credentials,
            provision=self._relay.provisions,
            **_options_of(options if isinstance(options, dict) else {}, self._settings),
        )
        self._runtime = runtime
        await runtime.connect()
        log.info("worker %r of deployment %r has joined", header["instance"], header["deployment"])
        return {"max_payload": runtime.max_payload, "namespace": runtime.namespace}, b""

    async def _start(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        await runtime.start()
        return {}, b""

    async def _stop(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        await runtime.stop()
        return {}, b""

    async def _idle(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        return {"idle": await runtime.is_idle()}, b""

    # What it hosts

    async def _register(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        agent_type = wire.text_of(header, "agent_type")
        self._principal.check_serve(agent_type)
        subscriptions = self._subscriptions_of(header, own=agent_type)
        traits = None if header.get("traits") is None else read_traits(header["traits"])
        messages = _messages_of(request.payload)
        await runtime.host(agent_type, self._agents, traits, subscriptions, messages)
        return {}, b""

    async def _register_instance(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        agent = wire.agent_of(header.get("agent"))
        self._principal.check_serve(agent.type)
        subscriptions = self._subscriptions_of(header, own=agent.type)
        traits, messages = read_traits(header.get("traits")), _messages_of(request.payload)
        await runtime.host_instance(agent, self._agents, traits, subscriptions, messages)
        return {}, b""

    async def _subscribe(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        await runtime.add_subscription(self._checked_subscription(request.header.get("subscription")))
        return {}, b""

    async def _unsubscribe(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        await runtime.withdraw(self._checked_subscription(request.header.get("subscription")))
        return {}, b""

    def _subscriptions_of(self, header: dict[str, Any], *, own: str) -> list[TypeSubscription | TypePrefixSubscription]:
        return [self._checked_subscription(each, own=own) for each in header.get("subscriptions") or ()]

    def _checked_subscription(self, value: object, *, own: str = "") -> TypeSubscription | TypePrefixSubscription:
        subscription = wire.subscription_of(value)
        if subscription.agent_type != own:
            self._principal.check_serve(subscription.agent_type)
        if isinstance(subscription, TypeSubscription):
            self._principal.check_read(subscription.topic_type, None)
        elif subscription.topic_type_prefix != f"{subscription.agent_type}:":
            self._principal.check_read(f"{subscription.topic_type_prefix}*", None)
        return subscription

    async def _locate(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        return {"here": runtime.is_here(wire.agent_of(request.header.get("agent")))}, b""

    async def _activate(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        await runtime.activate(wire.agent_of(request.header.get("agent")))
        return {}, b""

    # What it sends

    async def _send(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        recipient = self._recipient_of(header)
        with _on_behalf(runtime, header, _chain_of(header.get("chain"))):
            answer = await runtime.send_message(
                wire.encoded_of(header, request.payload),
                recipient,
                sender=self._sender_of(header),
                message_id=wire.optional_text_of(header, "message"),
                timeout=wire.seconds_of(header, "timeout"),
            )
        if isinstance(answer, list):
            for chunk in answer:
                await request.give(*_value(chunk))
            return {"list": True}, b""
        return _value(answer)

    async def _stream(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        recipient = self._recipient_of(header)
        with _on_behalf(runtime, header, _chain_of(header.get("chain"))):
            stream = runtime.open_stream(
                wire.encoded_of(header, request.payload),
                recipient,
                sender=self._sender_of(header),
                message_id=wire.optional_text_of(header, "message"),
                timeout=wire.seconds_of(header, "timeout"),
                stream_id=wire.optional_text_of(header, "stream"),
            )
            if stream.id is not None:
                await stream.start()
                # From now on others find it.
                await request.give({"started": True}, b"")
            return await _streamed(request, stream)

    async def _resume(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        with _on_behalf(runtime, header):
            stream = runtime.resume_stream(
                wire.text_of(header, "stream"),
                after=int(wire.seconds_of(header, "after") or 0),
                timeout=wire.seconds_of(header, "timeout"),
            )
            return await _streamed(request, stream)

    async def _cancel_stream(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        await runtime.cancel_stream(wire.text_of(request.header, "stream"))
        return {}, b""

    async def _publish(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        topic = wire.topic_of(header.get("topic"))
        self._principal.check_publish(topic)
        with _on_behalf(runtime, header):
            await runtime.publish_message(
                wire.encoded_of(header, request.payload),
                topic,
                sender=self._sender_of(header),
                message_id=wire.text_of(header, "message"),
            )
        return {"unrouted": runtime.unrouted_messages_count}, b""

    async def _schedule(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        target = wire.target_of(header)
        self._check_target(target)
        rule: ScheduleRule = wire.rule_of(header.get("rule"))
        with _on_behalf(runtime, header):
            handle = await runtime.schedule_message(
                wire.encoded_of(header, request.payload),
                target,
                at=rule.at,
                after=rule.after,
                every=rule.every,
                cron=rule.cron,
                time_zone=rule.time_zone,
                id=wire.optional_text_of(header, "schedule"),
                sender=self._sender_of(header),
            )
        return wire.schedule_value(handle.schedule), b""

    async def _schedules(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        for schedule in await runtime.list_schedules():
            if self._may_aim_at(schedule.target):
                await request.give(wire.schedule_value(schedule), b"")
        return {}, b""

    async def _get_schedule(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        handle = await runtime.get_schedule(wire.text_of(request.header, "schedule"))
        self._check_target(handle.schedule.target)
        return wire.schedule_value(handle.schedule), b""

    async def _cancel_schedule(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        name = wire.text_of(request.header, "schedule")
        handle = None
        try:
            handle = await runtime.get_schedule(name)
        except LookupError:
            pass
        if handle is not None:
            self._check_target(handle.schedule.target)
        return {"cancelled": await runtime.cancel_schedule(name)}, b""

    async def _operate(self, runtime: StandInRuntime, request: IncomingRequest) -> Answer:
        header = request.header
        operation = header.get("operation")
        if operation not in ("metadata", "save_state", "load_state"):
            raise SerializationError(f"There is no operation {operation!r:.80}")
        agent = self._recipient_of(header)
        if operation != "metadata":
            # The state of an agent belongs to those who host it.
            self._principal.check_serve(agent.type)
        with _on_behalf(runtime, header, _chain_of(header.get("chain"))):
            return _value(await runtime.operate(operation, agent, request.payload))

    def _recipient_of(self, header: dict[str, Any]) -> AgentId:
        recipient: AgentId = wire.agent_of(header.get("to"))
        self._principal.check_send(recipient)
        return recipient

    def _sender_of(self, header: dict[str, Any]) -> AgentId | None:
        sender: AgentId | None = wire.optional_agent_of(header.get("sender"))
        if sender is not None:
            # Nobody speaks for agents of others.
            self._principal.check_serve(sender.type)
        return sender

    def _may_aim_at(self, target: AgentId | TopicId) -> bool:
        try:
            self._check_target(target)
        except Problem:
            return False
        return True

    def _check_target(self, target: AgentId | TopicId) -> None:
        if isinstance(target, AgentId):
            self._principal.check_send(target)
        else:
            self._principal.check_publish(target)


async def _streamed(request: IncomingRequest, stream: MessageStream) -> Answer:
    async with stream:
        async for chunk in stream:
            await request.give(*_value(chunk))
    return {}, b""


def _on_behalf(
    runtime: StandInRuntime, header: dict[str, Any], chain: tuple[str, ...] = ()
) -> AbstractContextManager[None]:
    published = header.get("published")
    return runtime.on_behalf(
        wire.trace_of(header),
        published=published if isinstance(published, int) else None,
        noticed=bool(header.get("noticed")),
        chain=chain,
    )


def _messages_of(payload: bytes) -> TypeMessages:
    try:
        return TypeMessages.from_json(payload)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SerializationError(f"Which messages the type handles can't be read: {error!r:.200}") from None


def _chain_of(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


def _value(value: Encoded | None) -> Answer:
    return ({"none": 1}, b"") if value is None else (wire.head_of(value), value.payload)


def _options_of(given: dict[str, Any], settings: WorkerSettings) -> dict[str, Any]:
    """Return the options of the runtime that stands in for a worker: what the worker asks for, within bounds."""
    options: dict[str, Any] = {}
    for name in ("default_timeout", "delivery_timeout", "publish_timeout", "drain_timeout", "event_retention"):
        seconds = wire.seconds_of(given, name)
        if seconds is not None and math.isfinite(seconds):
            longest = settings.max_drain_s if name == "drain_timeout" else _LONGEST_S
            options[name] = seconds if name == "event_retention" else min(seconds, longest)
    seconds = wire.seconds_of(given, "passivate_after")
    if seconds is not None:
        options["passivate_after"] = seconds
    for name in ("max_turns", "max_agents"):
        if isinstance(given.get(name), int):
            options[name] = min(given[name], _MOST_TURNS) if name == "max_turns" else given[name]
    if given.get("concurrency") is not None:
        options["concurrency"] = given["concurrency"]
    return options
