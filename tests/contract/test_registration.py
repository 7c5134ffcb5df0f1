import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from contract.support import (
    Gate,
    Inbox,
    MakeRuntime,
    Number,
    Runtime,
    Scripted,
    Settle,
    echo,
    only_network,
    serve,
    until,
)
from hivewire import (
    Agent,
    AgentId,
    AgentInstantiationContext,
    AgentMetadata,
    AgentNotFoundError,
    AgentRuntime,
    AgentType,
    BaseAgent,
    MessageContext,
    NotAccessibleError,
    RoutedAgent,
    SerializationError,
    TopicId,
    TypeSubscription,
    default_subscription,
    handles,
    message_handler,
    rpc,
    type_subscription,
)

AGENT = AgentId("agent", "k")
UNKNOWN = AgentId("unknown", "k")


class Plain:
    """An agent that derives from nothing."""

    id: AgentId

    @property
    def metadata(self) -> AgentMetadata:
        return AgentMetadata(type=self.id.type, key=self.id.key, description="plain")

    async def bind_id_and_runtime(self, id: AgentId, runtime: AgentRuntime) -> None:
        await asyncio.sleep(0)
        self.id = id

    async def on_message(self, message: Any, ctx: MessageContext) -> Any:
        return f"{self.id}: {message}"

    async def save_state(self) -> dict[str, Any]:
        return {}

    async def load_state(self, state: Any) -> None: ...

    async def close(self) -> None: ...


def scripted() -> Scripted:
    return Scripted(echo, Inbox())


