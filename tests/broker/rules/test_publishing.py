"""What a turn publishes is stored once, however often the turn is run."""

import asyncio
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, Ledger, ledger_of, ledger_reaches, serve
from broker.rules.stored import Stored
from broker.scripted import until
from hivewire import AgentId, BaseAgent, MessageContext, TopicId, TypeSubscription, stateless_worker
from hivewire.nats.tokens import slot

AGENT = AgentId("ledger", "k")
TOPIC = TopicId(TOPIC_TYPE, "k")
OUT = TopicId("out", "o")


async def outgoing(stored: Stored) -> list[Any]:
    """Return what was stored on the topic type `out`."""
    return [message.data for message in await stored.events() if (message.headers or {}).get("ce-type") == "out"]


class Publisher:
    """A handler that publishes two messages and then fails as often as it is told."""

    def __init__(self, failures: int = 0, message_id: str | None = None) -> None:
        self.runs = 0
        self._failures = failures
        self._message_id = message_id

    async def __call__(self, agent: BaseAgent, message: Any, ctx: MessageContext) -> None:
        if message == "look":
            return
        self.runs += 1
        for number in range(2):
            text = f"{agent.id.type} {message} {number}"
            await agent.publish_message(text, OUT, message_id=self._message_id and f"{self._message_id}{number}")
        if self.runs <= self._failures:
            raise RuntimeError("boom")


async def test_a_turn_that_is_retried_publishes_once(new_runtime: NewRuntime, stored: Stored) -> None:
    publisher = Publisher(failures=2)
    runtime = await serve(new_runtime(), publisher)
    await runtime.publish_message("event", TOPIC)
    assert await ledger_reaches(runtime, 1) == ["event"]
    assert publisher.runs == 3
    assert len(await outgoing(stored)) == 2


async def test_a_turn_that_is_run_again_after_a_conflict_publishes_once(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    publisher = Publisher()

    async def conflict(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        await publisher(agent, message, ctx)
        if publisher.runs == 1 and message == "event":
            await stored.write_state(AGENT, {"seen": ["another's"]})

    runtime = await serve(new_runtime(), conflict)
    await runtime.publish_message("event", TOPIC)
    assert await ledger_reaches(runtime, 2) == ["another's", "event"]
    assert publisher.runs == 2
    assert len(await outgoing(stored)) == 2


@pytest.mark.parametrize("message_id", [None, "same"])
async def test_two_types_that_handle_one_event_both_publish_also_when_they_are_run_again(
    new_runtime: NewRuntime, stored: Stored, message_id: str | None
) -> None:
    runtime = new_runtime()
    publishers = {"one": Publisher(message_id=message_id), "two": Publisher(2, message_id=message_id)}
    for agent_type, publisher in publishers.items():
        await Ledger.register(runtime, agent_type, lambda publisher=publisher: Ledger(publisher))
        await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, agent_type))
    await Ledger.register(runtime, "reader", Ledger)
    await runtime.add_subscription(TypeSubscription("out", "reader"))
    await runtime.start()
    await runtime.publish_message("event", TOPIC)
    arrived = await ledger_reaches(runtime, 4, "o", "reader")
    await ledger_reaches(runtime, 1, type="two")
    assert publishers["two"].runs == 3
    expected = sorted(f"{agent_type} event {number}" for agent_type in publishers for number in range(2))
    assert sorted(arrived) == expected
    assert len(await outgoing(stored)) == 4
    # Whatever else would have come has come before this.
    await runtime.publish_message("last", OUT)
    assert sorted(await ledger_reaches(runtime, 5, "o", "reader")) == sorted([*expected, "last"])


async def test_direct_messages_that_publish_under_one_id_each_do_so(new_runtime: NewRuntime, stored: Stored) -> None:
    runtime = await serve(new_runtime(), Publisher(message_id="same"))
    for number in range(3):
        await runtime.send_message(number, AGENT)
    assert len(await outgoing(stored)) == 6


async def test_an_event_that_moves_in_the_middle_of_its_turn_publishes_once(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    """The old owner is cut off after it has published, and the new one runs the turn again."""
    publisher = Publisher()
    stuck = asyncio.Event()

    async def publish_and_hang(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        await publisher(agent, message, ctx)
        stuck.set()
        await asyncio.Event().wait()

    old, caller = await serve(new_runtime(drain_timeout=0.2), publish_and_hang), await new_runtime().connect()
    await caller.publish_message("event", TOPIC)
    async with asyncio.timeout(10):
        await stuck.wait()
    new = await serve(new_runtime(), publisher)
    await old.stop()
    await until(lambda: new._serving.owns("ledger", slot("k")))
    assert await ledger_reaches(caller, 1) == ["event"]
    assert publisher.runs == 2
    assert len(await outgoing(stored)) == 2
    assert await ledger_of(caller) == ["event"]


async def test_a_stateless_turn_that_is_retried_publishes_once(new_runtime: NewRuntime, stored: Stored) -> None:
    publisher = Publisher(failures=2)

    @stateless_worker
    class Anybody(BaseAgent):
        retry_policy = Ledger.retry_policy

        async def on_message_impl(self, message: Any, ctx: MessageContext) -> None:
            await publisher(self, message, ctx)

    runtime = new_runtime()
    await Anybody.register(runtime, "anybody", lambda: Anybody("anybody"))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "anybody"))
    await runtime.start()
    await runtime.publish_message("event", TOPIC)
    await until(lambda: publisher.runs == 3)
    await until(lambda: not runtime._serving.turns.running)
    assert len(await outgoing(stored)) == 2
