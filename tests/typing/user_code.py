"""A user's program that touches the whole agent API, for type checkers: it must pass mypy's strict mode as it stands.

`test_user_code` runs it on both runtimes, so what is written here also works.
"""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, assert_type

from pydantic import BaseModel

from hivewire import (
    AgentId,
    AgentNotFoundError,
    AgentProxy,
    AgentRuntime,
    AgentType,
    BaseAgent,
    CancellationToken,
    ClosureAgent,
    ClosureContext,
    Component,
    ComponentBase,
    ComponentModel,
    DefaultInterventionHandler,
    DefaultSubscription,
    DefaultTopicId,
    DropMessage,
    FunctionCall,
    InMemoryStore,
    KvStore,
    MessageContext,
    MessageDroppedException,
    MessageHandlerContext,
    MessageSerializer,
    MessageStream,
    NatsAgentRuntime,
    RoutedAgent,
    RpcCall,
    SingleThreadedAgentRuntime,
    Subscription,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    create_distributed_runtime,
    default_subscription,
    event,
    handles,
    message_handler,
    register_exception,
    rpc,
    stateless_worker,
    try_get_known_serializers_for_type,
    type_subscription,
)


@dataclass
class Order:
    number: int
    items: list[str] = field(default_factory=list)


class Receipt(BaseModel):
    number: int
    total: float


@dataclass
class Shipped:
    number: int


@dataclass
class Audit:
    text: str


@dataclass
class Search:
    words: list[str]


@register_exception
class OutOfStockError(Exception):
    def __init__(self, item: str) -> None:
        super().__init__(f"no {item} left")
        self.item = item


class AuditSerializer(MessageSerializer[Audit]):
    @property
    def type_name(self) -> str:
        return "audit_v1"

    @property
    def data_content_type(self) -> str:
        return "application/json"

    def serialize(self, message: Audit) -> bytes:
        return json.dumps({"version": 1, "text": message.text}).encode()

    def deserialize(self, payload: bytes) -> Audit:
        return Audit(text=json.loads(payload)["text"])


def is_large(message: Order, ctx: MessageContext) -> bool:
    return message.number >= 1000


@type_subscription(topic_type="shipping")
class Shop(RoutedAgent):
    """Sells things, and counts what it has shipped."""

    def __init__(self, price: float) -> None:
        super().__init__("a shop")
        self._price = price
        self.shipped: list[int] = []

    @rpc
    async def sell(self, message: Order, ctx: MessageContext) -> Receipt | None:
        if "unobtainium" in message.items:
            raise OutOfStockError("unobtainium")
        if not message.items:
            return None
        await self.publish_message(Shipped(message.number), TopicId("shipping", self.id.key))
        await self.publish_message(Audit(f"sold {message.number}"), DefaultTopicId())
        return Receipt(number=message.number, total=self._price * len(message.items))

    @rpc(match=is_large)
    async def refuse(self, message: Order, ctx: MessageContext) -> Receipt | None:
        return None

    @rpc
    async def count(self) -> int:
        return len(self.shipped)

    @message_handler
    async def search(self, message: Search, ctx: MessageContext) -> AsyncIterator[Receipt | str]:
        for number, word in enumerate(message.words):
            yield Receipt(number=number, total=self._price) if word == "tea" else f"no {word}"

    @rpc
    async def numbers(self, *, below: int) -> AsyncIterator[int]:
        for number in range(below):
            yield number

    @event
    async def on_shipped(self, message: Shipped, ctx: MessageContext) -> None:
        self.shipped.append(message.number)

    @message_handler(match=lambda message, ctx: ctx.is_rpc, strict=False)
    async def on_text(self, message: str, ctx: MessageContext) -> str:
        assert_type(MessageHandlerContext.agent_id(), AgentId)
        return f"{self.id} heard {message}"

    async def save_state(self) -> Mapping[str, Any]:
        return {"shipped": self.shipped}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.shipped = list(state["shipped"])


@default_subscription
class Auditor(RoutedAgent):
    def __init__(self, seen: list[str]) -> None:
        super().__init__("writes down what is audited")
        self._seen = seen

    @event
    async def on_audit(self, message: Audit, ctx: MessageContext) -> None:
        self._seen.append(message.text)


@stateless_worker
@handles(Order)
class Counter(BaseAgent):
    async def on_message(self, message: Any, ctx: MessageContext) -> int:
        assert isinstance(message, Order)
        return len(message.items)


async def greet(ctx: ClosureContext, message: str, context: MessageContext) -> str:
    answer: str = await ctx.send_message(message, AgentId("shop", ctx.id.key), cancellation_token=CancellationToken())
    return answer.upper()


async def spell(ctx: ClosureContext, message: str) -> AsyncIterator[str]:
    async with ctx.stream_message(RpcCall("numbers", {"below": len(message)}), AgentId("shop", "k")) as numbers:
        async for number in numbers:
            yield message[number]


class Censor(DefaultInterventionHandler):
    async def on_send(self, message: Any, *, message_context: MessageContext, recipient: AgentId) -> Any:
        if message == "forbidden":
            raise DropMessage("it is forbidden")
        return message

    async def on_publish(self, message: Any, *, message_context: MessageContext) -> Any | type[DropMessage]:
        return DropMessage if message == "forbidden" else message


class StoreConfig(BaseModel):
    name: str


class Store(ComponentBase[StoreConfig], Component[StoreConfig]):
    component_type = "store"
    component_config_schema = StoreConfig

    def __init__(self, name: str) -> None:
        self.name = name

    def _to_config(self) -> StoreConfig:
        return StoreConfig(name=self.name)

    @classmethod
    def _from_config(cls, config: StoreConfig) -> "Store":
        return cls(config.name)


