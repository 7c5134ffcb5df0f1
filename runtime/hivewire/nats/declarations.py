"""What this process registers: types with their shapes, instances, and subscriptions, before and after it is connected.

Until there is a registry to tell, everything is kept here; `announce` then tells all of it. Afterwards each change goes
to the registry at once. As long as the code may still add to what it declares, what processes before it declared holds
too: a subscription that both have never lapses in between. `settle` ends that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from hivewire.agents.stateless import is_stateless_worker
from hivewire.model.ids import AgentId
from hivewire.model.subscriptions import Subscription, TypePrefixSubscription, TypeSubscription
from hivewire.model.type_messages import TypeMessages
from hivewire.nats.message_records import MessageRecords
from hivewire.nats.provisioner import Provisioning
from hivewire.nats.registry import Registry, TypeShape
from hivewire.nats.subjects import check_shards
from hivewire.nats.topic_filters import TopicFilter

DEFAULT_SHARDS = 16
_INSTANCES = TypeShape(kind="instances", shards=1)


class Declarations:
    """The types and subscriptions of one process.

    A subscription that is added before the process serves belongs to what its code declares: it goes away when the code
    no longer adds it. One that is added later, or for a type of other processes, stays until it is removed.
    """

    def __init__(self) -> None:
        self._shapes: dict[str, TypeShape] = {}
        self._any_shards: set[str] = set()
        self._filters: defaultdict[str, list[TopicFilter]] = defaultdict(list)
        self._registry: Registry | None = None
        self._provisioning: Provisioning | None = None
        self._message_records: MessageRecords | None = None
        self._messages: dict[str, TypeMessages] = {}
        self._settled = False
        self.instances: list[AgentId] = []

    @property
    def shapes(self) -> dict[str, TypeShape]:
        """The types that are registered here by a factory."""
        return {agent_type: shape for agent_type, shape in self._shapes.items() if shape.kind != "instances"}

    async def announce(self, registry: Registry, provisioning: Provisioning, messages: MessageRecords) -> None:
        """Tell the registry everything, and each change from now on.

        Raises:
            ValueError: a type is registered elsewhere with another shape.
        """
        self._registry, self._provisioning, self._message_records = registry, provisioning, messages
        for agent_type in list(self._filters | self._shapes):
            if agent_type in self._shapes:
                await self._declare(agent_type)
            else:
                for topic_filter in self._filters.pop(agent_type):
                    await registry.add(agent_type, topic_filter)

    async def settle(self) -> None:
        """What is declared by now is all: what the code of before subscribed to beside it holds no longer.

        Raises:
            ValueError: a type is registered elsewhere with another shape.
        """
        self._settled = True
        for agent_type in self.shapes:
            await self._declare(agent_type)

    async def add_type(
        self,
        agent_type: str,
        shape: TypeShape,
        filters: Sequence[TopicFilter] = (),
        *,
        any_shards: bool = False,
        messages: TypeMessages | None = None,
    ) -> None:
        """Register a type with what it subscribes to and handles, or, after an error, not at all. With `any_shards` it
        takes the number of them that is registered already.

        Raises:
            ValueError: it is registered elsewhere with another shape.
        """
        before = list(self._filters[agent_type])
        self._shapes[agent_type] = shape
        if any_shards:
            self._any_shards.add(agent_type)
        self._filters[agent_type] += filters
        if messages is not None:
            self._messages[agent_type] = messages
        try:
            await self._declare(agent_type)
        except BaseException:
            del self._shapes[agent_type]
            self._any_shards.discard(agent_type)
            self._messages.pop(agent_type, None)
            self._filters[agent_type] = before
            raise

    async def add_instance(
        self, agent_id: AgentId, filters: Sequence[TopicFilter] = (), *, messages: TypeMessages | None = None
    ) -> None:
        """Register one instance.

        Raises:
            ValueError: its type is registered elsewhere by a factory.
        """
        known = self._shapes.get(agent_id.type)
        self._shapes[agent_id.type] = _INSTANCES
        self._filters[agent_id.type] += filters
        self.instances.append(agent_id)
        if messages is not None:
            self._messages[agent_id.type] = messages
        try:
            await self._declare(agent_id.type)
        except BaseException:
            self.instances.remove(agent_id)
            if known is None:
                self.forget(agent_id.type)
            raise

    def forget(self, agent_type: str) -> None:
        """Take back a type that could not be served. The registry keeps it."""
        self._shapes.pop(agent_type, None)
        self._any_shards.discard(agent_type)
        self._filters.pop(agent_type, None)
        self._messages.pop(agent_type, None)

    async def add(self, subscription: Subscription, *, serving: bool) -> None:
        agent_type, added = subscriber_of(subscription), filter_of(subscription)
        if self._registry is None or (agent_type in self._shapes and not serving):
            self._filters[agent_type].append(added)
            if agent_type in self._shapes:
                await self._declare(agent_type)
        else:
            await self._registry.add(agent_type, added)
            await self._update_consumer(agent_type)

    async def remove(self, subscription: Subscription) -> None:
        agent_type, removed = subscriber_of(subscription), filter_of(subscription)
        if removed in self._filters[agent_type]:
            self._filters[agent_type].remove(removed)
        if self._registry is not None:
            await self._registry.remove(agent_type, removed)
            await self._update_consumer(agent_type)

    async def _declare(self, agent_type: str) -> None:
        if self._registry is None:
            return
        shape, filters = self._shapes[agent_type], self._filters[agent_type]
        declare = self._registry.join if shape.kind == "instances" or not self._settled else self._registry.declare
        record = await declare(agent_type, shape, filters, any_shards=agent_type in self._any_shards)
        if record.shape is not None:
            self._shapes[agent_type] = record.shape
        await self._update_consumer(agent_type)
        if self._message_records is not None and (told := self._messages.pop(agent_type, None)):
            await self._message_records.write(told)

    async def _update_consumer(self, agent_type: str) -> None:
        record = None if self._registry is None else self._registry.get(agent_type)
        if record is not None and self._provisioning is not None:
            await self._provisioning.ensure_type(record)


def shape_of(agent_class: type[Any] | None) -> TypeShape:
    """Return how agents of a class are spread over processes: its attribute `shards`, 16 without one, or
    `@stateless_worker`.

    Raises:
        ValueError: `shards` is not a power of two from 1 to 256.
    """
    if agent_class is not None and is_stateless_worker(agent_class):
        return TypeShape(kind="stateless", shards=1)
    shards = getattr(agent_class, "shards", None)
    if shards is None:
        shards = DEFAULT_SHARDS
    check_shards(shards)
    return TypeShape(kind="sharded", shards=shards)


def says_shards(agent_class: type[Any] | None) -> bool:
    """Tell whether a class has a number of shards of its own."""
    return getattr(agent_class, "shards", None) is not None


def filter_of(subscription: Subscription) -> TopicFilter:
    """Return what a subscription takes.

    Raises:
        ValueError: it is not one of the built-in kinds, or no subject can hold what it takes.
    """
    if isinstance(subscription, TypeSubscription):
        topic_filter = TopicFilter(kind="exact", value=subscription.topic_type)
    elif isinstance(subscription, TypePrefixSubscription):
        topic_filter = TopicFilter(kind="prefix", value=subscription.topic_type_prefix)
    else:
        raise _foreign(subscription)
    # Found here, it harms nobody; in the registry it would stop the readers of all processes of the type.
    topic_filter.tail()
    return topic_filter


def subscriber_of(subscription: Subscription) -> str:
    """Return the agent type that a subscription is for.

    Raises:
        ValueError: it is not one of the built-in kinds.
    """
    if not isinstance(subscription, TypeSubscription | TypePrefixSubscription):
        raise _foreign(subscription)
    return subscription.agent_type


def _foreign(subscription: Subscription) -> ValueError:
    return ValueError(
        f"{type(subscription).__name__} can't be used over NATS: use TypeSubscription, TypePrefixSubscription or "
        "DefaultSubscription"
    )
