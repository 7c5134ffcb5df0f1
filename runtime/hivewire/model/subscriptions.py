"""Which agents get a published message: a subscription matches topics and maps each to one agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import ClassVar, Protocol, TypeGuard, TypeVar, overload, runtime_checkable
from uuid import uuid4

from hivewire.exceptions import CantHandleException, SubscriptionNotFoundError
from hivewire.model.contexts import SubscriptionInstantiationContext
from hivewire.model.ids import AgentId, AgentType, check_agent_type
from hivewire.model.topics import TopicId

__all__ = [
    "DefaultSubscription",
    "Subscription",
    "SubscriptionFactory",
    "SubscriptionSet",
    "TypePrefixSubscription",
    "TypeSubscription",
    "class_subscriptions",
    "default_subscription",
    "type_subscription",
]


@runtime_checkable
class Subscription(Protocol):
    """What a runtime needs to know of a subscription. Two that are equal count as one."""

    @property
    def id(self) -> str:
        """A unique id, usually a UUID."""
        ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Subscription) and self.id == other.id

    # Most subscriptions are equal in more than one way, which no hash can agree with.
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def is_match(self, topic_id: TopicId) -> bool: ...

    def map_to_agent(self, topic_id: TopicId) -> AgentId:
        """Return the agent that gets messages of this topic.

        Raises:
            CantHandleException: the topic does not match.
        """
        ...


class TypeSubscription(Subscription):
    """Matches one topic type exactly; the topic's source becomes the agent's key.

    Two of them are equal when their ids are, or both their topic type and their agent type.

    Raises:
        ValueError: the agent type is not a valid one.
    """

    def __init__(self, topic_type: str, agent_type: str | AgentType, id: str | None = None) -> None:
        self._topic_type = topic_type
        self._agent_type = _checked_agent_type(agent_type)
        self._id = id or str(uuid4())

    @property
    def id(self) -> str:
        return self._id

    @property
    def topic_type(self) -> str:
        return self._topic_type

    @property
    def agent_type(self) -> str:
        return self._agent_type

    def is_match(self, topic_id: TopicId) -> bool:
        return topic_id.type == self._topic_type

    def map_to_agent(self, topic_id: TopicId) -> AgentId:
        if not self.is_match(topic_id):
            raise CantHandleException(f"Topic {topic_id} does not match {self!r}")
        return AgentId(self._agent_type, topic_id.source)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TypeSubscription):
            return NotImplemented
        return self._id == other._id or (
            self._topic_type == other._topic_type and self._agent_type == other._agent_type
        )

    __hash__ = None

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(topic_type={self._topic_type!r}, agent_type={self._agent_type!r}, id={self._id!r})"
        )


class TypePrefixSubscription(Subscription):
    """Matches every topic type that starts with a prefix; the topic's source becomes the agent's key.

    One `*` or `>` at the end of the prefix is taken off: neither can occur in a topic type. End the prefix with a
    separator such as `.`, else `news` matches `newsletter` too. Equality is as for `TypeSubscription`.

    Raises:
        ValueError: the agent type is not a valid one.
    """

    def __init__(self, topic_type_prefix: str, agent_type: str | AgentType, id: str | None = None) -> None:
        self._prefix = topic_type_prefix[:-1] if topic_type_prefix.endswith(("*", ">")) else topic_type_prefix
        self._agent_type = _checked_agent_type(agent_type)
        self._id = id or str(uuid4())

    @property
    def id(self) -> str:
        return self._id

    @property
    def topic_type_prefix(self) -> str:
        return self._prefix

    @property
    def agent_type(self) -> str:
        return self._agent_type

    def is_match(self, topic_id: TopicId) -> bool:
        return topic_id.type.startswith(self._prefix)

    def map_to_agent(self, topic_id: TopicId) -> AgentId:
        if not self.is_match(topic_id):
            raise CantHandleException(f"Topic {topic_id} does not match {self!r}")
        return AgentId(self._agent_type, topic_id.source)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TypePrefixSubscription):
            return NotImplemented
        return self._id == other._id or (self._prefix == other._prefix and self._agent_type == other._agent_type)

    __hash__ = None

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(topic_type_prefix={self._prefix!r}, agent_type={self._agent_type!r}, id={self._id!r})"


class DefaultSubscription(TypeSubscription):
    """Subscribes the agent type that is being registered to the topic type `default`, or to the given ones.

    Raises:
        CantHandleException: no agent type is given and none is being registered.
    """

    def __init__(self, topic_type: str = "default", agent_type: str | AgentType | None = None) -> None:
        if agent_type is None:
            try:
                agent_type = SubscriptionInstantiationContext.agent_type()
            except RuntimeError as error:
                raise CantHandleException(
                    "DefaultSubscription needs an agent_type outside of the registration of an agent type"
                ) from error
        super().__init__(topic_type, agent_type)


class SubscriptionSet:
    """The subscriptions of one runtime, in the order in which they were added.

    Looking up a topic costs as much as it has matches: exact topic types are indexed, and so are prefixes by their
    length. Only subscriptions of other classes are asked one by one. Topics that were seen leave nothing behind.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, tuple[int, Subscription]] = {}
        self._added = 0
        self._exact: dict[str, dict[str, int]] = {}
        self._prefixes: dict[int, dict[str, dict[str, int]]] = {}
        self._others: dict[str, tuple[int, Subscription]] = {}

    def add(self, subscription: Subscription) -> None:
        """Add a subscription.

        Raises:
            ValueError: an equal one, or one of the same id, is there already.
        """
        if self._has_equal(subscription):
            raise ValueError("Subscription already exists")
        entry = (self._added, subscription)
        self._added += 1
        self._by_id[subscription.id] = entry
        if _is_exact(subscription):
            self._exact.setdefault(subscription.topic_type, {})[subscription.agent_type] = entry[0]
        elif _is_prefix(subscription):
            prefix = subscription.topic_type_prefix
            same_length = self._prefixes.setdefault(len(prefix), {})
            same_length.setdefault(prefix, {})[subscription.agent_type] = entry[0]
        else:
            self._others[subscription.id] = entry

    def remove(self, id: str) -> Subscription:
        """Take a subscription out and return it.

        Raises:
            SubscriptionNotFoundError: there is none of that id.
        """
        entry = self._by_id.pop(id, None)
        if entry is None:
            raise SubscriptionNotFoundError(f"Subscription does not exist: {id}")
        subscription = entry[1]
        if _is_exact(subscription):
            _discard(self._exact, subscription.topic_type, subscription.agent_type)
        elif _is_prefix(subscription):
            prefix = subscription.topic_type_prefix
            _discard(self._prefixes[len(prefix)], prefix, subscription.agent_type)
            if not self._prefixes[len(prefix)]:
                del self._prefixes[len(prefix)]
        else:
            del self._others[id]
        return subscription

    def recipients(self, topic_id: TopicId) -> list[AgentId]:
        """Return the agents that get a message of this topic: each once, in the order of their subscriptions."""
        topic_type, source = topic_id.type, topic_id.source
        exact = self._exact.get(topic_type, {})
        by_prefix = [
            matches
            for length, prefixes in self._prefixes.items()
            if (matches := prefixes.get(topic_type[:length])) is not None
        ]
        if not by_prefix and not self._others:
            return [AgentId(agent_type, source) for agent_type in exact]
        found = [(order, AgentId(agent_type, source)) for agent_type, order in exact.items()]
        for matches in by_prefix:
            found += [(order, AgentId(agent_type, source)) for agent_type, order in matches.items()]
        for order, subscription in self._others.values():
            if subscription.is_match(topic_id):
                found.append((order, subscription.map_to_agent(topic_id)))
        found.sort(key=lambda match: match[0])
        return list(dict.fromkeys(agent_id for _, agent_id in found))

    def __iter__(self) -> Iterator[Subscription]:
        return iter([subscription for _, subscription in self._by_id.values()])

    def __len__(self) -> int:
        return len(self._by_id)

    def _has_equal(self, subscription: Subscription) -> bool:
        if subscription.id in self._by_id:
            return True
        if _is_exact(subscription):
            known = subscription.agent_type in self._exact.get(subscription.topic_type, {})
        elif _is_prefix(subscription):
            prefix = subscription.topic_type_prefix
            known = subscription.agent_type in self._prefixes.get(len(prefix), {}).get(prefix, {})
        else:
            return any(other == subscription for other in self)
        return known or any(other == subscription for _, other in self._others.values())


