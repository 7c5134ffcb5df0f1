from typing import Any

import pytest

from contract.support import MakeRuntime, Number, Runtime, Settle, Text, ignore, only_network, serve, until
from hivewire import (
    AgentId,
    AgentType,
    CantHandleException,
    ClosureAgent,
    ClosureContext,
    DefaultSubscription,
    DefaultTopicId,
    MessageContext,
    MessageHandlerContext,
    TopicId,
    TypeSubscription,
)

AGENT = AgentId("agent", "k")


async def describe(ctx: ClosureContext, message: Text | Number) -> str:
    return f"{ctx.id}: {message.value}"


class TestRegistered:
    async def test_a_closure_answers_for_every_key(self, runtime: Runtime) -> None:
        assert await ClosureAgent.register_closure(runtime, "agent", describe) == AgentType("agent")

        assert await runtime.send_message(Text("x"), AGENT) == "agent/k: x"
        assert await runtime.send_message(Number(1), AgentId("agent", "other")) == "agent/other: 1"

    async def test_it_may_take_the_context_of_the_message(self, runtime: Runtime) -> None:
        async def tell(ctx: ClosureContext, message: str, message_context: MessageContext) -> list[Any]:
            return [message, message_context.message_id, message_context.is_rpc, str(message_context.sender)]

        await ClosureAgent.register_closure(runtime, "agent", tell)
        answer = await runtime.send_message("x", AGENT, message_id="id", sender=AgentId("a", "b"))

        assert answer == ["x", "id", True, "a/b"]

    async def test_it_sends_and_publishes_in_its_own_name(self, runtime: Runtime) -> None:
        async def forward(ctx: ClosureContext, message: str) -> str:
            assert MessageHandlerContext.agent_id() == ctx.id
            await ctx.publish_message(message, TopicId("t", "s"))
            answer: str = await ctx.send_message(message, AgentId("helper", "h"))
            return answer

        await ClosureAgent.register_closure(runtime, "agent", forward)
        inbox = await serve(runtime, "helper")
        reader = await serve(runtime, "reader", ignore, "t")

        assert await runtime.send_message("x", AGENT) == "x"
        await until(lambda: len(reader) == 1)
        assert inbox.only.ctx.sender == reader.only.ctx.sender == AGENT

    @pytest.mark.parametrize("awaitable", [False, True])
    async def test_its_subscriptions_are_made_for_its_type(
        self, runtime: Runtime, settle: Settle, awaitable: bool
    ) -> None:
        seen: list[Any] = []

        async def note(ctx: ClosureContext, message: str, message_context: MessageContext) -> None:
            seen.append((str(ctx.id), message, str(message_context.topic_id)))

        def make() -> Any:
            return [DefaultSubscription(), TypeSubscription("t", "agent")]

        async def make_later() -> Any:
            return make()

        await ClosureAgent.register_closure(runtime, "agent", note, subscriptions=make_later if awaitable else make)
        await runtime.publish_message("a", DefaultTopicId())
        await settle(runtime)
        await runtime.publish_message("b", TopicId("t", "s"))
        await settle(runtime)

        assert seen == [("agent/default", "a", "default/default"), ("agent/s", "b", "t/s")]

    async def test_it_has_the_direct_subscription_unless_it_is_left_out(self, runtime: Runtime, settle: Settle) -> None:
        seen: list[str] = []

        async def note(ctx: ClosureContext, message: str) -> None:
            seen.append(str(ctx.id))

        await ClosureAgent.register_closure(runtime, "a", note)
        await ClosureAgent.register_closure(runtime, "b", note, skip_direct_message_subscription=True)
        for topic in ("a:", "b:"):
            await runtime.publish_message("x", TopicId(topic, "s"))
        await settle(runtime)

        assert seen == ["a/s"]

    async def test_it_has_a_description(self, runtime: Runtime) -> None:
        await ClosureAgent.register_closure(runtime, "agent", describe, description="says what it got")

        assert (await runtime.agent_metadata(AGENT))["description"] == "says what it got"

    async def test_what_it_raises_reaches_the_caller(self, runtime: Runtime) -> None:
        async def explode(ctx: ClosureContext, message: str) -> None:
            raise KeyError("boom")

        await ClosureAgent.register_closure(runtime, "agent", explode)
        with pytest.raises(KeyError, match="boom"):
            await runtime.send_message("x", AGENT)

    async def test_the_class_of_its_answer_comes_back(self, copying_runtime: Runtime) -> None:
        async def double(ctx: ClosureContext, message: Number) -> Number:
            return Number(2 * message.value)

        await ClosureAgent.register_closure(copying_runtime, "agent", double)

        assert await copying_runtime.send_message(Number(2), AGENT) == Number(4)

    async def test_a_taken_type_is_refused(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")

        with pytest.raises(ValueError, match="already exists"):
            await ClosureAgent.register_closure(runtime, "agent", describe)


class TestOtherMessageTypes:
    async def test_are_answered_with_none_and_a_warning(self, runtime: Runtime) -> None:
        await ClosureAgent.register_closure(runtime, "agent", describe)

        with pytest.warns(UserWarning, match="str"):
            assert await runtime.send_message("x", AGENT) is None

    async def test_are_an_error_under_that_policy(self, runtime: Runtime) -> None:
        await ClosureAgent.register_closure(runtime, "agent", describe, unknown_type_policy="error")

        with pytest.raises(CantHandleException, match="str"):
            await runtime.send_message("x", AGENT)

    async def test_are_passed_on_under_that_policy(self, runtime: Runtime) -> None:
        async def name(ctx: ClosureContext, message: Text) -> str:
            return type(message).__name__

        await ClosureAgent.register_closure(runtime, "agent", name, unknown_type_policy="ignore")

        assert await runtime.send_message(Number(1), AGENT) == "Number"

    @pytest.mark.parametrize("policy", ["warn", "error", "ignore"])
    async def test_do_not_exist_for_a_closure_of_any(self, runtime: Runtime, policy: Any) -> None:
        async def name(ctx: ClosureContext, message: Any) -> str:
            return type(message).__name__

        await ClosureAgent.register_closure(runtime, "agent", name, unknown_type_policy=policy)

        assert [await runtime.send_message(message, AGENT) for message in (Text("x"), None, 1)] == [
            "Text",
            "NoneType",
            "int",
        ]


class TestInAFactory:
    async def test_a_closure_agent_is_made_of_description_and_closure(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", lambda: ClosureAgent("my description", describe))

        assert await runtime.send_message(Text("x"), AGENT) == "agent/k: x"
        assert (await runtime.agent_metadata(AGENT))["description"] == "my description"

    def test_outside_of_one_it_cannot_be_made(self) -> None:
        with pytest.raises(RuntimeError):
            ClosureAgent("my description", describe)


class TestMadeWithARuntime:
    async def test_it_is_registered_under_its_name(self, runtime: Runtime) -> None:
        async def handle(ctx: ClosureContext, message: str, message_context: MessageContext) -> str:
            await ctx.send_message("processed", AgentId("helper", "h"))
            return "Done"

        inbox = await serve(runtime, "helper")
        agent = ClosureAgent("my_agent", handle, runtime)

        assert agent.id == AgentId("my_agent", "default")
        assert await runtime.send_message("x", AgentId("my_agent", "default")) == "Done"
        assert inbox.messages == ["processed"]

    async def test_it_may_be_awaited_to_be_registered(self, runtime: Runtime) -> None:
        agent: Any = ClosureAgent("my_agent", describe, runtime)

        assert await agent.register() == AgentId("my_agent", "default")
        assert await runtime.send_message(Text("x"), agent.id) == "my_agent/default: x"

    async def test_it_gets_events_on_its_direct_topics(self, runtime: Runtime, settle: Settle) -> None:
        seen: list[str] = []

        async def note(ctx: ClosureContext, message: str) -> None:
            seen.append(message)

        ClosureAgent("my_agent", note, runtime)
        await runtime.publish_message("x", TopicId("my_agent:", "default"))
        await settle(runtime)

        assert seen == ["x"]

    async def test_a_taken_name_is_refused(self, runtime: Runtime) -> None:
        await serve(runtime, "my_agent")

        with pytest.raises(ValueError):
            ClosureAgent("my_agent", describe, runtime)

    @only_network
    async def test_one_that_is_made_before_the_start_is_served_after_it(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        ClosureAgent("my_agent", describe, runtime)
        await runtime.start()

        assert await runtime.send_message(Text("x"), AgentId("my_agent", "default")) == "my_agent/default: x"
