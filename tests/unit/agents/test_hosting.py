from dataclasses import dataclass
from typing import Any

from hivewire.agents.base import BaseAgent, handles
from hivewire.agents.handlers import rpc
from hivewire.agents.routed import RoutedAgent
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.serialization import MessageSerializer


@dataclass
class Ping:
    text: str


class Opaque:
    pass


class OpaqueSerializer(MessageSerializer[Opaque]):
    """Serializes what nothing else does."""

    @property
    def data_content_type(self) -> str:
        return "application/json"

    @property
    def type_name(self) -> str:
        return "opaque.v1"

    def serialize(self, message: Any) -> bytes:
        return b"{}"

    def deserialize(self, payload: bytes) -> Opaque:
        return Opaque()


async def test_a_factory_brings_the_serializers_of_its_expected_class() -> None:
    @handles(Opaque, OpaqueSerializer())
    class Declared(BaseAgent):
        async def on_message_impl(self, message: Any, ctx: MessageContext) -> str:
            return type(message).__name__

    runtime = SingleThreadedAgentRuntime(serialize_messages=True)
    await runtime.register_factory("agent", Declared, expected_class=Declared)
    runtime.start()

    assert await runtime.send_message(Opaque(), AgentId("agent", "k")) == "Opaque"
    await runtime.stop()


async def test_a_factory_whose_class_handles_what_nothing_serializes_works_in_this_process() -> None:
    class Local(RoutedAgent):
        @rpc
        async def handle(self, message: Opaque, ctx: MessageContext) -> Opaque:
            return message

    runtime = SingleThreadedAgentRuntime()
    assert await runtime.register_factory("agent", Local, expected_class=Local) == AgentType("agent")
    runtime.start()
    sent = Opaque()

    assert await runtime.send_message(sent, AgentId("agent", "k")) is sent
    await runtime.stop()
