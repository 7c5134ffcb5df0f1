import asyncio
import dataclasses

import pytest

from hivewire.logging import current_agent_id
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import (
    AgentInstantiationContext,
    MessageContext,
    MessageHandlerContext,
    SubscriptionInstantiationContext,
    TurnContext,
    current_turn,
    enter_turn,
)
from hivewire.model.ids import AgentId, AgentType


def test_a_message_context_has_its_five_fields_in_order():
    names = [field.name for field in dataclasses.fields(MessageContext)]
    assert names == ["sender", "topic_id", "is_rpc", "cancellation_token", "message_id"]
    ctx = MessageContext(None, None, True, CancellationToken(), "id")
    assert (ctx.sender, ctx.topic_id, ctx.is_rpc, ctx.message_id) == (None, None, True, "id")


@pytest.mark.parametrize("cls", [MessageHandlerContext, AgentInstantiationContext, SubscriptionInstantiationContext])
def test_static_contexts_cannot_be_instantiated(cls):
    with pytest.raises(RuntimeError, match="cannot be instantiated"):
        cls()


@pytest.mark.parametrize(
    "ask",
    [
        MessageHandlerContext.agent_id,
        AgentInstantiationContext.current_runtime,
        AgentInstantiationContext.current_agent_id,
        SubscriptionInstantiationContext.agent_type,
    ],
)
def test_asking_outside_of_the_context_is_an_error_that_names_the_question(ask):
    with pytest.raises(RuntimeError, match=ask.__name__):
        ask()


def test_the_handler_context_is_what_log_events_read():
    id = AgentId("t", "k")
    with MessageHandlerContext.populate_context(id):
        assert MessageHandlerContext.agent_id() is id
        assert current_agent_id.get() is id
    assert MessageHandlerContext.current() is None


def test_contexts_nest_and_end_with_an_error_too():
    outer, inner = AgentId("t", "outer"), AgentId("t", "inner")
    with MessageHandlerContext.populate_context(outer):
        with pytest.raises(KeyError), MessageHandlerContext.populate_context(inner):
            raise KeyError
        assert MessageHandlerContext.agent_id() is outer


def test_the_instantiation_context_tells_runtime_and_id():
    runtime, id = object(), AgentId("t", "k")
    assert not AgentInstantiationContext.is_in_factory_call()
    with AgentInstantiationContext.populate_context((runtime, id)):
        assert AgentInstantiationContext.is_in_factory_call()
        assert AgentInstantiationContext.current_runtime() is runtime
        assert AgentInstantiationContext.current_agent_id() is id
    assert not AgentInstantiationContext.is_in_factory_call()


def test_the_subscription_context_tells_the_type():
    with SubscriptionInstantiationContext.populate_context(AgentType("worker")):
        assert SubscriptionInstantiationContext.agent_type() == AgentType("worker")


async def test_tasks_see_the_context_they_were_made_in_and_no_other():
    async def key_after_a_switch(key: str) -> str:
        with MessageHandlerContext.populate_context(AgentId("t", key)):
            await asyncio.sleep(0)
            return (await asyncio.create_task(key_of_the_context())).key

    async def key_of_the_context() -> AgentId:
        return MessageHandlerContext.agent_id()

    assert await asyncio.gather(*map(key_after_a_switch, "abc")) == ["a", "b", "c"]


def test_the_turn_context_holds_the_chain():
    assert current_turn() is None
    with enter_turn(TurnContext("1", ("1",))):
        with enter_turn(TurnContext("2", ("1", "2"))):
            assert current_turn() == TurnContext("2", ("1", "2"))
        assert current_turn() == TurnContext("1", ("1",))
    assert current_turn() is None
