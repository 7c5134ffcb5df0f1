import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivewire.exceptions import CantHandleException, SubscriptionNotFoundError
from hivewire.model.contexts import SubscriptionInstantiationContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.subscriptions import (
    DefaultSubscription,
    Subscription,
    SubscriptionSet,
    TypePrefixSubscription,
    TypeSubscription,
    class_subscriptions,
    default_subscription,
    type_subscription,
)
from hivewire.model.topics import TopicId


class Everything:
    """A subscription of the user's own, derived from nothing."""

    def __init__(self, id: str, agent_type: str) -> None:
        self.id = id
        self.agent_type = agent_type

    def is_match(self, topic_id: TopicId) -> bool:
        return True

    def map_to_agent(self, topic_id: TopicId) -> AgentId:
        return AgentId(self.agent_type, "all")


def test_a_type_subscription_maps_the_source_to_the_key():
    subscription = TypeSubscription(topic_type="task", agent_type="worker")
    assert subscription.is_match(TopicId("task", "s1"))
    assert not subscription.is_match(TopicId("task.a", "s1"))
    assert subscription.map_to_agent(TopicId("task", "s1")) == AgentId("worker", "s1")
    with pytest.raises(CantHandleException):
        subscription.map_to_agent(TopicId("other", "s1"))


def test_a_prefix_subscription_matches_by_plain_prefix():
    subscription = TypePrefixSubscription(topic_type_prefix="task.", agent_type=AgentType("worker"))
    assert subscription.is_match(TopicId("task.a", "s"))
    assert not subscription.is_match(TopicId("task", "s"))
    assert not subscription.is_match(TopicId("other", "s"))
    assert subscription.map_to_agent(TopicId("task.a", "s")) == AgentId("worker", "s")
    with pytest.raises(CantHandleException):
        subscription.map_to_agent(TopicId("other", "s"))


@pytest.mark.parametrize(("written", "meant"), [("news.*", "news."), ("news.>", "news."), ("news", "news"), ("*", "")])
def test_one_trailing_wildcard_of_a_prefix_is_taken_off(written, meant):
    subscription = TypePrefixSubscription(written, "reader")
    assert subscription.topic_type_prefix == meant
    assert subscription.is_match(TopicId("news.tech", "s"))


def test_ids_are_unique_unless_given():
    assert TypeSubscription("t", "a").id != TypeSubscription("t", "a").id
    assert TypeSubscription("t", "a", id="mine").id == "mine"
    assert TypePrefixSubscription("t", "a", id="mine").id == "mine"


@pytest.mark.parametrize("cls", [TypeSubscription, TypePrefixSubscription])
def test_subscriptions_are_equal_by_id_or_by_value(cls):
    assert cls("t", "a") == cls("t", "a")
    assert cls("t", "a", id="1") == cls("u", "b", id="1")
    assert cls("t", "a") != cls("t", "b")
    assert cls("t", "a") != cls("u", "a")
    assert cls("t", "a") != "t"
    assert TypeSubscription("t", "a", id="1") != TypePrefixSubscription("t", "a", id="1")


def test_all_kinds_satisfy_the_protocol():
    with SubscriptionInstantiationContext.populate_context(AgentType("a")):
        default = DefaultSubscription()
    for subscription in (TypeSubscription("t", "a"), TypePrefixSubscription("t", "a"), default, Everything("1", "a")):
        assert isinstance(subscription, Subscription)
    assert not isinstance(TopicId("t", "s"), Subscription)


@pytest.mark.parametrize("cls", [TypeSubscription, TypePrefixSubscription, DefaultSubscription])
def test_an_invalid_agent_type_is_refused_at_once(cls):
    with pytest.raises(ValueError, match="Invalid agent type"):
        cls("t", "not valid")


def test_a_default_subscription_takes_the_type_that_is_being_registered():
    with SubscriptionInstantiationContext.populate_context(AgentType("worker")):
        subscription = DefaultSubscription()
    assert (subscription.topic_type, subscription.agent_type) == ("default", "worker")
    assert DefaultSubscription(agent_type="logger") == TypeSubscription("default", "logger")
    with pytest.raises(CantHandleException):
        DefaultSubscription()


def made_by(cls: type, agent_type: str = "registered") -> list[tuple[str, str]]:
    with SubscriptionInstantiationContext.populate_context(AgentType(agent_type)):
        return [(s.topic_type, s.agent_type) for factory in class_subscriptions(cls) for s in factory()]


def test_class_decorators_work_with_and_without_parentheses():
    @default_subscription
    class Bare:
        pass

    @default_subscription()
    class Called:
        pass

    assert made_by(Bare) == made_by(Called) == [("default", "registered")]


