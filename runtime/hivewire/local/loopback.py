"""Messages on their way through their serializers, within one process.

So a test that runs locally meets the errors of the wire, and receivers that share no object with the sender.
"""

from __future__ import annotations

from typing import Any

from hivewire.model.serializer_registry import Encoded, SerializerRegistry

__all__ = ["Loopback"]


class Loopback:
    """Encodes messages as for another process, and decodes them for a receiver."""

    def __init__(self, serializers: SerializerRegistry) -> None:
        self._serializers = serializers

    def encode(self, message: Any) -> Encoded:
        """Encode a message.

        Raises:
            SerializationError: nothing serializes it.
        """
        return self._serializers.encode(message)

    def decode(self, encoded: Encoded, agent_class: type) -> Any:
        """Decode a message as an agent of this class would get it.

        Raises:
            SerializationError: the bytes are not what their type name says.
        """
        return self._decode(encoded, self._serializers.handled_types(agent_class))

    def copy(self, message: Any) -> Any:
        """Return what a receiver that handles no particular types would get.

        Raises:
            SerializationError: nothing serializes the message, or what was serialized cannot be read.
        """
        return self._decode(self.encode(message), None)

    def _decode(self, encoded: Encoded, preferred: Any) -> Any:
        return self._serializers.decode(
            encoded.payload, type_name=encoded.type_name, content_type=encoded.content_type, preferred=preferred
        )