SubscriptionFactory = Callable[[], Sequence[Subscription] | Awaitable[Sequence[Subscription]]]
AgentClassT = TypeVar("AgentClassT", bound=type)

_ATTRIBUTE = "__hivewire_subscriptions__"


@overload
def default_subscription(cls: None = None) -> Callable[[AgentClassT], AgentClassT]: ...


@overload
def default_subscription(cls: AgentClassT) -> AgentClassT: ...


def default_subscription(cls: AgentClassT | None = None) -> Callable[[AgentClassT], AgentClassT] | AgentClassT:
    """Class decorator, with or without parentheses: subscribe the agent class to the topic type `default`."""
    decorate: Callable[[AgentClassT], AgentClassT] = _subscribing(lambda: [DefaultSubscription()])
    return decorate if cls is None else decorate(cls)


def type_subscription(
    topic_type: str, agent_type: str | AgentType | None = None
) -> Callable[[AgentClassT], AgentClassT]:
    """Class decorator: subscribe the agent class to a topic type.

    The agent type is the one that is being registered unless one is given here.
    """
    return _subscribing(lambda: [DefaultSubscription(topic_type, agent_type)])


def class_subscriptions(cls: type) -> list[SubscriptionFactory]:
    """Return what makes the subscriptions of an agent class, its base classes' included.

    The factories are to be called within `SubscriptionInstantiationContext`.
    """
    return list(getattr(cls, _ATTRIBUTE, ()))


def _subscribing(factory: SubscriptionFactory) -> Callable[[AgentClassT], AgentClassT]:
    def decorate(cls: AgentClassT) -> AgentClassT:
        # A new list each time: the one found may be a base class's.
        setattr(cls, _ATTRIBUTE, [*class_subscriptions(cls), factory])
        return cls

    return decorate


def _checked_agent_type(agent_type: str | AgentType) -> str:
    name = agent_type.type if isinstance(agent_type, AgentType) else agent_type
    check_agent_type(name)
    return name


def _is_exact(subscription: Subscription) -> TypeGuard[TypeSubscription]:
    """Whether the index can answer for it: a subclass may match in a way of its own."""
    cls = type(subscription)
    return (
        issubclass(cls, TypeSubscription)
        and cls.is_match is TypeSubscription.is_match
        and cls.map_to_agent is TypeSubscription.map_to_agent
    )


def _is_prefix(subscription: Subscription) -> TypeGuard[TypePrefixSubscription]:
    cls = type(subscription)
    return (
        issubclass(cls, TypePrefixSubscription)
        and cls.is_match is TypePrefixSubscription.is_match
        and cls.map_to_agent is TypePrefixSubscription.map_to_agent
    )


def _discard(index: dict[str, dict[str, int]], key: str, agent_type: str) -> None:
    del index[key][agent_type]
    if not index[key]:
        del index[key]