class TestFactories:
    async def test_a_type_is_registered_as_text_or_as_a_type(self, runtime: Runtime) -> None:
        assert await runtime.register_factory("a", scripted) == AgentType("a")
        assert await runtime.register_factory(AgentType("b"), scripted) == AgentType("b")

        assert [await runtime.send_message("x", AgentId(type, "k")) for type in "ab"] == ["x", "x"]

    async def test_a_type_is_registered_once_in_a_process(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", scripted)

        with pytest.raises(ValueError, match="already exists"):
            await runtime.register_factory("agent", scripted)
        assert await runtime.send_message("x", AGENT) == "x"

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "a*", "agent\n"])
    async def test_an_invalid_type_is_refused_when_it_is_registered(self, runtime: Runtime, name: str) -> None:
        with pytest.raises(ValueError, match="Invalid agent type"):
            await runtime.register_factory(AgentType(name), scripted)

    @pytest.mark.parametrize("name", ["a", "my.agent", "my-agent_2", "größe", "代理", "a.b.c", ".", "-", "_"])
    async def test_a_wide_choice_of_types_is_fine(self, runtime: Runtime, name: str) -> None:
        inbox = await serve(runtime, name, echo, "t")

        assert await runtime.send_message("x", AgentId(name, "k")) == "x"
        await runtime.publish_message("y", TopicId("t", "s"))
        await until(lambda: len(inbox) == 2)
        assert inbox.agents == [AgentId(name, "k"), AgentId(name, "s")]

    async def test_types_that_differ_by_little_are_different(self, runtime: Runtime) -> None:
        names = ["a", "A", "a.b", "a-b", "a_b", "ab", "a.b.c"]
        inboxes = [await serve(runtime, name) for name in names]
        for name in names:
            await runtime.send_message(name, AgentId(name, "k"))

        assert [inbox.messages for inbox in inboxes] == [[name] for name in names]

    async def test_a_factory_may_be_async(self, runtime: Runtime) -> None:
        async def factory() -> Scripted:
            await asyncio.sleep(0)
            return scripted()

        await runtime.register_factory("agent", factory)

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_a_factory_knows_which_agent_it_makes_in_which_runtime(self, runtime: Runtime) -> None:
        seen: list[Any] = []

        def note() -> None:
            assert AgentInstantiationContext.is_in_factory_call()
            seen.append((AgentInstantiationContext.current_agent_id(), AgentInstantiationContext.current_runtime()))

        def factory() -> Scripted:
            note()
            return scripted()

        async def async_factory() -> Scripted:
            await asyncio.sleep(0)
            note()
            return scripted()

        await runtime.register_factory("a", factory)
        await runtime.register_factory("b", async_factory)
        for type in "ab":
            await runtime.send_message("x", AgentId(type, "k"))

        assert seen == [(AgentId("a", "k"), runtime), (AgentId("b", "k"), runtime)]
        assert not AgentInstantiationContext.is_in_factory_call()

    async def test_an_agent_knows_its_id_and_runtime_in_its_constructor(self, runtime: Runtime) -> None:
        class Early(BaseAgent):
            def __init__(self) -> None:
                super().__init__()
                self.early = (self.id, self.id.key, self.type, self.runtime)

            async def on_message_impl(self, message: Any, ctx: MessageContext) -> None: ...

        await runtime.register_factory("agent", Early)
        early = await runtime.try_get_underlying_agent_instance(AGENT, Early)

        assert early.early == (AGENT, "k", "agent", runtime)

    async def test_agents_that_need_one_at_once_share_one_construction(self, runtime: Runtime) -> None:
        gate = asyncio.Event()
        inbox = Inbox()
        built = 0

        async def factory() -> Scripted:
            nonlocal built
            built += 1
            await gate.wait()
            return Scripted(echo, inbox)

        await runtime.register_factory("agent", factory)
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(5)]
        await runtime.publish_message(5, TopicId("t", "k"))
        await until(lambda: built == 1)
        gate.set()
        await asyncio.gather(*calls)
        await until(lambda: len(inbox) == 6)

        assert built == 1
        assert sorted(inbox.messages) == list(range(6))

    async def test_an_agent_is_built_at_its_first_message_and_not_before(self, runtime: Runtime) -> None:
        built: list[AgentId] = []

        def factory() -> Scripted:
            built.append(AgentInstantiationContext.current_agent_id())
            return scripted()

        await runtime.register_factory("agent", factory)
        assert built == []
        await runtime.send_message("x", AGENT)

        assert built == [AGENT]

    async def test_an_agent_need_not_derive_from_anything(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", cast(Any, Plain))

        assert isinstance(Plain, object)
        assert await runtime.send_message("x", AGENT) == "agent/k: x"
        assert (await runtime.agent_metadata(AGENT))["description"] == "plain"

    async def test_a_factory_adds_no_subscription(self, runtime: Runtime, settle: Settle) -> None:
        @default_subscription
        class Subscribed(Scripted):
            pass

        inbox = Inbox()
        await runtime.register_factory("agent", lambda: Subscribed(echo, inbox), expected_class=Subscribed)
        await runtime.publish_message("x", TopicId("default", "k"))
        await runtime.publish_message("x", TopicId("agent:", "k"))
        await settle(runtime)

        assert inbox.received == []
        assert runtime.unrouted_messages_count == 2


class TestRegisteringAClass:
    async def test_it_adds_the_subscriptions_of_the_class_and_the_direct_one(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        @type_subscription("b")
        @default_subscription
        class Subscribed(Scripted):
            pass

        inbox = Inbox()
        assert await Subscribed.register(runtime, "agent", lambda: Subscribed(echo, inbox)) == AgentType("agent")
        topics = ["default", "b", "agent:", "agent:anything", "agent", "agents:", "c"]
        for topic in topics:
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.messages == ["default", "b", "agent:", "agent:anything"]
        assert set(inbox.keys) == {"s"}

    async def test_both_kinds_can_be_left_out(self, runtime: Runtime, settle: Settle) -> None:
        @default_subscription
        class Subscribed(Scripted):
            pass

        inbox = Inbox()
        await Subscribed.register(
            runtime,
            "agent",
            lambda: Subscribed(echo, inbox),
            skip_class_subscriptions=True,
            skip_direct_message_subscription=True,
        )
        for topic in ("default", "agent:"):
            await runtime.publish_message("x", TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.received == []

    async def test_one_class_may_be_registered_under_several_types(self, runtime: Runtime, settle: Settle) -> None:
        @default_subscription
        class Subscribed(Scripted):
            pass

        inbox = Inbox()
        for type in ("a", "b"):
            await Subscribed.register(runtime, type, lambda: Subscribed(echo, inbox))
        await runtime.publish_message("x", TopicId("default", "s"))
        await settle(runtime)

        assert sorted(map(str, inbox.agents)) == ["a/s", "b/s"]

    async def test_a_taken_type_changes_nothing(self, runtime: Runtime, settle: Settle) -> None:
        @type_subscription("t")
        class Other(Scripted):
            pass

        inbox = await serve(runtime, "agent")
        with pytest.raises(ValueError, match="already exists"):
            await Other.register(runtime, "agent", lambda: Other(echo, Inbox()))
        await runtime.publish_message("x", TopicId("t", "k"))
        await settle(runtime)

        assert inbox.received == []
        assert await runtime.send_message("x", AGENT) == "x"

    async def test_a_refused_subscription_leaves_nothing_behind_and_the_second_try_succeeds(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        @type_subscription("b")
        @type_subscription("a")
        class Subscribed(Scripted):
            pass

        inbox = Inbox()
        in_the_way = TypeSubscription("b", "agent")
        await runtime.add_subscription(in_the_way)
        with pytest.raises(ValueError, match="already exists"):
            await Subscribed.register(runtime, "agent", lambda: Subscribed(echo, inbox))
        with pytest.raises(LookupError):
            await runtime.try_get_underlying_agent_instance(AGENT)
        await runtime.remove_subscription(in_the_way.id)
        await Subscribed.register(runtime, "agent", lambda: Subscribed(echo, inbox))
        for topic in ("a", "b"):
            await runtime.publish_message(topic, TopicId(topic, "k"))
        await settle(runtime)

        assert sorted(inbox.messages) == ["a", "b"]

    async def test_a_message_type_that_nothing_serializes_is_refused_and_nothing_stays(self, runtime: Runtime) -> None:
        class Opaque:
            pass

        class Bad(RoutedAgent):
            @message_handler
            async def on_opaque(self, message: Opaque, ctx: MessageContext) -> None: ...

        with pytest.raises(SerializationError):
            await Bad.register(runtime, "agent", Bad)
        await Scripted.register(runtime, "agent", scripted)

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_the_types_of_answers_come_back_as_their_classes(self, copying_runtime: Runtime) -> None:
        @dataclass
        class OnlyReturned:
            value: int

        class Answering(RoutedAgent):
            @rpc
            async def answer(self, message: Number, ctx: MessageContext) -> OnlyReturned:
                return OnlyReturned(message.value)

        await Answering.register(copying_runtime, "agent", Answering)

        assert await copying_runtime.send_message(Number(1), AGENT) == OnlyReturned(1)

    async def test_an_agent_that_routes_itself_declares_what_it_handles(self, copying_runtime: Runtime) -> None:
        @handles(Number)
        class Declared(BaseAgent):
            async def on_message_impl(self, message: Any, ctx: MessageContext) -> int:
                assert isinstance(message, Number)
                return message.value

        await Declared.register(copying_runtime, "agent", Declared)

        assert await copying_runtime.send_message(Number(1), AGENT) == 1

    async def test_on_message_may_be_overridden(self, runtime: Runtime) -> None:
        class Echo(BaseAgent):
            async def on_message(self, message: Any, ctx: MessageContext) -> Any:
                return message

        await Echo.register(runtime, "agent", Echo)

        assert await runtime.send_message("x", AGENT) == "x"


class TestWhenToRegister:
    async def test_before_the_start(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        inbox = await serve(runtime, "agent", echo, "t")
        instance = scripted()
        await instance.register_instance(runtime, AgentId("single", "s"))
        await Scripted.register(runtime, "class", scripted)
        await runtime.start()

        for id in (AGENT, AgentId("single", "s"), AgentId("class", "k")):
            assert await runtime.send_message("x", id) == "x"
        await runtime.publish_message("y", TopicId("t", "s"))
        await until(lambda: inbox.messages == ["x", "y"])

    async def test_subscribing_before_the_type_is_registered(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await runtime.add_subscription(TypeSubscription("early", "agent"))
        await runtime.start()
        await runtime.add_subscription(TypeSubscription("late", "agent"))
        inbox = await serve(runtime, "agent")
        for topic in ("early", "late"):
            await runtime.publish_message(topic, TopicId(topic, "s"))

        await until(lambda: sorted(inbox.messages) == ["early", "late"])

    async def test_while_messages_flow(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "a", echo, "t")
        for number in range(20):
            await runtime.publish_message(number, TopicId("t", "s"))
        later = await serve(runtime, "b", echo, "t")
        for number in range(20, 40):
            await runtime.publish_message(number, TopicId("t", "s"))
        await until(lambda: inbox.messages == list(range(40)) and later.messages[-20:] == list(range(20, 40)))

    async def test_from_within_a_handler(self, runtime: Runtime) -> None:
        async def register(agent: Scripted, message: str, ctx: MessageContext) -> str:
            await serve(agent.runtime, message)
            answer: str = await agent.send_message("made", AgentId(message, "k"))
            return answer

        await serve(runtime, "agent", register)

        assert await runtime.send_message("new", AGENT) == "made"


class TestInstances:
    async def test_an_instance_gets_the_messages_of_its_id(self, runtime: Runtime) -> None:
        agent = scripted()
        assert await runtime.register_agent_instance(agent, AGENT) == AGENT
        await runtime.send_message("x", AGENT)

        assert agent.inbox.only.agent == AGENT
        assert agent.runtime is runtime
        assert await runtime.try_get_underlying_agent_instance(AGENT) is agent

    async def test_other_keys_of_its_type_do_not_exist(self, runtime: Runtime) -> None:
        await runtime.register_agent_instance(scripted(), AGENT)

        with pytest.raises(AgentNotFoundError, match=r"^Recipient not found"):
            await runtime.send_message("x", AgentId("agent", "other"), timeout=0.3)

    async def test_a_type_may_have_several_instances(self, runtime: Runtime) -> None:
        agents = {key: scripted() for key in ("a", "b", "c.d e")}
        for key, agent in agents.items():
            await runtime.register_agent_instance(agent, AgentId("agent", key))
        for key in agents:
            await runtime.send_message(key, AgentId("agent", key))

        assert {key: agent.inbox.messages for key, agent in agents.items()} == {key: [key] for key in agents}

    async def test_an_id_is_taken_once(self, runtime: Runtime) -> None:
        await runtime.register_agent_instance(scripted(), AGENT)

        with pytest.raises(ValueError, match="already exists"):
            await runtime.register_agent_instance(scripted(), AGENT)

    async def test_instances_and_factories_of_a_type_exclude_each_other(self, runtime: Runtime) -> None:
        await runtime.register_agent_instance(scripted(), AgentId("single", "s"))
        await runtime.register_factory("made", scripted)

        with pytest.raises(ValueError):
            await runtime.register_factory("single", scripted)
        with pytest.raises(ValueError, match="cannot be registered to the same type"):
            await runtime.register_agent_instance(scripted(), AgentId("made", "m"))

    async def test_instances_of_a_type_share_one_class(self, runtime: Runtime) -> None:
        class Other(Scripted):
            pass

        await runtime.register_agent_instance(scripted(), AGENT)
        with pytest.raises(ValueError, match="same object type"):
            await runtime.register_agent_instance(Other(echo, Inbox()), AgentId("agent", "other"))

    async def test_one_that_is_bound_to_another_id_is_refused(self, runtime: Runtime) -> None:
        agent = scripted()
        await runtime.register_agent_instance(agent, AGENT)

        with pytest.raises(RuntimeError, match="already bound"):
            await runtime.register_agent_instance(agent, AgentId("elsewhere", "k"))
        with pytest.raises(AgentNotFoundError):
            await runtime.send_message("x", AgentId("elsewhere", "k"), timeout=0.2)

    async def test_registering_itself_an_instance_subscribes_to_its_key_and_to_direct_topics(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        agent = scripted()
        assert await agent.register_instance(runtime, AgentId("agent", "news")) == AgentId("agent", "news")
        for topic in ("news", "agent:x", "agent", "other"):
            await runtime.publish_message(topic, TopicId(topic, "news"))
        await settle(runtime)

        assert sorted(agent.inbox.messages) == ["agent:x", "news"]
        assert set(agent.inbox.keys) == {"news"}

    async def test_its_key_need_not_be_a_topic_type(self, runtime: Runtime) -> None:
        id = AgentId("agent", "no topic/type at > all*")
        await scripted().register_instance(runtime, id)

        assert await runtime.send_message("x", id) == "x"

    async def test_class_subscriptions_are_added_when_asked_for(self, runtime: Runtime, settle: Settle) -> None:
        @type_subscription("t")
        class Subscribed(Scripted):
            pass

        silent, listening = (Subscribed(echo, Inbox()) for _ in range(2))
        await silent.register_instance(runtime, AgentId("silent", "s"))
        await listening.register_instance(runtime, AgentId("listening", "s"), skip_class_subscriptions=False)
        await runtime.publish_message("x", TopicId("t", "s"))
        await settle(runtime)

        assert (silent.inbox.messages, listening.inbox.messages) == ([], ["x"])

    async def test_events_for_a_key_without_instance_go_nowhere_and_disturb_no_other(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        agent = scripted()
        await runtime.register_agent_instance(agent, AGENT)
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        for source in ("nobody", "k"):
            await runtime.publish_message(source, TopicId("t", source))
        await settle(runtime)

        assert agent.inbox.messages == ["k"]


class TestAskingForTheObject:
    async def test_it_is_the_one_that_handles_messages(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        agent = await runtime.try_get_underlying_agent_instance(AGENT, Scripted)
        await runtime.send_message("x", AGENT)

        assert agent is await runtime.try_get_underlying_agent_instance(AGENT)
        assert agent.inbox is inbox
        assert isinstance(agent, Agent)

    async def test_it_is_built_if_need_be(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")

        assert (await runtime.try_get_underlying_agent_instance(AGENT)).id == AGENT

    async def test_it_is_also_built_before_the_start(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await serve(runtime, "agent")
        agent = await runtime.try_get_underlying_agent_instance(AGENT, Scripted)
        await runtime.start()
        await runtime.send_message("x", AGENT)

        assert agent.inbox.messages == ["x"]

    async def test_another_class_is_an_error(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")

        with pytest.raises(TypeError, match="Scripted"):
            await runtime.try_get_underlying_agent_instance(AGENT, RoutedAgent)

    async def test_an_unknown_agent_is_an_error(self, runtime: Runtime) -> None:
        await runtime.register_agent_instance(scripted(), AGENT)

        for id in (UNKNOWN, AgentId("agent", "other")):
            with pytest.raises(LookupError, match="Recipient not found"):
                await runtime.try_get_underlying_agent_instance(id)

    async def test_what_the_factory_raises_is_raised(self, runtime: Runtime) -> None:
        def factory() -> Scripted:
            raise KeyError("boom")

        await runtime.register_factory("agent", factory)
        with pytest.raises(KeyError, match="boom"):
            await runtime.try_get_underlying_agent_instance(AGENT)

    @only_network
    async def test_one_of_another_process_cannot_be_had(self, make_runtime: MakeRuntime, namespace: str) -> None:
        serving, asking = make_runtime(namespace=namespace), make_runtime(namespace=namespace)
        await serve(serving, "agent")
        for runtime in (serving, asking):
            await runtime.start()

        with pytest.raises(NotAccessibleError, match="another process"):
            await asking.try_get_underlying_agent_instance(AGENT)
        assert await asking.send_message("x", AGENT) == "x"


class TestGet:
    async def test_it_returns_ids_and_builds_nothing(self, runtime: Runtime) -> None:
        built: list[AgentId] = []

        def factory() -> Scripted:
            built.append(AgentInstantiationContext.current_agent_id())
            return scripted()

        await runtime.register_factory("agent", factory)

        assert await runtime.get(AGENT) == AGENT
        assert await runtime.get("agent") == AgentId("agent", "default")
        assert await runtime.get("agent", "k") == AGENT
        assert await runtime.get(AgentType("agent"), "k") == AGENT
        assert await runtime.get(UNKNOWN) == UNKNOWN
        assert built == []

    async def test_when_it_is_not_lazy_it_builds_the_agent(self, runtime: Runtime) -> None:
        built: list[AgentId] = []

        def factory() -> Scripted:
            built.append(AgentInstantiationContext.current_agent_id())
            return scripted()

        await runtime.register_factory("agent", factory)
        for _ in range(2):
            assert await runtime.get("agent", "k", lazy=False) == AGENT

        assert built == [AGENT]

    async def test_when_it_is_not_lazy_what_the_factory_raises_is_raised(self, runtime: Runtime) -> None:
        def factory() -> Scripted:
            raise KeyError("boom")

        await runtime.register_factory("agent", factory)
        with pytest.raises(KeyError, match="boom"):
            await runtime.get(AGENT, lazy=False)

    async def test_when_it_is_not_lazy_an_unknown_type_is_an_error(self, runtime: Runtime) -> None:
        with pytest.raises(AgentNotFoundError):
            await runtime.get(UNKNOWN, lazy=False)


class TestStrictIds:
    async def test_they_narrow_what_an_id_may_be(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(strict_ids=True)
        await runtime.start()
        for refused in (
            runtime.register_factory("my.agent", scripted),
            runtime.register_factory("größe", scripted),
            runtime.register_agent_instance(scripted(), AgentId("single", "ü")),
            Scripted.register(runtime, "my-agent", scripted),
        ):
            with pytest.raises(ValueError, match="strict_ids"):
                await refused
        await runtime.register_factory("agent", scripted)
        for key in ("tab\t", "ü", "line\n"):
            with pytest.raises(ValueError, match="strict_ids"):
                await runtime.send_message("x", AgentId("agent", key))
            with pytest.raises(ValueError, match="strict_ids"):
                await runtime.publish_message("x", TopicId("t", key))

    async def test_what_is_within_the_narrow_set_works(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(strict_ids=True)
        await runtime.start()
        inbox = await serve(runtime, "Agent_1", echo, "a.b")
        await runtime.send_message("x", AgentId("Agent_1", "~ !*>.k"))
        await runtime.publish_message("y", TopicId("a.b", "~ !*>.k"))
        await until(lambda: inbox.messages == ["x", "y"])

        assert inbox.keys == ["~ !*>.k"] * 2


async def test_a_refused_registration_does_not_disturb_a_running_handler(runtime: Runtime) -> None:
    gate = Gate()
    await serve(runtime, "agent", gate)
    call = asyncio.create_task(runtime.send_message("x", AGENT))
    await until(lambda: gate.entered == 1)
    with pytest.raises(ValueError):
        await runtime.register_factory("agent", scripted)
    gate.opened.set()

    assert await call == "x"
