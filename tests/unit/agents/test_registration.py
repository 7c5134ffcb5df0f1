import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.agents.handlers import message_handler
from hivewire.agents.registration import direct_subscription, made_subscriptions, register_agent_type
from hivewire.agents.routed import RoutedAgent
from hivewire.exceptions import AgentNotFoundError, SerializationError
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext, SubscriptionInstantiationContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.subscriptions import (
    Subscription,
    TypePrefixSubscription,
    TypeSubscription,
    default_subscription,
    type_subscription,
)
from hivewire.model.topics import DefaultTopicId, TopicId


@dataclass
class Ping:
    text: str


class Recorder(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("records")
        self.seen: list[Ping] = []

    @message_handler
    async def on_ping(self, message: Ping, ctx: MessageContext) -> None:
        self.seen.append(message)


@default_subscription
class DefaultRecorder(Recorder):
    pass


class PlainRuntime:
    """A runtime that knows only the methods of the protocol that registration needs."""

    def __init__(self, refused: Subscription) -> None:
        self._refused = refused
        self.subscriptions: list[Subscription] = []

    async def register_factory(self, type: AgentType, agent_factory: Any, *, expected_class: Any = None) -> AgentType:
        return type

    async def add_subscription(self, subscription: Subscription) -> None:
        if subscription == self._refused:
            raise ValueError("Subscription already exists")
        self.subscriptions.append(subscription)

    async def remove_subscription(self, id: str) -> None:
        self.subscriptions = [subscription for subscription in self.subscriptions if subscription.id != id]


async def published(runtime: SingleThreadedAgentRuntime, agent_id: AgentId, topic: TopicId) -> list[Ping]:
    """Publish a message and return what the agent has seen then."""
    runtime.start()
    await runtime.publish_message(Ping("x"), topic)
    await runtime.stop_when_idle()
    return (await runtime.try_get_underlying_agent_instance(agent_id, Recorder)).seen


async def test_register_returns_the_type_and_takes_one() -> None:
    runtime = SingleThreadedAgentRuntime()

    assert await Recorder.register(runtime, "a", Recorder) == AgentType("a")
    assert await Recorder.register(runtime, AgentType("b"), Recorder) == AgentType("b")


async def test_register_adds_the_class_subscriptions_and_the_direct_one() -> None:
    runtime = SingleThreadedAgentRuntime()
    await DefaultRecorder.register(runtime, "rec", DefaultRecorder)

    assert await published(runtime, AgentId("rec", "default"), DefaultTopicId()) == [Ping("x")]
    assert await published(runtime, AgentId("rec", "s"), TopicId("rec:anything", "s")) == [Ping("x")]


async def test_both_kinds_of_subscriptions_can_be_skipped() -> None:
    runtime = SingleThreadedAgentRuntime()
    await DefaultRecorder.register(
        runtime, "rec", DefaultRecorder, skip_class_subscriptions=True, skip_direct_message_subscription=True
    )

    assert await published(runtime, AgentId("rec", "default"), DefaultTopicId()) == []
    assert await published(runtime, AgentId("rec", "s"), TopicId("rec:", "s")) == []
    assert runtime.unrouted_messages_count == 2


async def test_a_subclass_that_repeats_a_subscription_has_it_once() -> None:
    @default_subscription
    class Again(DefaultRecorder):
        pass

    runtime = SingleThreadedAgentRuntime()
    await Again.register(runtime, "rec", Again)

    assert await published(runtime, AgentId("rec", "default"), DefaultTopicId()) == [Ping("x")]


async def test_a_subscription_may_name_another_type_than_the_registered_one() -> None:
    @type_subscription("events", agent_type="elsewhere")
    class Pointing(Recorder):
        pass

    runtime = SingleThreadedAgentRuntime()
    await Pointing.register(runtime, "rec", Pointing)
    await Recorder.register(runtime, "elsewhere", Recorder)

    assert await published(runtime, AgentId("elsewhere", "s"), TopicId("events", "s")) == [Ping("x")]
    assert await published(runtime, AgentId("rec", "s"), TopicId("nothing", "s")) == []


async def test_a_type_without_serializer_is_refused_before_anything_is_registered() -> None:
    class Opaque:
        pass

    class Wrong(RoutedAgent):
        @message_handler
        async def handle(self, message: Opaque, ctx: MessageContext) -> None: ...

    runtime = SingleThreadedAgentRuntime()
    for _ in range(2):
        with pytest.raises(SerializationError, match="No serializers found"):
            await Wrong.register(runtime, "rec", Wrong)
    await Recorder.register(runtime, "rec", Recorder)


async def test_a_refused_subscription_leaves_nothing_of_the_registration() -> None:
    @type_subscription("first")
    @type_subscription("second")
    class Twice(Recorder):
        pass

    runtime = SingleThreadedAgentRuntime()
    taken = TypeSubscription("first", "rec")
    await runtime.add_subscription(taken)
    with pytest.raises(ValueError, match="Subscription already exists"):
        await Twice.register(runtime, "rec", Twice)
    with pytest.raises(AgentNotFoundError):
        await runtime.send_message(Ping("x"), AgentId("rec", "k"))

    await runtime.remove_subscription(taken.id)
    await Twice.register(runtime, "rec", Twice)


async def test_a_taken_type_changes_nothing() -> None:
    runtime = SingleThreadedAgentRuntime()
    await Recorder.register(runtime, "rec", Recorder)
    with pytest.raises(ValueError, match="already exists"):
        await DefaultRecorder.register(runtime, "rec", DefaultRecorder)

    assert await published(runtime, AgentId("rec", "default"), DefaultTopicId()) == []


async def test_a_plain_runtime_gets_the_steps_one_by_one_and_loses_its_subscriptions_after_an_error() -> None:
    runtime: Any = PlainRuntime(refused=TypeSubscription("second", "rec"))
    subscriptions = [TypeSubscription("first", "rec"), TypeSubscription("second", "rec")]

    async def register(*, count: int) -> AgentType:
        return await register_agent_type(
            runtime,
            AgentType("rec"),
            Recorder,
            expected_class=Recorder,
            subscriptions=subscriptions[:count],
            serializers=[],
        )

    with pytest.raises(ValueError, match="already exists"):
        await register(count=2)
    assert runtime.subscriptions == []
    assert await register(count=1) == AgentType("rec")
    assert runtime.subscriptions == subscriptions[:1]


async def test_subscription_factories_may_be_async_and_know_the_type() -> None:
    async def later() -> list[Subscription]:
        await asyncio.sleep(0)
        return [TypeSubscription("a", SubscriptionInstantiationContext.agent_type())]

    def now() -> list[Subscription]:
        return [TypeSubscription("a", "rec"), TypeSubscription("b", SubscriptionInstantiationContext.agent_type())]

    made = await made_subscriptions(AgentType("rec"), [later, now])

    assert made == [TypeSubscription("a", "rec"), TypeSubscription("b", "rec")]


def test_the_direct_subscription_ends_with_a_colon() -> None:
    assert direct_subscription("rec") == TypePrefixSubscription("rec:", "rec")
    assert not direct_subscription("rec").is_match(TopicId("recorder:", "s"))


class TestInstances:
    async def test_an_instance_subscribes_to_its_key_and_to_direct_topics(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        agent = Recorder()

        assert await agent.register_instance(runtime, AgentId("rec", "k")) == AgentId("rec", "k")
        assert agent.id == AgentId("rec", "k")
        assert await published(runtime, AgentId("rec", "k"), TopicId("k", "k")) == [Ping("x")]
        assert await published(runtime, AgentId("rec", "k"), TopicId("rec:", "k")) == [Ping("x")] * 2

    async def test_several_instances_of_a_type_can_be_registered(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        for key in ("a", "b"):
            await DefaultRecorder().register_instance(runtime, AgentId("rec", key), skip_class_subscriptions=False)

        assert await published(runtime, AgentId("rec", "b"), DefaultTopicId(source="b")) == [Ping("x")]

    async def test_class_subscriptions_are_skipped_unless_asked_for(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await DefaultRecorder().register_instance(runtime, AgentId("rec", "a"))

        assert await published(runtime, AgentId("rec", "a"), DefaultTopicId(source="a")) == []

    async def test_an_agent_that_is_bound_elsewhere_is_not_registered(self) -> None:
        runtime, other = SingleThreadedAgentRuntime(), SingleThreadedAgentRuntime()
        agent = BaseAgent(AgentId("rec", "k"), other)

        with pytest.raises(RuntimeError, match="bound to a different runtime"):
            await agent.register_instance(runtime, AgentId("rec", "k"))
        with pytest.raises(AgentNotFoundError):
            await runtime.agent_metadata(AgentId("rec", "k"))
