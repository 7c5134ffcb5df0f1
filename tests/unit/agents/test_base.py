from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from hivewire.agents.base import BaseAgent, handles
from hivewire.exceptions import CantHandleException, SerializationError
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import AgentInstantiationContext, MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.runtime import Agent, AgentRuntime
from hivewire.model.topics import TopicId

ID = AgentId("worker", "k")


@dataclass
class Ping:
    text: str


class Documented(BaseAgent):
    """Does one thing.

    And here is more about it.
    """


class Undocumented(BaseAgent):
    pass


@pytest.fixture
def runtime() -> Any:
    return Mock(spec=AgentRuntime)


class TestConstruction:
    def test_one_string_is_the_description(self, runtime: Any) -> None:
        with AgentInstantiationContext.populate_context((runtime, ID)):
            assert Documented("text").metadata["description"] == "text"
            assert Documented(description="text").metadata["description"] == "text"
            assert Documented("").metadata["description"] == ""

    def test_without_a_description_the_class_describes_itself(self, runtime: Any) -> None:
        with AgentInstantiationContext.populate_context((runtime, ID)):
            assert Documented().metadata["description"] == "Does one thing."
            assert Undocumented().metadata["description"] == "Undocumented"

    def test_an_id_and_a_runtime_bind_the_agent(self, runtime: Any) -> None:
        agent = Undocumented(ID, runtime)

        assert agent.id == ID
        assert agent.type == "worker"
        assert agent.runtime is runtime
        assert agent.metadata == {"type": "worker", "key": "k", "description": "Undocumented"}

    def test_in_a_factory_id_and_runtime_come_from_the_context(self, runtime: Any) -> None:
        with AgentInstantiationContext.populate_context((runtime, ID)):
            agent = Undocumented("d")

        assert agent.id == ID
        assert agent.runtime is runtime

    def test_in_a_factory_another_id_is_refused(self, runtime: Any) -> None:
        with (
            AgentInstantiationContext.populate_context((runtime, ID)),
            pytest.raises(RuntimeError, match="already bound to a different ID"),
        ):
            Undocumented(AgentId("worker", "other"), runtime)

    @pytest.mark.parametrize("description", [3, None, ID, b"x"])
    def test_a_description_is_a_string(self, description: object) -> None:
        with pytest.raises(ValueError, match="description must be a string"):
            Undocumented(description)

    def test_other_arguments_are_refused(self) -> None:
        with pytest.raises(TypeError, match="takes a description, or an AgentId and a runtime"):
            Undocumented("a", "b")

    def test_a_subclass_may_leave_out_the_base_constructor(self, runtime: Any) -> None:
        class Careless(BaseAgent):
            def __init__(self) -> None:
                self.items: list[str] = []

        agent = Careless()
        agent._bind(ID, runtime)

        assert agent.metadata["description"] == "Careless"

    def test_an_unbound_agent_says_what_to_do(self) -> None:
        agent = Undocumented("d")

        with pytest.raises(RuntimeError, match="Undocumented has no id yet: register a factory"):
            _ = agent.id
        with pytest.raises(RuntimeError, match="Undocumented has no runtime yet"):
            _ = agent.runtime

    def test_it_is_an_agent(self) -> None:
        assert isinstance(Undocumented(), Agent)


class TestBinding:
    async def test_binding_again_to_the_same_is_fine(self, runtime: Any) -> None:
        agent = Undocumented()
        await agent.bind_id_and_runtime(ID, runtime)
        await agent.bind_id_and_runtime(AgentId("worker", "k"), runtime)

        assert agent.id == ID

    async def test_binding_to_another_id_or_runtime_is_an_error(self, runtime: Any) -> None:
        agent = Undocumented(ID, runtime)

        with pytest.raises(RuntimeError, match="already bound to a different ID"):
            await agent.bind_id_and_runtime(AgentId("worker", "other"), runtime)
        with pytest.raises(RuntimeError, match="already bound to a different runtime"):
            await agent.bind_id_and_runtime(ID, Mock(spec=AgentRuntime))


class TestMessages:
    async def test_by_default_an_agent_refuses_messages(self) -> None:
        context = MessageContext(None, None, True, CancellationToken(), "1")

        with pytest.raises(CantHandleException, match="Undocumented handles no messages"):
            await Undocumented().on_message("x", context)

    async def test_on_message_calls_on_message_impl(self) -> None:
        class Echo(BaseAgent):
            async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
                return (message, ctx)

        context = MessageContext(None, None, True, CancellationToken(), "1")
        assert await Echo().on_message("x", context) == ("x", context)

    async def test_sending_goes_through_the_runtime_in_the_agents_name(self, runtime: Any) -> None:
        runtime.send_message = AsyncMock(return_value="answer")
        token = CancellationToken()
        other = AgentId("other", "k")
        agent = Undocumented(ID, runtime)

        assert await agent.send_message("x", other, cancellation_token=token, message_id="7", timeout=2) == "answer"
        runtime.send_message.assert_awaited_once_with(
            "x", other, sender=ID, cancellation_token=token, message_id="7", timeout=2
        )

    async def test_without_a_timeout_none_is_named(self, runtime: Any) -> None:
        runtime.send_message = AsyncMock()
        await Undocumented(ID, runtime).send_message("x", ID)

        runtime.send_message.assert_awaited_once_with("x", ID, sender=ID, cancellation_token=None, message_id=None)

    async def test_publishing_goes_through_the_runtime_in_the_agents_name(self, runtime: Any) -> None:
        topic = TopicId("t", "s")
        await Undocumented(ID, runtime).publish_message("x", topic, message_id="7")

        runtime.publish_message.assert_awaited_once_with("x", topic, sender=ID, cancellation_token=None, message_id="7")


class TestState:
    async def test_an_agent_without_state_saves_nothing_and_does_not_warn(self) -> None:
        assert await Undocumented().save_state() == {}
        await Undocumented().load_state({})

    async def test_a_state_that_is_lost_warns(self) -> None:
        with pytest.warns(UserWarning, match="Undocumented does not override load_state"):
            await Undocumented().load_state({"a": 1})

    async def test_state_may_be_overridden(self) -> None:
        class Counter(BaseAgent):
            count = 0

            async def save_state(self) -> Mapping[str, Any]:
                return {"count": self.count}

            async def load_state(self, state: Mapping[str, Any]) -> None:
                self.count = state["count"]

        counter = Counter()
        await counter.load_state({"count": 3})
        assert await counter.save_state() == {"count": 3}


class TestHandles:
    def test_it_declares_a_type_with_its_known_serializers(self) -> None:
        @handles(Ping)
        class Declared(BaseAgent):
            pass

        ((handled, serializers),) = Declared._handles_types()
        assert handled is Ping
        assert serializers

    def test_given_serializers_are_used(self) -> None:
        first, second = Mock(), Mock()

        @handles(int, first)
        @handles(str, [first, second])
        class Declared(BaseAgent):
            pass

        assert Declared._handles_types() == [(str, [first, second]), (int, [first])]

    def test_a_subclass_adds_to_a_list_of_its_own(self) -> None:
        @handles(Ping)
        class Base(BaseAgent):
            pass

        @handles(str)
        class Derived(Base):
            pass

        assert [cls for cls, _ in Base._handles_types()] == [Ping]
        assert [cls for cls, _ in Derived._handles_types()] == [Ping, str]
        assert BaseAgent._handles_types() == []

    def test_a_type_that_nothing_serializes_is_an_error(self) -> None:
        class Opaque:
            pass

        with pytest.raises(SerializationError, match="No serializers found for type"):
            handles(Opaque)
