"""One key with far more events than its agent keeps up with, among others in its shard."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, comes_true
from broker.rules.stored import Stored
from broker.scripted import until
from hivewire import AgentId, BaseAgent, MessageContext, NatsAgentRuntime, RetryPolicy, TopicId, TypeSubscription
from hivewire.nats.tokens import slot

HOT = AgentId("counter", "hot")
NEIGHBOURS = [f"n{number}" for number in range(400) if slot(f"n{number}") % 16 == slot("hot") % 16][:8]
AT_ONCE = 300


class Handled:
    """What all agents of a test handled, by key, and when a key's last one was."""

    def __init__(self) -> None:
        self.of_key: dict[str, list[int]] = {}
        self.at: dict[str, float] = {}

    def note(self, key: str, number: int) -> None:
        self.of_key.setdefault(key, []).append(number)
        self.at[key] = time.monotonic()


class Plain(BaseAgent):
    """Takes a while for each event of the hot key."""

    concurrency = "serial"
    retry_policy = RetryPolicy(attempts=3, first_delay_s=0.05)

    def __init__(self, handled: Handled, pause_s: float) -> None:
        super().__init__("counts")
        self._handled = handled
        self._pause_s = pause_s

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if self.id.key == "hot":
            await asyncio.sleep(self._pause_s)
        self._handled.note(self.id.key, message)


class Counter(Plain):
    """Persists the last number, and fails on one that is out of order."""

    last = -1

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if message == "look":
            return self.last
        if self.id.key == "hot":
            assert message == self.last + 1, (message, self.last)
        await super().on_message_impl(message, ctx)
        self.last = message
        return None

    async def save_state(self) -> Mapping[str, Any]:
        return {"last": self.last}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.last = state["last"]


async def serve(runtime: NatsAgentRuntime, cls: type[Plain], handled: Handled, pause_s: float) -> NatsAgentRuntime:
    await cls.register(runtime, "counter", lambda: cls(handled, pause_s))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "counter"))
    await runtime.start()
    return runtime


async def publish_in_order(runtime: NatsAgentRuntime, numbers: range) -> None:
    """Publish events of the hot key, many at once; those that are on their way together keep their order, as one
    connection sends them."""
    for first in range(numbers.start, numbers.stop, AT_ONCE):
        part = range(first, min(first + AT_ONCE, numbers.stop))
        await asyncio.gather(*(runtime.publish_message(number, TopicId(TOPIC_TYPE, "hot")) for number in part))


async def neighbours_are_prompt(runtime: NatsAgentRuntime, handled: Handled, number: int, within_s: float) -> None:
    for key in NEIGHBOURS:
        await runtime.publish_message(number, TopicId(TOPIC_TYPE, key))
    await until(lambda: all(handled.of_key.get(key, [])[-1:] == [number] for key in NEIGHBOURS), within_s)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_fifty_thousand_events_of_one_key_hold_up_no_other_key_and_come_in_order_and_once(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    handled = Handled()
    runtime, publisher = await serve(new_runtime(), Plain, handled, 0.0), await new_runtime().connect()
    await publish_in_order(publisher, range(50_000))
    # They wait until the shard's reader has passed what was stored before them, and not until it is handled.
    await neighbours_are_prompt(publisher, handled, 0, 100)
    assert len(handled.of_key["hot"]) < 25_000
    number = 1
    while len(handled.of_key["hot"]) < 45_000:
        await neighbours_are_prompt(publisher, handled, number, 15)
        assert await stored.position_size(HOT) < 4_000
        number += 1
        await asyncio.sleep(0.5)
    await until(lambda: len(handled.of_key["hot"]) >= 50_000, 90)
    assert handled.of_key["hot"] == list(range(50_000))
    assert all(handled.of_key[key] == list(range(number)) for key in NEIGHBOURS)
    await comes_true(lambda: is_calm(stored))
    assert not runtime._serving.turns.running


async def is_calm(stored: Stored) -> bool:
    return not (await stored.position(HOT)).parked


@pytest.mark.parametrize("cls", [Plain, Counter])
async def test_a_hot_key_that_its_owner_hands_over_in_the_middle_goes_on_in_order(
    new_runtime: NewRuntime, stored: Stored, cls: type[Plain]
) -> None:
    handled = Handled()
    owner, publisher = await serve(new_runtime(), cls, handled, 0.001), await new_runtime().connect()
    count = 2_000
    await publish_in_order(publisher, range(count))
    await neighbours_are_prompt(publisher, handled, 0, 5)
    for round_number, reached in enumerate((300, 900, 1_200), 1):
        await until(lambda: len(handled.of_key["hot"]) >= reached, 30)
        successor = await serve(new_runtime(), cls, handled, 0.001)
        await owner.stop()
        owner = successor
        await neighbours_are_prompt(publisher, handled, round_number, 8)
        assert await stored.position_size(HOT) < 4_000
    await publish_in_order(publisher, range(count, count + 100))
    await until(lambda: len(handled.of_key["hot"]) >= count + 100, 40)
    assert handled.of_key["hot"] == list(range(count + 100))
    await comes_true(lambda: is_calm(stored))
    await publish_in_order(publisher, range(count + 100, count + 200))
    await until(lambda: len(handled.of_key["hot"]) >= count + 200)
    assert handled.of_key["hot"] == list(range(count + 200))
    assert await stored.dead_letters() == []


async def test_a_hot_key_that_fails_holds_up_no_other_key_and_loses_nothing(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    handled = Handled()
    healthy = False

    class Failing(Counter):
        retry_policy = RetryPolicy(attempts=1_000, first_delay_s=0.2, factor=1.0)

        async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
            if self.id.key == "hot" and not healthy:
                raise RuntimeError("not yet")
            return await super().on_message_impl(message, ctx)

    await serve(new_runtime(), Failing, handled, 0.0)
    publisher = await new_runtime().connect()
    await publish_in_order(publisher, range(1_000))
    for number in range(5):
        await neighbours_are_prompt(publisher, handled, number, 5)
    healthy = True
    await until(lambda: len(handled.of_key.get("hot", [])) >= 1_000, 40)
    assert handled.of_key["hot"] == list(range(1_000))
    await comes_true(lambda: is_calm(stored))


async def test_many_hot_keys_of_one_shard_that_all_fail_hold_up_no_other_key(new_runtime: NewRuntime) -> None:
    handled = Handled()
    failing_keys = [f"f{number}" for number in range(800) if slot(f"f{number}") % 16 == slot("hot") % 16][:12]
    healthy = False

    class Failing(Counter):
        retry_policy = RetryPolicy(attempts=1_000, first_delay_s=0.2, factor=1.0)

        async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
            if self.id.key in failing_keys and not healthy:
                raise RuntimeError("not yet")
            return await super().on_message_impl(message, ctx)

    await serve(new_runtime(), Failing, handled, 0.0)
    publisher = await new_runtime().connect()
    for number in range(100):
        await asyncio.gather(*(publisher.publish_message(number, TopicId(TOPIC_TYPE, key)) for key in failing_keys))
    for number in range(3):
        await neighbours_are_prompt(publisher, handled, number, 10)
    healthy = True
    await until(lambda: all(len(handled.of_key.get(key, [])) >= 100 for key in failing_keys), 40)
    assert all(handled.of_key[key] == list(range(100)) for key in failing_keys)