async def set_up(runtime: AgentRuntime, audited: list[str]) -> None:
    """What `hivewire run module:set_up` calls, on whichever runtime."""
    runtime.add_message_serializer(AuditSerializer())
    runtime.add_message_serializer(try_get_known_serializers_for_type(Order))
    assert_type(await Shop.register(runtime, "shop", lambda: Shop(price=2.5)), AgentType)
    await Auditor.register(runtime, AgentType("auditor"), lambda: Auditor(audited))
    await Counter.register(runtime, "counter", Counter)
    await ClosureAgent.register_closure(
        runtime, "greeter", greet, subscriptions=lambda: [TypeSubscription("greetings", "greeter")]
    )
    await ClosureAgent.register_closure(runtime, "speller", spell)
    subscriptions: list[Subscription] = [
        TypePrefixSubscription("audit.", "auditor"),
        DefaultSubscription("other", agent_type="auditor"),
    ]
    for subscription in subscriptions:
        await runtime.add_subscription(subscription)
    await runtime.remove_subscription(subscriptions[1].id)


async def use(runtime: AgentRuntime) -> list[object]:
    """Send and publish, and return what came of it."""
    shop = AgentId("shop", "berlin")
    receipt: Receipt | None = await runtime.send_message(Order(1, ["tea"]), shop, timeout=30, message_id="order-1")
    nothing: Receipt | None = await runtime.send_message(Order(2), recipient=shop, sender=AgentId("customer", "me"))
    proxy = AgentProxy(shop, runtime)
    heard: str = await proxy.send("hello")
    results: list[object] = [receipt, nothing, heard]
    results.append(await runtime.send_message("hello", AgentId("greeter", "berlin")))
    results.append(await runtime.send_message(Order(3, ["a", "b"]), await runtime.get("counter")))
    results.append(await runtime.send_message(RpcCall("count"), await runtime.get(AgentType("shop"), "tokyo")))
    for message, recipient in ((Order(4, ["unobtainium"]), shop), ("forbidden", shop), ("x", AgentId("nobody", "k"))):
        try:
            await runtime.send_message(message, recipient)
        except OutOfStockError as error:
            results.append(error.item)
        except MessageDroppedException as error:
            results.append(error.reason)
        except AgentNotFoundError as error:
            results.append(type(error))
    await runtime.publish_message(Audit("by hand"), TopicId("audit.hand", "k"), cancellation_token=CancellationToken())
    state: Mapping[str, Any] = await runtime.agent_save_state(shop)
    await runtime.agent_load_state(shop, state)
    metadata = await runtime.agent_metadata(shop)
    assert_type(metadata["description"], str)
    results.append(metadata["description"])
    return results


async def read(runtime: AgentRuntime) -> list[object]:
    """Read streams, and return what came of it."""
    shop = AgentId("shop", "berlin")
    stream = runtime.stream_message(Search(["tea", "gold"]), shop, timeout=30, cancellation_token=CancellationToken())
    assert_type(stream, MessageStream)
    results: list[object] = [chunk async for chunk in stream]
    assert_type(stream.position, int)
    results.append(stream.position)
    async with AgentProxy(shop, runtime).stream_message(RpcCall("numbers", {"below": 10_000})) as numbers:
        number: int = await anext(numbers)
        results.append(number)
    letters: list[str] = await runtime.send_message("tea", AgentId("speller", "k"))
    results.append(letters)
    own: Receipt | str = await anext(Shop(price=1.0).search(Search(["tea"]), context()))
    results.append(own)
    return results


def context() -> MessageContext:
    return MessageContext(None, None, True, CancellationToken(), "1")


def values() -> tuple[Store, str | None, FunctionCall]:
    """What needs no runtime."""
    model: ComponentModel = Store("tea").dump_component()
    store: InMemoryStore[str] = InMemoryStore()
    store.set("key", "value")
    loaded = Store.load_component(model)
    assert_type(loaded, Store)
    return loaded, store.get("key"), FunctionCall(id="1", name="add", arguments='{"a": 1}')


READ = [Receipt(number=0, total=2.5), "no gold", 2, 0, ["t", "e", "a"], Receipt(number=0, total=1.0)]
"""What `read` returns."""


async def in_one_process(audited: list[str]) -> list[object]:
    runtime = SingleThreadedAgentRuntime(intervention_handlers=[Censor()], serialize_messages=True)
    await set_up(runtime, audited)
    runtime.start()
    results = await use(runtime)
    assert await read(runtime) == READ
    shop = await runtime.try_get_underlying_agent_instance(AgentId("shop", "berlin"), Shop)
    assert_type(shop, Shop)
    await runtime.stop_when_idle()
    await runtime.close()
    return results


async def over_nats(broker_url: str, audited: list[str]) -> list[object]:
    runtime: NatsAgentRuntime = await create_distributed_runtime(
        broker_url, instance_id="user", intervention_handlers=[Censor()], default_timeout=60, concurrency="serial"
    )
    await set_up(runtime, audited)
    await runtime.start()
    results = await use(runtime)
    assert await read(runtime) == READ
    cache = KvStore(runtime, "cache")
    await cache.set("key", results[2])
    await runtime.stop_when_idle()
    return results


async def with_a_block(broker_url: str) -> str:
    async with NatsAgentRuntime(broker_url, drain_timeout=5.0) as runtime:
        assert_type(runtime, NatsAgentRuntime)
        return runtime.broker_url
