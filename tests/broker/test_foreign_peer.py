"""Someone who only read docs/protocol.md takes part: a process with nats-py and without Hivewire."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hivewire import (
    AgentId,
    CancellationToken,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TopicId,
    event,
    message_handler,
    type_subscription,
)

PEER = Path(__file__).with_name("foreign_peer.py")
LONG_KEY = "k." * 200

Ask = Callable[..., Awaitable[Any]]
NewRuntime = Callable[..., NatsAgentRuntime]


@dataclass
class Question:
    text: str


@dataclass
class Answer:
    text: str
    key: str = ""
    sender: str = ""


@dataclass
class Order:
    item: str


@type_subscription(topic_type="shop:order.placed")
class Clerk(RoutedAgent):
    """Answers questions, and confirms each order by an event of its own."""

    def __init__(self) -> None:
        super().__init__("a clerk")
        self.senders: list[AgentId | None] = []

    @message_handler
    async def on_question(self, message: Question, ctx: MessageContext) -> Answer:
        if not message.text:
            raise ValueError("empty", 3)
        return Answer(text=message.text.upper(), key=self.id.key, sender=str(ctx.sender))

    @event
    async def on_order(self, message: Order, ctx: MessageContext) -> None:
        self.senders.append(ctx.sender)
        await self.publish_message(Order(f"{message.item}, confirmed"), TopicId("shop:order.confirmed", self.id.key))


@pytest.fixture
async def peer(nats_url: str, namespace: str) -> AsyncIterator[Ask]:
    """Lets a peer in a process of its own do something, and returns what came of it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(PEER), nats_url, namespace, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    commands, answers = process.stdin, process.stdout

    async def ask(do: str, **arguments: Any) -> Any:
        commands.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        line = await asyncio.wait_for(answers.readline(), 40)
        assert line, "the peer has ended"
        return json.loads(line)

    yield ask
    commands.close()
    await asyncio.wait_for(process.wait(), 20)


@pytest.fixture
async def runtime(new_runtime: NewRuntime) -> AsyncIterator[NatsAgentRuntime]:
    runtime = new_runtime()
    async with runtime:
        await Clerk.register(runtime, "clerk", Clerk)
        yield runtime


def test_the_peer_does_not_know_hivewire() -> None:
    assert "import hivewire" not in PEER.read_text()
    assert "from hivewire" not in PEER.read_text()


async def test_a_foreign_peer_answers_direct_messages(runtime: NatsAgentRuntime, peer: Ask) -> None:
    await peer("register", type="oracle")
    await peer("serve", type="oracle")

    answer = await runtime.send_message(Question("abc"), AgentId("oracle", "k 1"), sender=AgentId("me", "ü"))

    assert answer == Answer(text="cba", key="k=201", sender="me/ü")


async def test_an_error_of_a_foreign_peer_is_rebuilt(runtime: NatsAgentRuntime, peer: Ask) -> None:
    await peer("serve", type="oracle")

    with pytest.raises(KeyError) as caught:
        await runtime.send_message(Question("fail"), AgentId("oracle", "k"))

    assert caught.value.args == ("no such book",)
    assert caught.value.__notes__ == ["looked twice", "Raised by oracle/k:\nsomewhere, line 1"]


async def test_a_cancel_reaches_a_foreign_peer(runtime: NatsAgentRuntime, peer: Ask) -> None:
    await peer("serve", type="oracle")
    token = CancellationToken()
    token.cancel_after(0.3)

    with pytest.raises(asyncio.CancelledError):
        await runtime.send_message(Question("sleep"), AgentId("oracle", "k"), cancellation_token=token)

    assert await peer("was_cancelled")


@pytest.mark.parametrize("key", ["k1", "", "a b/*.>", LONG_KEY], ids=["plain", "empty", "odd", "hashed"])
async def test_a_foreign_peer_asks_an_agent(runtime: NatsAgentRuntime, peer: Ask, key: str) -> None:
    reply = await peer("ask", type="clerk", key=key, type_name="Question", value={"text": "hello"})

    assert reply["headers"] == {"Hw-Type": "Answer"}
    assert reply["value"] == {"text": "HELLO", "key": key, "sender": "stranger/a b"}


async def test_a_foreign_peer_gets_an_error_reply(runtime: NatsAgentRuntime, peer: Ask) -> None:
    reply = await peer("ask", type="clerk", key="k1", type_name="Question", value={"text": ""})

    assert reply["headers"] == {"Hw-Status": "error"}
    assert set(reply["value"]) == {"module", "qualname", "message", "args", "fields", "notes", "agent", "traceback"}
    assert (reply["value"]["module"], reply["value"]["qualname"]) == ("builtins", "ValueError")
    assert reply["value"]["args"] == ["empty", 3]
    assert reply["value"]["agent"] == "clerk/k1"


async def test_a_foreign_peer_publishes_and_consumes_events(runtime: NatsAgentRuntime, peer: Ask) -> None:
    order = {"topic": "shop:order.placed", "source": "order 7", "type_name": "Order", "value": {"item": "tea"}}
    sequence = await peer("publish", **order, id="m1")

    confirmed = await peer("consume", topic="shop:order.confirmed", source="order 7", after=sequence)

    assert confirmed["value"] == {"item": "tea, confirmed"}
    headers = confirmed["headers"]
    assert headers["ce-type"] == "shop:order.confirmed"
    assert headers["ce-source"] == "order%207"
    assert headers["ce-dataschema"] == "Order"
    assert (headers["ce-agagentsendertype"], headers["ce-agagentsenderkey"]) == ("clerk", "order%207")
    assert await peer("publish", **order, id="m1") == sequence, "the same id is stored once"
    clerk = await runtime.try_get_underlying_agent_instance(AgentId("clerk", "order 7"), Clerk)
    assert clerk.senders == [None]


async def test_the_records_are_as_documented(runtime: NatsAgentRuntime, peer: Ask) -> None:
    record = await peer("record", bucket="registry", key="clerk.type")
    position = await peer("record", bucket="positions", key="clerk.5")

    assert (record["type"], record["kind"], record["shards"]) == ("clerk", "sharded", 16)
    assert record["declared"] == ["exact:shop:order.placed", "prefix:clerk:"]
    assert record["change"] == record["marked"] == 1
    assert record["begins"]["subscriptions"] == {"change": 1, "set": record["declared"]}
    assert position["stream"] == record["begins"]["stream"]
    assert position["floor"] >= record["begins"]["sequence"]
    session = await peer("record", bucket="leases", key=f"default.{position['owner']}")
    assert set(session) == {"format", "session", "deployment", "instance", "state", "types", "calls", "received"}
    assert (session["session"], session["state"], session["types"]) == (position["owner"], "serving", ["clerk"])


async def test_a_type_that_a_foreign_peer_registered_is_known(runtime: NatsAgentRuntime, peer: Ask) -> None:
    await peer("register", type="oracle")

    with pytest.raises(ValueError, match="registered as stateless"):
        await Clerk.register(runtime, "oracle", Clerk, skip_class_subscriptions=True)
