"""Messages on their way out of this process: intercepted, encoded, and handed to the gateway."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from typing import Any

from hivewire.exceptions import (
    BrokerUnavailableError,
    MessageDroppedException,
    RuntimeStateError,
    WorkerLostError,
)
from hivewire.http import wire
from hivewire.http.channel import Answer, ChannelClosedError
from hivewire.http.event_reports import EventReports
from hivewire.http.frames import Header
from hivewire.http.options import HttpOptions
from hivewire.http.requests import Requests, check_size
from hivewire.logging import DeliveryStage, MessageKind
from hivewire.model.call_limit import CallLimit
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import current_turn, outgoing_context
from hivewire.model.ids import AgentId
from hivewire.model.interventions import InterventionChain
from hivewire.model.schedule_rules import ScheduleRule
from hivewire.model.schedules import Schedule
from hivewire.model.serializer_registry import Encoded, SerializerRegistry
from hivewire.model.topics import TopicId

__all__ = ["Outgoing"]

log = logging.getLogger("hivewire.http")


class Outgoing:
    """Sends and publishes for one runtime.

    `publishing` counts the publishes that are not stored yet, `unrouted` those that nobody subscribed to.
    """

    def __init__(
        self,
        requests: Requests,
        serializers: SerializerRegistry,
        interventions: InterventionChain,
        reports: EventReports,
        options: HttpOptions,
    ) -> None:
        self._requests = requests
        self._serializers = serializers
        self._interventions = interventions
        self._reports = reports
        self._options = options
        self._id_prefix = secrets.token_hex(8)
        self._ids = iter(range(1, 1 << 62))
        self._unrouted_before = 0
        self._unrouted = 0
        self.publishing = 0

    @property
    def unrouted(self) -> int:
        return self._unrouted_before + self._unrouted

    def reconnected(self) -> None:
        """Note that the gateway counts from zero again."""
        self._unrouted_before += self._unrouted
        self._unrouted = 0

    async def send(
        self,
        message: Any,
        recipient: AgentId,
        *,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
        timeout: float | None,
    ) -> Any:
        """Send a message to one agent and return its answer: a list, if it is a streamed one."""
        header, payload = await self.enveloped(message, recipient, sender, token, message_id)
        seconds = self._options.default_timeout if timeout is None else timeout
        answer, items = await self._requests.call(
            "send", header, payload, timeout=seconds, token=token, what=f"the call to {recipient}"
        )
        if answer.header.get("list"):
            return [self.answered(item, recipient, sender) for item in items]
        return self.answered(answer, recipient, sender)

    async def operate(self, operation: str, agent: AgentId, argument: Any = None) -> Any:
        """Ask an agent's process for something about the agent."""
        header = {"to": wire.agent_value(agent), "operation": operation}
        payload = json.dumps(argument, separators=(",", ":")).encode()
        timeout = self._options.default_timeout
        answer, _ = await self._requests.call(
            "operate", header, payload, timeout=timeout, token=None, what=f"the operation {operation} of {agent}"
        )
        return None if answer.header.get("none") else json.loads(answer.payload)

    async def publish(
        self,
        message: Any,
        topic: TopicId,
        *,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
    ) -> None:
        """Publish an event; returns when it is stored, or an intervention handler dropped it."""
        self.publishing += 1
        try:
            turn = current_turn()
            header: Header = {"topic": wire.topic_value(topic), "sender": wire.agent_value(sender)}
            derived = None
            if turn is not None:
                header["published"] = turn.published
                derived = turn.next_id()
            message_id = message_id or derived or self._new_id()
            if self._interventions:
                context = outgoing_context(sender, topic, token, message_id)
                try:
                    message = await self._interventions.on_publish(message, message_context=context)
                except MessageDroppedException:
                    return
                except Exception:
                    log.exception("an intervention handler failed on a publish to %s", topic)
                    return
            encoded = self._serializers.encode(message)
            self._reports.message(encoded, sender, topic, MessageKind.PUBLISH, DeliveryStage.SEND)
            check_size(encoded, self._requests.max_payload, f"A message to {topic}")
            await self._store({**header, **wire.head_of(encoded), "message": message_id}, encoded.payload, topic)
        finally:
            self.publishing -= 1

    async def _store(self, header: Header, payload: bytes, topic: TopicId) -> None:
        """Publish it again, under the same id, until somebody says that it is stored."""
        deadline = time.monotonic() + self._options.publish_timeout
        limit = CallLimit(seconds=self._options.publish_timeout)
        trouble: object = "no connection"
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise BrokerUnavailableError(
                    f"A message to {topic} was not stored within {limit}; whether it is stored is unknown: {trouble}"
                )
            channel = await self._requests.channel(left)
            silence = asyncio.timeout(left + 1)
            try:
                async with silence, self._requests.open(channel, "publish", header, payload, limit) as request:
                    answer = (await request.answer).checked()
            except TimeoutError:
                if not silence.expired():
                    raise
            except ChannelClosedError as error:
                trouble = error
                self._raise_if_over(f"the publish to {topic}", error)
            else:
                self._unrouted = int(answer.header.get("unrouted", self._unrouted))
                return

    async def schedule(
        self, message: Any, target: AgentId | TopicId, rule: ScheduleRule, *, id: str | None, sender: AgentId | None
    ) -> Schedule:
        """Store a schedule and return it, or the equal one that is there under its id."""
        turn = current_turn()
        header: Header = {**wire.target_value(target), "rule": rule.to_json(), "sender": wire.agent_value(sender)}
        derived = None
        if turn is not None:
            header["published"] = turn.published
            derived = turn.next_id()
        name = id or derived or secrets.token_hex(12)
        if self._interventions:
            topic = target if isinstance(target, TopicId) else None
            context = outgoing_context(sender, topic, None, name)
            if isinstance(target, AgentId):
                message = await self._interventions.on_send(message, message_context=context, recipient=target)
            else:
                message = await self._interventions.on_publish(message, message_context=context)
        encoded = self._serializers.encode(message)
        check_size(encoded, self._requests.max_payload, f"The message of a schedule for {target}")
        header |= wire.head_of(encoded)
        if id is not None:
            header["schedule"] = id
        try:
            answer, _ = await self._requests.call(
                "schedule",
                header,
                encoded.payload,
                timeout=self._options.publish_timeout,
                token=None,
                what=f"the making of a schedule for {target}",
            )
        except WorkerLostError as error:
            raise BrokerUnavailableError(str(error)) from error
        return wire.schedule_of(answer.header)

    async def schedules(self) -> list[Schedule]:
        """Return the schedules that wait to fire."""
        timeout = self._options.publish_timeout
        _, items = await self._requests.call(
            "schedules", {}, b"", timeout=timeout, token=None, what="the look at the schedules"
        )
        return [wire.schedule_of(item.header) for item in items]

    async def enveloped(
        self,
        message: Any,
        recipient: AgentId,
        sender: AgentId | None,
        token: CancellationToken | None,
        message_id: str | None,
    ) -> tuple[Header, bytes]:
        """Return what is to be sent to an agent."""
        if self._interventions:
            message_id = message_id or self._new_id()
            context = outgoing_context(sender, None, token, message_id)
            message = await self._interventions.on_send(message, message_context=context, recipient=recipient)
        encoded = self._serializers.encode(message)
        self._reports.message(encoded, sender, recipient, MessageKind.DIRECT, DeliveryStage.SEND)
        check_size(encoded, self._requests.max_payload, f"A message to {recipient}")
        header = {"to": wire.agent_value(recipient), **wire.head_of(encoded), "sender": wire.agent_value(sender)}
        if message_id is not None:
            header["message"] = message_id
        return header, encoded.payload

    def answered(self, answer: Answer, recipient: AgentId, sender: AgentId | None) -> Any:
        """Return the value of an answer, or of an item of one."""
        encoded = wire.answer_of(answer.header, answer.payload)
        self._reports.message(encoded, recipient, sender, MessageKind.RESPOND, DeliveryStage.DELIVER)
        return self._decoded(encoded)

    def decoded(self, answer: Answer) -> Any:
        """Do the same for a stream that others have opened."""
        return self._decoded(wire.answer_of(answer.header, answer.payload))

    def _decoded(self, encoded: Encoded) -> Any:
        return self._serializers.decode(encoded.payload, type_name=encoded.type_name, content_type=encoded.content_type)

    def _raise_if_over(self, what: str, error: ChannelClosedError) -> None:
        if self._requests.stopping:
            raise RuntimeStateError(f"The runtime stopped while {what} waited for its answer") from error
        if self._requests.own_turn() is not None:
            raise WorkerLostError(f"The connection to the gateway broke during {what}: {error}") from error

    def _new_id(self) -> str:
        return f"{self._id_prefix}-{next(self._ids):x}"
