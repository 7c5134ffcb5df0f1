"""What the registration of an agent type consists of, and doing it in one step.

A registration that fails half-way must leave nothing behind, so that it can be tried again. Everything that can fail
without the runtime (looking for serializers, making subscriptions) is therefore done first.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from hivewire.exceptions import SubscriptionNotFoundError
from hivewire.model.contexts import SubscriptionInstantiationContext
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.runtime import Agent, AgentRuntime, TypeRegistrar
from hivewire.model.serialization import MessageSerializer
from hivewire.model.subscriptions import Subscription, SubscriptionFactory, TypePrefixSubscription

__all__ = [
    "InstanceAdopter",
    "add_missing_subscriptions",
    "direct_subscription",
    "made_subscriptions",
    "register_agent_type",
]

AgentT = TypeVar("AgentT", bound=Agent)


@runtime_checkable
class InstanceAdopter(Protocol):
    """A runtime that takes in an existing agent from code that cannot await."""

    def adopt_instance(
        self,
        agent: Agent,
        agent_id: AgentId,
        *,
        subscriptions: Sequence[Subscription],
        serializers: Sequence[MessageSerializer[Any]],
    ) -> None:
        """Register an agent that is bound already, with all that belongs to it.

        What has to go over a network may follow at the next await on the runtime, which then also raises its errors.

        Raises:
            ValueError: the id is taken, its type has a factory, or instances of another class.
        """
        ...


def direct_subscription(agent_type: str) -> Subscription:
    """Return the subscription that every type has to topics of its own, `type:...`.

    The colon keeps a type's topics apart from those of a type whose name starts with it.
    """
    return TypePrefixSubscription(f"{agent_type}:", agent_type)


async def made_subscriptions(agent_type: AgentType, factories: Sequence[SubscriptionFactory]) -> list[Subscription]:
    """Call subscription factories for a type and return what they make; of equal ones only the first."""
    subscriptions: list[Subscription] = []
    with SubscriptionInstantiationContext.populate_context(agent_type):
        for factory in factories:
            made = factory()
            for subscription in await made if inspect.isawaitable(made) else made:
                if subscription not in subscriptions:
                    subscriptions.append(subscription)
    return subscriptions


async def register_agent_type(
    runtime: AgentRuntime,
    agent_type: AgentType,
    factory: Callable[[], AgentT | Awaitable[AgentT]],
    *,
    expected_class: type[AgentT],
    subscriptions: Sequence[Subscription],
    serializers: Sequence[MessageSerializer[Any]],
) -> AgentType:
    """Register a type with its subscriptions and serializers, all or nothing.

    A runtime that is no `TypeRegistrar` cannot forget a factory: after an error it keeps that one, and no subscription.

    Raises:
        ValueError: the type is not valid or taken, or a subscription is refused.
    """
    if isinstance(runtime, TypeRegistrar):
        return await runtime.register_type(
            agent_type, factory, expected_class=expected_class, subscriptions=subscriptions, serializers=serializers
        )
    agent_type = await runtime.register_factory(agent_type, factory, expected_class=expected_class)
    added: list[Subscription] = []
    try:
        for subscription in subscriptions:
            await runtime.add_subscription(subscription)
            added.append(subscription)
    except BaseException:
        for subscription in added:
            await _remove_if_there(runtime, subscription)
        raise
    if serializers:
        runtime.add_message_serializer(serializers)
    return agent_type


async def add_missing_subscriptions(runtime: AgentRuntime, subscriptions: Sequence[Subscription]) -> None:
    """Add subscriptions; those that are there already, from another instance of the type, stay as they are."""
    for subscription in subscriptions:
        try:
            await runtime.add_subscription(subscription)
        except ValueError:
            pass


async def _remove_if_there(runtime: AgentRuntime, subscription: Subscription) -> None:
    try:
        await runtime.remove_subscription(subscription.id)
    except SubscriptionNotFoundError:
        pass
