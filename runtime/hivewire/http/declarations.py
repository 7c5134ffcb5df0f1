"""What this process registers, so that it can be told to each gateway that it connects to."""

from __future__ import annotations

from collections.abc import Sequence

from hivewire.http import wire
from hivewire.http.channel import Channel
from hivewire.http.frames import Header
from hivewire.model.ids import AgentId
from hivewire.model.subscriptions import Subscription

__all__ = ["Declarations", "instance_registration", "registration"]


class Declarations:
    """The types, instances and subscriptions of one process.

    A subscription that is added before the process serves belongs to what its code declares, and is told each time. One
    that is added later stays in the registry until it is removed, so it is told once.
    """

    def __init__(self) -> None:
        self._types: dict[str, tuple[Header | None, bytes]] = {}
        self._instances: dict[AgentId, tuple[Header, bytes]] = {}
        self._of_types: dict[str, list[Subscription]] = {}
        self._subscriptions: list[Subscription] = []

    def add_type(
        self, agent_type: str, traits: Header | None, subscriptions: Sequence[Subscription], messages: bytes
    ) -> None:
        self._types[agent_type] = traits, messages
        self._of_types[agent_type] = list(subscriptions)

    def add_instance(
        self, agent_id: AgentId, traits: Header, subscriptions: Sequence[Subscription], messages: bytes
    ) -> None:
        self._instances[agent_id] = traits, messages
        self._of_types.setdefault(agent_id.type, []).extend(subscriptions)

    def add(self, subscription: Subscription) -> None:
        self._subscriptions.append(subscription)

    def remove(self, subscription: Subscription) -> None:
        for each in (*self._of_types.values(), self._subscriptions):
            if subscription in each:
                each.remove(subscription)

    async def tell(self, channel: Channel) -> None:
        """Register everything.

        Raises:
            ChannelClosedError: the connection has ended.
            Exception: what the gateway answers with.
        """
        of_types = {agent_type: list(subscriptions) for agent_type, subscriptions in self._of_types.items()}
        of_others: list[Subscription] = []
        for subscription in self._subscriptions:
            of_types.get(wire.subscriber_of(subscription), of_others).append(subscription)
        # All of a type's at once: what a registration does not name is taken out of the registry.
        for agent_type, (traits, messages) in self._types.items():
            await channel.answer_to("register", registration(agent_type, traits, of_types.pop(agent_type)), messages)
        for agent_id, (of_instance, messages) in self._instances.items():
            subscriptions = of_types.pop(agent_id.type, [])
            request = instance_registration(agent_id, of_instance, subscriptions)
            await channel.answer_to("register_instance", request, messages)
        for subscription in of_others:
            await channel.answer_to("subscribe", {"subscription": wire.subscription_value(subscription)})


def registration(agent_type: str, traits: Header | None, subscriptions: Sequence[Subscription]) -> Header:
    """Return the request that registers a type."""
    return {
        "agent_type": agent_type,
        "traits": traits,
        "subscriptions": [wire.subscription_value(each) for each in subscriptions],
    }


def instance_registration(agent_id: AgentId, traits: Header, subscriptions: Sequence[Subscription]) -> Header:
    """Return the request that registers an instance."""
    return {
        "agent": wire.agent_value(agent_id),
        "traits": traits,
        "subscriptions": [wire.subscription_value(each) for each in subscriptions],
    }
