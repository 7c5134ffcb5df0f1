"""What one process does for a namespace, with the operator's rights, while the others may not."""

import asyncio
import json
from typing import Any

import pytest
from nats.aio.client import Client

from broker.rights.conftest import SHARDED, STATELESS, Components
from broker.scripted import Scripted, agent_at, serve, until
from hivewire import AgentId, MessageContext, TopicId, stateless_worker
from hivewire.nats import janitor
from hivewire.provisioning import Subjects, TopicFilter, TypeShape, Upkeep

pytestmark = pytest.mark.usefixtures("nothing_is_refused")

T = TopicFilter(kind="exact", value="t")


async def ask(client: Client, operation: str, body: Any = None) -> dict[str, Any]:
    payload = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{operation}", payload, timeout=5)).data)
    return answer


async def test_it_makes_a_namespace_as_it_is_set(components: Components, root: Client, subjects: Subjects) -> None:
    async with components.upkeep(duplicate_window_s=300, events_max_bytes=50_000_000):
        config = (await ask(root, f"STREAM.INFO.{subjects.events_stream}"))["config"]
        assert config["duplicate_window"] == 300_000_000_000
        assert config["max_bytes"] == 50_000_000
        # Who does not provision does not mind.
        await components.worker("shop", {"agent": SHARDED}).connect()
    config = (await ask(root, f"STREAM.INFO.{subjects.events_stream}"))["config"]
    assert config["duplicate_window"] == 300_000_000_000


async def test_what_was_deleted_by_hand_is_made_again(upkeep: Upkeep, root: Client, subjects: Subjects) -> None:
    await upkeep.register_type("crunch", STATELESS)
    consumer = f"{subjects.events_stream}.crunch"
    for operation in (
        f"CONSUMER.DELETE.{consumer}",
        f"STREAM.DELETE.{subjects.dead_stream}",
        f"CONSUMER.DELETE.{subjects.schedules_stream}.forward",
    ):
        assert (await ask(root, operation))["success"]
    await upkeep.ensure()
    for operation in (
        f"CONSUMER.INFO.{consumer}",
        f"STREAM.INFO.{subjects.dead_stream}",
        f"CONSUMER.INFO.{subjects.schedules_stream}.forward",
    ):
        assert "error" not in await ask(root, operation)


async def test_an_event_stream_that_was_deleted_is_made_again_and_workers_go_on(
    components: Components, upkeep: Upkeep, root: Client, subjects: Subjects
) -> None:
    seen: list[tuple[str, str]] = []

    async def note(agent: Scripted, message: str, ctx: MessageContext) -> None:
        seen.append((agent.id.type, message))

    runtimes = []
    for name in ("shop", "bank"):
        runtime = components.worker(name, {f"{name}-agent": SHARDED})
        await serve(runtime, f"{name}-agent", note)
        await runtime.start()
        runtimes.append(runtime)
    before = runtimes[0]._event_stream.created
    assert (await ask(root, f"STREAM.DELETE.{subjects.events_stream}"))["success"]
    await until(lambda: all(each._event_stream.created != before for each in runtimes))
    await runtimes[0].publish_message("event", TopicId("t", "k"))
    await until(lambda: sorted(seen) == [("bank-agent", "event"), ("shop-agent", "event")])


async def test_subscriptions_from_outside_hold_from_when_they_are_made(components: Components, upkeep: Upkeep) -> None:
    @stateless_worker
    class Anybody(Scripted):
        pass

    seen: list[str] = []

    async def note(agent: Scripted, message: str, ctx: MessageContext) -> None:
        seen.append(message)

    # Before there is any process of the types.
    await upkeep.register_type("agent", SHARDED)
    await upkeep.register_type("crowd", STATELESS)
    await upkeep.add_subscription("agent", T)
    await upkeep.add_subscription("crowd", T)
    publisher = await components.worker("bank", {}).connect()
    await publisher.publish_message("first", TopicId("t", "k"))
    shop = components.worker("shop", {"agent": SHARDED, "crowd": STATELESS})
    await shop.register_factory("agent", Scripted, expected_class=Scripted)
    await Anybody.register(shop, "crowd", lambda: Anybody(note))
    await shop.start()
    agent = await agent_at(shop, "agent")
    await until(lambda: agent.seen == seen == ["first"])
    await upkeep.remove_subscription("agent", T)
    await upkeep.remove_subscription("crowd", T)
    await publisher.publish_message("second", TopicId("t", "k"))
    await upkeep.add_subscription("agent", T)
    await publisher.publish_message("third", TopicId("t", "k"))
    await until(lambda: agent.seen == ["first", "third"])
    assert seen == ["first"]


async def test_a_subscription_from_the_beginning_is_within_the_operators_rights(
    components: Components, upkeep: Upkeep
) -> None:
    await upkeep.register_type("agent", SHARDED)
    publisher = await components.worker("bank", {}).connect()
    await publisher.publish_message("first", TopicId("t", "k"))
    while not (await upkeep.send_history("agent", T)).done:
        pass
    await publisher.publish_message("second", TopicId("t", "k"))
    shop = components.worker("shop", {"agent": SHARDED})
    await shop.register_factory("agent", Scripted, expected_class=Scripted)
    await shop.start()
    agent = await agent_at(shop, "agent")
    await until(lambda: agent.seen == ["first", "second"])


@pytest.mark.parametrize("shards", [4, 64])
async def test_a_class_that_says_no_number_of_shards_takes_the_registered_one(
    components: Components, upkeep: Upkeep, shards: int
) -> None:
    shape = TypeShape(shards=shards)
    await upkeep.register_type("agent", shape)
    shop = components.worker("shop", {"agent": shape})
    await serve(shop, "agent")
    await shop.start()
    answers = [await shop.send_message(number, AgentId("agent", str(number))) for number in range(50)]
    assert answers == list(range(50))
    async with asyncio.timeout(15):
        while ("agent", shards, shards) not in {
            (each.name, each.shards, each.shards_owned) for each in (await upkeep.observe()).types
        }:
            await asyncio.sleep(0.1)


async def test_a_type_that_is_registered_with_other_shards_is_refused(upkeep: Upkeep) -> None:
    await upkeep.register_type("agent", SHARDED)
    await upkeep.register_type("agent", SHARDED)
    with pytest.raises(ValueError, match="has 16 shards and this process wants 4"):
        await upkeep.register_type("agent", TypeShape(kind="sharded", shards=4))


async def test_what_all_have_finished_is_removed_and_firings_are_forwarded_without_any_pod(
    components: Components, root: Client, subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janitor, "EVERY_S", 0.2)
    async with components.upkeep(event_retention_s=0.0) as upkeep:
        await upkeep.register_type("agent", SHARDED)
        publisher = await components.worker("bank", {}).connect()
        await publisher.publish_message("nobody's", TopicId("other", "k"))
        await publisher.schedule_message("soon", AgentId("agent", "k"), after=0.05)

        async def state() -> dict[str, Any]:
            answer: dict[str, Any] = (
                await ask(root, f"STREAM.INFO.{subjects.events_stream}", {"subjects_filter": ">"})
            )["state"]
            return answer

        inbox = subjects.inbox("agent", "k")
        async with asyncio.timeout(15):
            while list((await state()).get("subjects") or {}) != [inbox]:
                await asyncio.sleep(0.05)
