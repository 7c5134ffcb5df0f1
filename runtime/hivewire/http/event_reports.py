"""What this process tells the event logger of its messages."""

from __future__ import annotations

import logging

from hivewire.logging import EVENT_LOGGER_NAME, DeliveryStage, MessageEvent, MessageHandlerExceptionEvent, MessageKind
from hivewire.model.ids import AgentId
from hivewire.model.serializer_registry import Encoded
from hivewire.model.topics import TopicId

__all__ = ["EventReports"]

_event_log = logging.getLogger(EVENT_LOGGER_NAME)


class EventReports:
    """Emits events while the event logger is enabled for INFO, and costs one look at that otherwise."""

    def __init__(self, *, record_payloads: bool) -> None:
        self._record_payloads = record_payloads

    def message(
        self,
        message: Encoded,
        sender: AgentId | None,
        receiver: AgentId | TopicId | None,
        kind: MessageKind,
        stage: DeliveryStage,
    ) -> None:
        """Tell that a message was sent or is delivered."""
        if _event_log.isEnabledFor(logging.INFO):
            _event_log.info(
                MessageEvent(
                    payload=self._shown(message), sender=sender, receiver=receiver, kind=kind, delivery_stage=stage
                )
            )

    def failure(self, message: Encoded, agent: AgentId, error: BaseException) -> None:
        """Tell that an agent raised while it handled a message."""
        if _event_log.isEnabledFor(logging.INFO):
            _event_log.info(
                MessageHandlerExceptionEvent(payload=self._shown(message), handling_agent=agent, exception=error)
            )

    def contents(self, message: Encoded) -> str | None:
        """Return the contents of a message, if they are to be seen."""
        return message.payload.decode(errors="replace") if self._record_payloads else None

    def _shown(self, message: Encoded) -> str:
        contents = self.contents(message)
        return message.type_name if contents is None else contents
