import asyncio
from dataclasses import dataclass
from typing import Any, cast
from unittest.mock import Mock

import pytest

from hivewire.agents.closure import ClosureAgent, ClosureContext, UnknownTypePolicy
from hivewire.exceptions import AgentNotFoundError, CantHandleException
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.runtime import AgentRuntime
from hivewire.model.subscriptions import DefaultSubscription, Subscription
from hivewire.model.topics import DefaultTopicId


@dataclass
class Ping:
    text: str


async def answer(ctx: ClosureContext, message: Ping, context: MessageContext) -> str:
    return f"{ctx.id} got {message.text} with id {context.message_id}"


async def test_a_registered_closure_answers_for_every_key() -> None:
    runtime = SingleThreadedAgentRuntime()
    assert await ClosureAgent.register_closure(runtime, "echo", answer, description="echoes") == AgentType("echo")
    runtime.start()

    for key in ("a", "b"):
        agent_id = AgentId("echo", key)
        assert await runtime.send_message(Ping("x"), agent_id, message_id="7") == f"echo/{key} got x with id 7"
        assert (await runtime.agent_metadata(agent_id))["description"] == "echoes"
    await runtime.stop()


async def test_subscriptions_are_made_for_the_type_and_may_be_async() -> None:
    seen: list[str] = []

    async def note(ctx: ClosureContext, message: Ping, context: MessageContext) -> None:
        seen.append(message.text)

    async def subscriptions() -> list[Subscription]:
        await asyncio.sleep(0)
        return [DefaultSubscription()]

    runtime = SingleThreadedAgentRuntime()
    await ClosureAgent.register_closure(runtime, "first", note, subscriptions=subscriptions)
    await ClosureAgent.register_closure(runtime, "second", note, subscriptions=lambda: [DefaultSubscription()])
    runtime.start()
    await runtime.publish_message(Ping("x"), DefaultTopicId())
    await runtime.stop_when_idle()

    assert seen == ["x", "x"]


async def test_a_failed_registration_leaves_nothing_behind() -> None:
    runtime = SingleThreadedAgentRuntime()
    taken = DefaultSubscription(agent_type="echo")
    await runtime.add_subscription(taken)
    with pytest.raises(ValueError, match="Subscription already exists"):
        await ClosureAgent.register_closure(runtime, "echo", answer, subscriptions=lambda: [DefaultSubscription()])

    await ClosureAgent.register_closure(runtime, "echo", answer)


class TestUnknownTypes:
    async def send(self, policy: UnknownTypePolicy) -> Any:
        runtime = SingleThreadedAgentRuntime()

        async def closure(ctx: ClosureContext, message: Ping) -> Any:
            return message

        await ClosureAgent.register_closure(runtime, "echo", closure, unknown_type_policy=policy)
        runtime.start()
        try:
            return await runtime.send_message("text", AgentId("echo", "k"))
        finally:
            await runtime.stop()

    async def test_warn_warns_and_answers_none(self) -> None:
        with pytest.warns(UserWarning, match="Message type str is none that echo/k takes: Ping"):
            assert await self.send("warn") is None

    async def test_error_refuses(self) -> None:
        with pytest.raises(CantHandleException, match="Message type str is none that echo/k takes: Ping"):
            await self.send("error")

    async def test_ignore_calls_the_closure(self) -> None:
        assert await self.send("ignore") == "text"

    async def test_another_policy_is_refused(self) -> None:
        with pytest.raises(ValueError, match="unknown_type_policy must be"):
            await self.send(cast(UnknownTypePolicy, "shrug"))


class TestStandalone:
    async def test_it_is_registered_at_once_under_its_name(self) -> None:
        runtime = SingleThreadedAgentRuntime()

        async def closure(ctx: ClosureContext, message: str) -> str:
            return message.upper()

        agent = ClosureAgent("my_agent", closure, runtime)
        runtime.start()

        assert agent.id == AgentId("my_agent", "default")
        assert await runtime.send_message("x", agent.id) == "X"
        assert await agent.register() == agent.id  # type: ignore[call-arg]
        await runtime.stop()

    async def test_a_taken_name_is_refused(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await ClosureAgent.register_closure(runtime, "echo", answer)

        with pytest.raises(ValueError, match="cannot be registered to the same type"):
            ClosureAgent("echo", answer, runtime)

    async def test_on_a_runtime_that_has_to_await_it_is_registered_by_register(self) -> None:
        runtime: Any = Mock(spec=AgentRuntime)
        agent = ClosureAgent("echo", answer, runtime)
        runtime.register_agent_instance.assert_not_called()

        assert await agent.register() == agent.id  # type: ignore[call-arg]
        runtime.register_agent_instance.assert_awaited_once_with(agent, agent.id)
        runtime.add_message_serializer.assert_called_once()

    async def test_the_class_method_stays(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await ClosureAgent.register(runtime, "echo", lambda: ClosureAgent("echoes", answer))
        runtime.start()

        assert "got x" in await runtime.send_message(Ping("x"), AgentId("echo", "k"))
        await runtime.stop()

    async def test_without_runtime_and_factory_it_cannot_be_made(self) -> None:
        with pytest.raises(RuntimeError, match="A ClosureAgent is made in a factory"):
            ClosureAgent("echo", answer)

    async def test_other_keys_of_it_do_not_exist(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        ClosureAgent("echo", answer, runtime)

        with pytest.raises(AgentNotFoundError):
            await runtime.agent_metadata(AgentId("echo", "other"))


class TestShape:
    async def refuse(self, closure: Any, match: str) -> None:
        with pytest.raises(AssertionError, match=match):
            await ClosureAgent.register_closure(SingleThreadedAgentRuntime(), "echo", closure)

    async def test_it_takes_two_or_three_arguments(self) -> None:
        async def one(ctx: ClosureContext) -> None: ...

        async def four(ctx: ClosureContext, message: Ping, context: MessageContext, more: int) -> None: ...

        await self.refuse(one, r"\(ctx, message\) or \(ctx, message, message_context\)")
        await self.refuse(four, r"\(ctx, message\) or \(ctx, message, message_context\)")

    async def test_it_needs_hints(self) -> None:
        async def no_message(ctx, message) -> None: ...  # type: ignore[no-untyped-def]

        async def no_return(ctx: ClosureContext, message: Ping): ...  # type: ignore[no-untyped-def]

        await self.refuse(no_message, "message not found in the closure's signature")
        await self.refuse(no_return, "return not found in the closure's signature")

    async def test_one_that_yields_has_the_hint_of_a_stream(self) -> None:
        async def wrong(ctx: ClosureContext, message: Ping) -> Ping:  # type: ignore[misc]
            yield message

        await self.refuse(wrong, r"closure that yields returns an AsyncIterator\[\.\.\.\]")
