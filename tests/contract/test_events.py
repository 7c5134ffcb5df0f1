"""Publishing and subscribing."""

import asyncio
import logging
from typing import Any

import pytest

from contract.support import (
    Inbox,
    MakeRuntime,
    Number,
    Runtime,
    Scripted,
    Settle,
    Text,
    echo,
    fail,
    ignore,
    only_local,
    only_network,
    serve,
    until,
)
from hivewire import (
    AgentId,
    DefaultSubscription,
    DefaultTopicId,
    MessageContext,
    MessageHandlerContext,
    RetryPolicy,
    RoutedAgent,
    RuntimeStateError,
    SerializationError,
    SubscriptionInstantiationContext,
    SubscriptionNotFoundError,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    default_subscription,
    event,
    message_handler,
    type_subscription,
)

TOPIC = TopicId("t", "s")


class TestPublishing:
    async def test_returns_nothing_and_reaches_the_subscriber(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", echo, "t")

        published: Any = await runtime.publish_message(Text("x"), TOPIC)
        await until(lambda: len(inbox) == 1)

        assert published is None
        assert inbox.only.message == Text("x")
        assert inbox.only.agent == AgentId("agent", "s")

    async def test_an_event_has_its_topic_and_is_no_call(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        await runtime.publish_message("x", TOPIC)
        await until(lambda: len(inbox) == 1)

        ctx = inbox.only.ctx
        assert ctx.topic_id == TOPIC
        assert ctx.is_rpc is False
        assert ctx.sender is None

    @pytest.mark.parametrize("message_id", ["my-id", "with space\nand line", "größe-🐝", "%41"])
    async def test_the_message_id_is_the_one_that_was_given(self, runtime: Runtime, message_id: str) -> None:
        inboxes = [await serve(runtime, type, ignore, "t") for type in "ab"]
        await runtime.publish_message("x", TOPIC, message_id=message_id)
        await until(lambda: all(map(len, inboxes)))

        assert [inbox.only.ctx.message_id for inbox in inboxes] == [message_id] * 2

    async def test_generated_message_ids_are_there_and_differ(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for _ in range(10):
            await runtime.publish_message("x", TOPIC)
        await until(lambda: len(inbox) == 10)

        ids = {each.ctx.message_id for each in inbox.received}
        assert len(ids) == 10
        assert all(ids)

    async def test_one_message_id_may_serve_several_topics(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t", "u")
        topics = [TOPIC, TopicId("u", "s"), TopicId("t", "other")]
        for topic in topics:
            await runtime.publish_message(str(topic), topic, message_id="same")
        await settle(runtime)

        assert sorted(inbox.messages) == sorted(map(str, topics))
        assert {each.ctx.message_id for each in inbox.received} == {"same"}

    async def test_a_message_id_that_comes_again_on_one_topic_is_over_a_network_the_same_event(
        self, runtime: Runtime, settle: Settle, kind: str
    ) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for _ in range(2):
            await runtime.publish_message("x", TOPIC, message_id="same")
        await settle(runtime)

        assert inbox.messages == (["x", "x"] if kind == "local" else ["x"])

    async def test_any_agent_id_may_be_the_sender_and_none_is_built_for_it(self, runtime: Runtime) -> None:
        sender = await serve(runtime, "sender")
        inbox = await serve(runtime, "agent", ignore, "t")
        ids = [AgentId("nobody", "knows/this\nid"), AgentId("sender", "s")]
        for id in ids:
            await runtime.publish_message("x", TOPIC, sender=id)
        await until(lambda: len(inbox) == 2)

        assert [each.ctx.sender for each in inbox.received] == ids
        assert sender.received == []

    async def test_an_agents_own_events_name_it_as_the_sender(self, runtime: Runtime) -> None:
        async def publish(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.publish_message(message, TOPIC, message_id="id")

        await serve(runtime, "publisher", publish)
        inbox = await serve(runtime, "agent", ignore, "t")
        await runtime.send_message("x", AgentId("publisher", "p"))
        await until(lambda: len(inbox) == 1)

        assert inbox.only.ctx.sender == AgentId("publisher", "p")
        assert inbox.only.ctx.message_id == "id"

    async def test_each_subscriber_gets_its_copy(self, runtime: Runtime) -> None:
        inboxes = [await serve(runtime, f"agent{number}", ignore, "t") for number in range(5)]
        await runtime.publish_message(Text("x"), TOPIC)
        await until(lambda: all(map(len, inboxes)))

        assert [inbox.messages for inbox in inboxes] == [[Text("x")]] * 5

    async def test_the_source_of_the_topic_is_the_key_of_the_agent(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for source in ("a", "b", "a"):
            await runtime.publish_message(source, TopicId("t", source))
        await until(lambda: len(inbox) == 3)

        assert inbox.keys == inbox.messages
        assert sorted(inbox.keys) == ["a", "a", "b"]

    async def test_events_from_one_sender_to_one_agent_start_in_order(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for number in range(200):
            await runtime.publish_message(number, TOPIC)
        await until(lambda: len(inbox) == 200)

        assert inbox.messages == list(range(200))

    async def test_many_published_at_once_all_arrive_once(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        await asyncio.gather(*(runtime.publish_message(n, TopicId("t", str(n % 50))) for n in range(500)))
        await settle(runtime)

        assert sorted(inbox.messages) == list(range(500))

    async def test_a_cascade_comes_to_its_end(self, runtime: Runtime, settle: Settle) -> None:
        async def pass_on(agent: Scripted, message: int, ctx: MessageContext) -> None:
            if message < 4:
                await agent.publish_message(message + 1, TOPIC)

        inboxes = [await serve(runtime, f"agent{number}", pass_on, "t") for number in range(3)]
        await runtime.publish_message(1, TOPIC)
        await settle(runtime)

        # Each agent passes on to the two others.
        assert sum(map(len, inboxes)) == 3 * (1 + 2 + 4 + 8)

    async def test_a_handler_may_publish_and_call_within_an_event(self, runtime: Runtime) -> None:
        async def ask(agent: Scripted, message: int, ctx: MessageContext) -> None:
            answer = await agent.send_message(message + 1, AgentId("helper", "h"))
            await agent.publish_message(answer, TopicId("result", "r"))

        await serve(runtime, "asking", ask, "t")
        await serve(runtime, "helper")
        results = await serve(runtime, "reader", ignore, "result")
        await runtime.publish_message(1, TOPIC)
        await until(lambda: results.messages == [2])

    @only_local
    async def test_before_the_start_events_wait_in_the_queue(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        inbox = await serve(runtime, "agent", ignore, "t")
        await runtime.publish_message("x", TOPIC)
        assert inbox.received == []
        await runtime.start()

        await until(lambda: inbox.messages == ["x"])

    @only_network
    async def test_before_the_start_events_need_a_connection_and_are_stored_then(
        self, make_runtime: MakeRuntime
    ) -> None:
        runtime: Any = make_runtime()
        inbox = await serve(runtime, "agent", ignore, "t")
        with pytest.raises(RuntimeStateError, match="connect"):
            await runtime.publish_message("x", TOPIC)
        await runtime.connect()
        await runtime.publish_message("y", TOPIC)
        await runtime.start()

        await until(lambda: inbox.messages == ["y"])

    async def test_what_cannot_be_serialized_is_an_error_of_the_publisher(
        self, copying_runtime: Runtime, settle: Settle
    ) -> None:
        inbox = await serve(copying_runtime, "agent", ignore, "t")
        with pytest.raises(SerializationError):
            await copying_runtime.publish_message(object(), TOPIC)
        await settle(copying_runtime)

        assert inbox.received == []


class TestFailures:
    async def test_a_handlers_error_does_not_reach_the_publisher_and_is_logged(
        self, runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
    ) -> None:
        await serve(runtime, "agent", fail, "t")
        with caplog.at_level(logging.ERROR, logger="hivewire"):
            await runtime.publish_message("secret", TOPIC)
            await settle(runtime)

        logged = [record for record in caplog.records if record.exc_info and isinstance(record.exc_info[1], ValueError)]
        assert len(logged) == 1
        assert "agent/s" in logged[0].getMessage()
        assert "secret" not in logged[0].getMessage()

    async def test_one_failing_subscriber_affects_no_other(self, runtime: Runtime, settle: Settle) -> None:
        def explode() -> Scripted:
            raise KeyError("no agent")

        good = [await serve(runtime, "a", ignore, "t")]
        await serve(runtime, "b", fail, "t")
        await runtime.register_factory("c", explode, expected_class=Scripted)
        await runtime.add_subscription(TypeSubscription("t", "c"))
        await runtime.add_subscription(TypeSubscription("t", "nobody"))
        good.append(await serve(runtime, "d", ignore, "t"))
        for number in range(3):
            await runtime.publish_message(number, TOPIC)
        await settle(runtime)

        assert [inbox.messages for inbox in good] == [[0, 1, 2]] * 2

    async def test_a_slow_subscriber_holds_up_no_other(self, runtime: Runtime) -> None:
        release = asyncio.Event()

        async def wait(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await release.wait()

        slow = await serve(runtime, "slow", wait, "t")
        quick = await serve(runtime, "quick", ignore, "t")
        for number in range(20):
            await runtime.publish_message(number, TOPIC)
        await until(lambda: len(quick) == 20 and len(slow) == 20)
        release.set()

    async def test_answers_of_event_handlers_go_nowhere(self, runtime: Runtime, settle: Settle) -> None:
        await serve(runtime, "agent", echo, "t")
        await runtime.publish_message("x", TOPIC, sender=AgentId("agent", "other"))
        await settle(runtime)

        assert await runtime.send_message("y", AgentId("agent", "s")) == "y"

    async def test_a_handler_that_raises_cancelled_error_ends_only_its_own_event(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        async def give_up(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            raise asyncio.CancelledError

        gave_up = await serve(runtime, "a", give_up, "t")
        inbox = await serve(runtime, "b", ignore, "t")
        for number in range(3):
            await runtime.publish_message(number, TOPIC)
        await settle(runtime)

        assert (gave_up.messages, inbox.messages) == ([0, 1, 2], [0, 1, 2])


class TestUnrouted:
    async def test_an_event_that_nobody_subscribes_to_is_counted_and_logged(
        self, runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
    ) -> None:
        await serve(runtime, "agent", ignore, "t")
        with caplog.at_level(logging.INFO, logger="hivewire"):
            await runtime.publish_message(Text("secret"), TopicId("nowhere", "s"))
            await runtime.publish_message("x", TOPIC)
            await settle(runtime)

        assert runtime.unrouted_messages_count == 1
        logged = [record.getMessage() for record in caplog.records if "nowhere" in record.getMessage()]
        assert len(logged) == 1
        assert "nrouted" in logged[0]
        assert "secret" not in caplog.text

    async def test_one_whose_only_subscriber_published_it_is_routed(self, runtime: Runtime, settle: Settle) -> None:
        await serve(runtime, "agent", ignore, "t")
        await runtime.publish_message("x", TOPIC, sender=AgentId("agent", "s"))
        await settle(runtime)

        assert runtime.unrouted_messages_count == 0


class TestThePublisherItself:
    async def test_does_not_get_its_own_event(self, runtime: Runtime, settle: Settle) -> None:
        async def publish(agent: Scripted, message: str, ctx: MessageContext) -> None:
            if message == "go":
                await agent.publish_message("event", TopicId("t", agent.id.key))

        inboxes = {type: await serve(runtime, type, publish, "t") for type in ("publisher", "other")}
        await runtime.send_message("go", AgentId("publisher", "s"))
        await settle(runtime)

        assert inboxes["publisher"].messages == ["go"]
        assert inboxes["other"].messages == ["event"]

    async def test_is_one_agent_and_other_keys_of_its_type_get_it(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        await runtime.publish_message("x", TOPIC, sender=AgentId("agent", "elsewhere"))
        await settle(runtime)

        assert inbox.agents == [AgentId("agent", "s")]

    async def test_is_also_left_out_when_it_subscribes_by_prefix(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, TypePrefixSubscription("t", "agent"))
        await runtime.publish_message("x", TOPIC, sender=AgentId("agent", "s"))
        await runtime.publish_message("y", TOPIC)
        await settle(runtime)

        assert inbox.messages == ["y"]


class TestExactSubscriptions:
    async def test_they_match_one_topic_type_and_nothing_else(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "a.b")
        for topic in ("a.b", "a", "a.b.c", "A.b", "a:b", "a.bc", "b", "a-b", "x.a.b"):
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.messages == ["a.b"]

    async def test_every_topic_type_can_be_subscribed_to(self, make_runtime: MakeRuntime, settle: Settle) -> None:
        topics = [
            "a",
            "a.b",
            "a:b",
            "a:",
            ":",
            ":a",
            "a=b",
            "=",
            "a-b_c",
            "größe",
            ".",
            "..",
            "a..b",
            ".a.",
            "::",
            "a:.b",
        ]
        runtime = make_runtime()
        inbox = await serve(runtime, "agent", ignore, *topics)
        await runtime.start()
        for topic in topics:
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.messages == topics
        assert [each.ctx.topic_id for each in inbox.received] == [TopicId(topic, "s") for topic in topics]

    async def test_topic_types_that_differ_by_little_are_different(self, runtime: Runtime, settle: Settle) -> None:
        topics = ["a.b", "a:b", "a=b", "a-b", "a_b", "ab", "A.B", "a..b", "a.b.", ".a.b", "a::b", "a:b:"]
        inboxes = [await serve(runtime, f"agent{n}", ignore, topic) for n, topic in enumerate(topics)]
        for topic in topics:
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert [inbox.messages for inbox in inboxes] == [[topic] for topic in topics]

    async def test_one_type_may_have_several(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "a", "b", "c")
        for topic in "abc":
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert sorted(inbox.messages) == ["a", "b", "c"]


class TestPrefixSubscriptions:
    @pytest.mark.parametrize("prefix", ["task.", "task.*", "task.>"])
    async def test_they_match_what_starts_with_the_prefix(self, runtime: Runtime, settle: Settle, prefix: str) -> None:
        inbox = await serve(runtime, "agent", ignore, TypePrefixSubscription(prefix, "agent"))
        for topic in ("task.a", "task.a.b", "task.", "task", "tasks.a", "other", "task:a"):
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert sorted(inbox.messages) == ["task.", "task.a", "task.a.b"]

    async def test_a_prefix_may_end_anywhere(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, TypePrefixSubscription("new", "agent"))
        topics = ["new", "news", "news.tech", "new.a", "new:a", "ne", "anew"]
        for topic in topics:
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert sorted(inbox.messages) == sorted(topics[:5])

    @pytest.mark.parametrize("prefix", ["task:", "a.b:c:", "größe.", "a=", "a.b:c"])
    async def test_a_prefix_may_be_made_of_anything_that_a_topic_type_is(
        self, runtime: Runtime, settle: Settle, prefix: str
    ) -> None:
        inbox = await serve(runtime, "agent", ignore, TypePrefixSubscription(prefix, "agent"))
        topics = [f"{prefix}x", f"{prefix}x.y:z", f"x{prefix}", "other"]
        for topic in topics:
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.messages == topics[:2]

    async def test_the_empty_prefix_matches_everything(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, TypePrefixSubscription("", "agent"))
        topics = ["a", "a.b", "x:y", "größe"]
        for topic in topics:
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.messages == topics


class TestDefaultSubscriptions:
    async def test_they_are_for_the_topic_type_default(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, DefaultSubscription(agent_type="agent"))
        await runtime.publish_message("x", DefaultTopicId())
        await runtime.publish_message("y", TopicId("other", "default"))
        await settle(runtime)

        assert inbox.messages == ["x"]
        assert inbox.only.agent == AgentId("agent", "default")

    async def test_a_class_may_have_one_with_or_without_parentheses(self, runtime: Runtime, settle: Settle) -> None:
        @default_subscription
        class A(Scripted):
            pass

        @default_subscription()
        class B(Scripted):
            pass

        inbox = Inbox()
        await A.register(runtime, "a", lambda: A(ignore, inbox))
        await B.register(runtime, "b", lambda: B(ignore, inbox))
        await runtime.publish_message("x", DefaultTopicId())
        await settle(runtime)

        assert sorted(map(str, inbox.agents)) == ["a/default", "b/default"]

    async def test_a_class_may_name_the_agent_type(self, runtime: Runtime, settle: Settle) -> None:
        @type_subscription(topic_type="t", agent_type="named")
        class Named(Scripted):
            pass

        inbox = Inbox()
        await Named.register(runtime, "agent", lambda: Named(ignore, inbox))
        await Scripted.register(runtime, "named", lambda: Scripted(ignore, inbox))
        await runtime.publish_message("x", TOPIC)
        await settle(runtime)

        assert inbox.agents == [AgentId("named", "s")]

    async def test_the_type_that_is_being_registered_can_be_asked_for(self, runtime: Runtime) -> None:
        seen: list[str] = []

        class Noting(Scripted):
            pass

        def note() -> list[Any]:
            seen.append(SubscriptionInstantiationContext.agent_type().type)
            return [TypeSubscription("t", SubscriptionInstantiationContext.agent_type())]

        Noting.__hivewire_subscriptions__ = [note]  # type: ignore[attr-defined]
        inbox = Inbox()
        await Noting.register(runtime, "agent", lambda: Noting(ignore, inbox))
        await runtime.publish_message("x", TOPIC)
        await until(lambda: len(inbox) == 1)

        assert seen == ["agent"]


class TestAddingAndRemoving:
    async def test_an_equal_one_is_refused(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t", TypePrefixSubscription("p.", "agent"))
        for equal in (TypeSubscription("t", "agent"), TypePrefixSubscription("p.*", "agent")):
            with pytest.raises(ValueError, match="Subscription already exists"):
                await runtime.add_subscription(equal)
        await runtime.publish_message("x", TOPIC)
        await settle(runtime)

        assert inbox.messages == ["x"]

    async def test_several_that_match_make_one_delivery(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(
            runtime,
            "agent",
            ignore,
            "news.tech",
            TypePrefixSubscription("news.", "agent"),
            TypePrefixSubscription("new", "agent"),
            TypePrefixSubscription("", "agent"),
        )
        await runtime.publish_message("x", TopicId("news.tech", "s"))
        await runtime.publish_message("y", TopicId("news.art", "s"))
        await settle(runtime)

        assert inbox.messages == ["x", "y"]

    async def test_one_holds_from_when_adding_it_returned(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent")
        for topic in ("a", "b", "c"):
            await runtime.publish_message(f"before {topic}", TopicId(topic, "s"))
            await runtime.add_subscription(TypeSubscription(topic, "agent"))
            await runtime.publish_message(f"after {topic}", TopicId(topic, "s"))
        await settle(runtime)

        expected = ["after a", "after b", "after c"]
        # In one process a subscription may also catch what still waits in the queue.
        assert [message for message in inbox.messages if message.startswith("after")] == expected

    async def test_one_does_not_bring_back_what_was_handled_before(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent")
        await runtime.publish_message("before", TOPIC)
        await settle(runtime)
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        await runtime.publish_message("after", TOPIC)
        await settle(runtime)

        assert inbox.messages == ["after"]

    async def test_a_removed_one_holds_no_longer(self, runtime: Runtime, settle: Settle) -> None:
        kept, removed = TypeSubscription("a", "agent"), TypePrefixSubscription("b.", "agent")
        inbox = await serve(runtime, "agent", ignore, kept, removed)
        for topic in ("a", "b.x"):
            await runtime.publish_message("before", TopicId(topic, "s"))
        await settle(runtime)
        await runtime.remove_subscription(removed.id)
        for topic in ("a", "b.x"):
            await runtime.publish_message("after", TopicId(topic, "s"))
        await settle(runtime)

        assert sorted(inbox.messages) == ["after", "before", "before"]

    async def test_a_removed_one_may_be_added_again(self, runtime: Runtime, settle: Settle) -> None:
        subscription = TypeSubscription("t", "agent")
        inbox = await serve(runtime, "agent", ignore, subscription)
        for number in range(3):
            await runtime.remove_subscription(subscription.id)
            await runtime.publish_message(f"without {number}", TOPIC)
            await settle(runtime)
            await runtime.add_subscription(subscription)
            await runtime.publish_message(f"with {number}", TOPIC)
            await settle(runtime)

        assert inbox.messages == ["with 0", "with 1", "with 2"]

    async def test_of_two_that_match_the_other_one_stays(self, runtime: Runtime, settle: Settle) -> None:
        exact, prefix = TypeSubscription("t", "agent"), TypePrefixSubscription("t", "agent")
        inbox = await serve(runtime, "agent", ignore, exact, prefix)
        await runtime.remove_subscription(exact.id)
        await runtime.publish_message("x", TOPIC)
        await settle(runtime)

        assert inbox.messages == ["x"]

    async def test_an_unknown_one_cannot_be_removed(self, runtime: Runtime) -> None:
        with pytest.raises(SubscriptionNotFoundError) as caught:
            await runtime.remove_subscription("unknown")

        assert isinstance(caught.value, LookupError)
        assert isinstance(caught.value, ValueError)

    async def test_one_cannot_be_removed_twice(self, runtime: Runtime) -> None:
        subscription = TypeSubscription("t", "agent")
        await serve(runtime, "agent", ignore, subscription)
        await runtime.remove_subscription(subscription.id)

        with pytest.raises(SubscriptionNotFoundError):
            await runtime.remove_subscription(subscription.id)

    async def test_one_that_was_removed_before_the_start_never_holds(
        self, make_runtime: MakeRuntime, settle: Settle
    ) -> None:
        runtime = make_runtime()
        subscription = TypeSubscription("t", "agent")
        inbox = await serve(runtime, "agent", ignore, subscription, "u")
        await runtime.remove_subscription(subscription.id)
        await runtime.start()
        for topic in ("t", "u"):
            await runtime.publish_message(topic, TopicId(topic, "s"))
        await settle(runtime)

        assert inbox.messages == ["u"]

    async def test_they_may_change_while_events_flow(self, runtime: Runtime, settle: Settle) -> None:
        steady = await serve(runtime, "agent", ignore, "steady")
        for number in range(10):
            subscription = TypeSubscription(f"t{number}", "agent")
            await runtime.add_subscription(subscription)
            for event_number in range(3):
                await runtime.publish_message((number, event_number).__repr__(), TopicId("steady", "s"))
            await runtime.remove_subscription(subscription.id)
        await settle(runtime)

        assert steady.messages == [repr((number, each)) for number in range(10) for each in range(3)]

    @only_network
    async def test_a_kind_of_ones_own_is_refused(self, runtime: Runtime) -> None:
        class Everything:
            id = "everything"

            def is_match(self, topic_id: TopicId) -> bool:
                return True

            def map_to_agent(self, topic_id: TopicId) -> AgentId:
                return AgentId("agent", "k")

        everything: Any = Everything()
        with pytest.raises(ValueError, match="TypeSubscription"):
            await runtime.add_subscription(everything)

    @only_local
    async def test_a_kind_of_ones_own_works_in_one_process(self, runtime: Runtime) -> None:
        class Everything:
            id = "everything"

            def is_match(self, topic_id: TopicId) -> bool:
                return True

            def map_to_agent(self, topic_id: TopicId) -> AgentId:
                return AgentId("agent", "fixed")

        everything: Any = Everything()
        inbox = await serve(runtime, "agent", ignore, everything)
        await runtime.publish_message("x", TOPIC)

        await until(lambda: inbox.keys == ["fixed"])


class TestTheTopicOfAHandler:
    """`DefaultTopicId()` and `MessageHandlerContext` in handlers of calls and of events."""

    @pytest.mark.parametrize("how", ["call", "event"])
    async def test_its_source_is_the_key_of_the_agent(self, runtime: Runtime, how: str) -> None:
        async def publish(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.publish_message("from inside", DefaultTopicId())

        await serve(runtime, "publisher", publish, "t")
        inbox = await serve(runtime, "reader", ignore, "default")
        if how == "call":
            await runtime.send_message("go", AgentId("publisher", "my key"))
        else:
            await runtime.publish_message("go", TopicId("t", "my key"))
        await until(lambda: len(inbox) == 1)

        assert inbox.only.ctx.topic_id == TopicId("default", "my key")
        assert inbox.only.agent == AgentId("reader", "my key")

    async def test_outside_of_handlers_it_is_default(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "reader", ignore, "default", "other")
        await runtime.publish_message("x", DefaultTopicId())
        await runtime.publish_message("y", DefaultTopicId("other"))
        await runtime.publish_message("z", DefaultTopicId("other", "given"))
        await until(lambda: len(inbox) == 3)

        topics = {each.message: each.ctx.topic_id for each in inbox.received}
        assert topics == {
            "x": TopicId("default", "default"),
            "y": TopicId("other", "default"),
            "z": TopicId("other", "given"),
        }

    async def test_a_handler_can_ask_which_agent_it_is(self, runtime: Runtime) -> None:
        seen: list[AgentId] = []

        async def ask(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            seen.append(MessageHandlerContext.agent_id())
            if message == "outer":
                await agent.send_message("inner", AgentId("inner", "i"))
                seen.append(MessageHandlerContext.agent_id())

        await serve(runtime, "inner", ask)
        await serve(runtime, "agent", ask, "t")
        await runtime.send_message("outer", AgentId("agent", "k"))
        await runtime.publish_message("x", TOPIC)
        await until(lambda: len(seen) == 4)

        assert seen == [AgentId("agent", "k"), AgentId("inner", "i"), AgentId("agent", "k"), AgentId("agent", "s")]
        with pytest.raises(RuntimeError):
            MessageHandlerContext.agent_id()

    async def test_factories_and_handlers_know_nothing_of_who_sent_the_message(self, runtime: Runtime) -> None:
        seen: list[AgentId | None] = []

        def factory() -> Scripted:
            try:
                seen.append(MessageHandlerContext.agent_id())
            except RuntimeError:
                seen.append(None)
            return Scripted(ignore, Inbox())

        async def call(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.send_message(message, AgentId("inner", "i"))

        await runtime.register_factory("inner", factory)
        await serve(runtime, "outer", call)
        await runtime.send_message("x", AgentId("outer", "o"))

        assert seen == [None]


class TestRoutedEvents:
    async def test_an_event_reaches_the_handler_of_its_class(self, runtime: Runtime, settle: Settle) -> None:
        seen: list[Any] = []

        @default_subscription
        class Reader(RoutedAgent):
            @event
            async def on_text(self, message: Text, ctx: MessageContext) -> None:
                seen.append(message)

            @message_handler
            async def on_number(self, message: Number, ctx: MessageContext) -> int:
                seen.append(message)
                return message.value

        await Reader.register(runtime, "reader", Reader)
        for message in (Text("a"), Number(1), "neither"):
            await runtime.publish_message(message, DefaultTopicId())
        await settle(runtime)

        assert seen == [Text("a"), Number(1)]

    async def test_one_that_returns_something_is_an_error_that_is_logged(
        self, runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
    ) -> None:
        @default_subscription
        class Wrong(RoutedAgent):
            retry_policy = RetryPolicy(attempts=1)

            @event
            async def on_text(self, message: Text, ctx: MessageContext) -> None:
                wrong: Any = "something"
                return wrong  # type: ignore[no-any-return]

        await Wrong.register(runtime, "wrong", Wrong)
        with caplog.at_level(logging.ERROR):
            await runtime.publish_message(Text("a"), DefaultTopicId())
            await settle(runtime)

        assert any(record.exc_info and isinstance(record.exc_info[1], ValueError) for record in caplog.records)