def test_a_type_subscription_may_name_the_agent_type():
    @type_subscription("news")
    @type_subscription(topic_type="events", agent_type="event_handler")
    class Reader:
        pass

    assert made_by(Reader) == [("events", "event_handler"), ("news", "registered")]


def test_a_subclass_adds_to_its_own_list_only():
    @type_subscription("a")
    class Parent:
        pass

    @type_subscription("b")
    class Child(Parent):
        pass

    class Plain(Parent):
        pass

    assert made_by(Parent) == made_by(Plain) == [("a", "registered")]
    assert made_by(Child) == [("a", "registered"), ("b", "registered")]
    assert class_subscriptions(object) == []


def test_row_54_an_agent_with_two_matching_subscriptions_is_one_recipient():
    subscriptions = SubscriptionSet()
    subscriptions.add(TypeSubscription("task.a", "worker"))
    subscriptions.add(TypePrefixSubscription("task.", "worker"))
    subscriptions.add(TypePrefixSubscription("task", "other"))
    assert subscriptions.recipients(TopicId("task.a", "s")) == [AgentId("worker", "s"), AgentId("other", "s")]
    assert subscriptions.recipients(TopicId("nobody", "s")) == []


@pytest.mark.parametrize(
    "equal",
    [TypeSubscription("t", "a"), TypeSubscription("u", "b", id="1"), TypePrefixSubscription("u", "b", id="1")],
)
def test_an_equal_subscription_is_refused(equal):
    subscriptions = SubscriptionSet()
    subscriptions.add(TypeSubscription("t", "a", id="1"))
    with pytest.raises(ValueError, match="Subscription already exists"):
        subscriptions.add(equal)
    assert len(subscriptions) == 1


def test_equality_of_own_subscription_classes_is_respected():
    class OnlyOne(Everything):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None

    subscriptions = SubscriptionSet()
    subscriptions.add(Everything("1", "a"))
    subscriptions.add(Everything("2", "a"))
    with pytest.raises(ValueError, match="Subscription already exists"):
        subscriptions.add(OnlyOne("3", "a"))
    only = SubscriptionSet()
    only.add(OnlyOne("1", "a"))
    with pytest.raises(ValueError, match="Subscription already exists"):
        only.add(TypeSubscription("t", "a"))


def test_removing_returns_the_subscription_and_ends_its_matches():
    subscriptions = SubscriptionSet()
    added = [TypeSubscription("t", "a"), TypePrefixSubscription("t", "b"), Everything("3", "c")]
    for subscription in added:
        subscriptions.add(subscription)
    assert list(subscriptions) == added
    for subscription in added:
        assert subscriptions.remove(subscription.id) is subscription
    assert len(subscriptions) == 0
    assert subscriptions.recipients(TopicId("t", "s")) == []
    for subscription in added:
        subscriptions.add(subscription)


def test_removing_an_unknown_subscription_is_both_a_lookup_and_a_value_error():
    for expected in (SubscriptionNotFoundError, LookupError, ValueError):
        with pytest.raises(expected, match="does not exist"):
            SubscriptionSet().remove("nothing")


def test_a_subclass_with_a_rule_of_its_own_is_asked():
    class Evens(TypeSubscription):
        def is_match(self, topic_id: TopicId) -> bool:
            return super().is_match(topic_id) and int(topic_id.source) % 2 == 0

    subscriptions = SubscriptionSet()
    subscriptions.add(Evens("n", "even"))
    assert subscriptions.recipients(TopicId("n", "2")) == [AgentId("even", "2")]
    assert subscriptions.recipients(TopicId("n", "3")) == []


letters = st.text("ab.", min_size=1, max_size=3)
kinds = st.one_of(
    st.builds(TypeSubscription, letters, st.sampled_from("xyz")),
    st.builds(TypePrefixSubscription, letters, st.sampled_from("xyz")),
    st.builds(Everything, st.uuids().map(str), st.sampled_from("xyz")),
)


@settings(deadline=None)
@given(st.lists(kinds, max_size=12), st.sets(st.integers(0, 11)), letters)
def test_recipients_are_those_of_all_matching_subscriptions_in_order(candidates, removed, topic_type):
    subscriptions = SubscriptionSet()
    for subscription in candidates:
        if not any(subscription == other for other in subscriptions):
            subscriptions.add(subscription)
    for index in sorted(removed, reverse=True):
        present = list(subscriptions)
        if index < len(present):
            subscriptions.remove(present[index].id)
    topic = TopicId(topic_type, "s")
    expected = dict.fromkeys(s.map_to_agent(topic) for s in subscriptions if s.is_match(topic))
    assert subscriptions.recipients(topic) == list(expected)
