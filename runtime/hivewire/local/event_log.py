"""The structured events that the local runtime emits for programs."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any

from hivewire.exceptions import SerializationError
from hivewire.logging import (
    EVENT_LOGGER_NAME,
    DeliveryStage,
    HandledMessage,
    MessageEvent,
    MessageHandlerExceptionEvent,
    MessageKind,
    lines_about,
)
from hivewire.model.ids import AgentId
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.topics import TopicId

__all__ = ["EventLog"]

_event_logger = logging.getLogger(EVENT_LOGGER_NAME)


class EventLog:
    """Emits events while the event logger is enabled for INFO, and costs one look at that otherwise.

    The payload of an event is the message's class name. With `record_payloads` it is the message itself, as JSON.
    """

    __slots__ = ("_record_payloads", "_serializers")

    def __init__(self, serializers: SerializerRegistry, *, record_payloads: bool) -> None:
        self._serializers = serializers
        self._record_payloads = record_payloads

    @property
    def enabled(self) -> bool:
        return _event_logger.isEnabledFor(logging.INFO)

    def message(
        self,
        kind: MessageKind,
        stage: DeliveryStage,
        message: Any,
        *,
        sender: AgentId | None,
        receiver: AgentId | TopicId | None,
        about: HandledMessage | None = None,
    ) -> None:
        """Tell that a message was sent or is delivered; `about` is what its line names outside of the handler."""
        if self.enabled:
            event = MessageEvent(
                payload=self.payload(message), sender=sender, receiver=receiver, kind=kind, delivery_stage=stage
            )
            with nullcontext() if about is None else lines_about(about):
                _event_logger.info(event)

    def handler_failed(self, message: Any, agent_id: AgentId, error: BaseException) -> None:
        """Tell that an agent raised while it handled a message."""
        if self.enabled:
            _event_logger.info(
                MessageHandlerExceptionEvent(payload=self.payload(message), handling_agent=agent_id, exception=error)
            )

    def payload(self, message: Any) -> str:
        """Return what events and spans show of a message."""
        if not self._record_payloads:
            return type(message).__name__
        try:
            return self._serializers.encode(message).payload.decode(errors="replace")
        except SerializationError:
            return "Message could not be serialized"
