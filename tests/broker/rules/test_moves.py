"""Shards that move while turns run, wait, or have not quite begun."""

import asyncio
import time
from collections import defaultdict
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, Ledger, ledger_of, ledger_reaches, serve
from broker.scripted import until
from hivewire import AgentId, BaseAgent, MessageContext, NatsAgentRuntime, RetryPolicy, TopicId, TypeSubscription
from hivewire.nats.tokens import slot

AGENT = AgentId("ledger", "k")
TOPIC = TopicId(TOPIC_TYPE, "k")
NEIGHBOURS = [f"n{number}" for number in range(400) if slot(f"n{number}") % 16 == slot("k") % 16][:8]


def owns(runtime: NatsAgentRuntime, agent: AgentId) -> bool:
    return runtime._serving.owns(agent.type, slot(agent.key))


class Plain(Ledger):
    save_state = BaseAgent.save_state


@pytest.mark.parametrize(
    ("kind", "cls", "seconds"),
    [
        *((kind, cls, 8) for kind in ("event", "call") for cls in (Ledger, Plain)),
        pytest.param("event", Ledger, 60, marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
    ],
)
async def test_a_shard_moves_at_once_while_a_turn_runs_and_only_that_key_waits_for_it(
    new_runtime: NewRuntime, cls: type[Ledger], kind: str, seconds: int
) -> None:
    entered = asyncio.Event()
    ended_at = 0.0
    handled: defaultdict[str, list[tuple[Any, float]]] = defaultdict(list)

    async def old_handler(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        nonlocal ended_at
        handled[agent.id.key].append((message, time.monotonic()))
        if message == "long":
            entered.set()
            await asyncio.sleep(seconds)
            ended_at = time.monotonic()

    async def new_handler(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled[agent.id.key].append((message, time.monotonic()))

    old, caller = (
        await serve(new_runtime(drain_timeout=seconds + 22.0), old_handler, cls=cls),
        await new_runtime().connect(),
    )
    await caller.send_message("before", AGENT)
    for key in NEIGHBOURS:
        await caller.publish_message("before", TopicId(TOPIC_TYPE, key))
    long: asyncio.Task[Any] | None = None
    if kind == "event":
        await caller.publish_message("long", TOPIC)
    else:
        long = asyncio.create_task(caller.send_message("long", AGENT, timeout=seconds + 20))
    async with asyncio.timeout(10):
        await entered.wait()
    new = new_runtime()
    starting = asyncio.create_task(serve(new, new_handler, cls=cls))
    await until(lambda: new._state == "started")
    await starting
    leaving = asyncio.create_task(old.stop())
    await until(lambda: owns(new, AGENT))
    moved_at = time.monotonic()
    await caller.publish_message("after", TOPIC)
    waiting = asyncio.create_task(caller.send_message("call", AGENT, timeout=seconds + 20))
    for key in NEIGHBOURS:
        await caller.publish_message("after", TopicId(TOPIC_TYPE, key))
        assert "call" in await caller.send_message("call", AgentId("ledger", key))
    await until(lambda: all(len(handled[key]) == 3 for key in NEIGHBOURS), 5)
    assert not ended_at, "the machine is too slow for this test"
    assert time.monotonic() - moved_at < 6
    assert [message for message, _ in handled["k"]] == ["before", "long"]
    await waiting
    await until(lambda: len(handled["k"]) == 4)
    assert sorted(message for message, _ in handled["k"][2:]) == ["after", "call"]
    assert all(at >= ended_at for _, at in handled["k"][2:])
    if long is not None:
        assert "long" in await long
    if cls is Ledger:
        seen = await ledger_reaches(caller, 4)
        assert seen[:2] == ["before", "long"]
        assert sorted(seen[2:]) == ["after", "call"]
    await leaving
    for key in NEIGHBOURS:
        assert sorted(message for message, _ in handled[key] if message != "look") == ["after", "before", "call"]


@pytest.mark.parametrize("cls", [Ledger, Plain])
@pytest.mark.parametrize("kind", ["event", "call"])
async def test_a_message_whose_agent_is_being_built_while_its_shard_moves_is_handled_once(
    new_runtime: NewRuntime, cls: type[Ledger], kind: str
) -> None:
    handled: list[Any] = []
    building, build_on = asyncio.Event(), asyncio.Event()

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    async def slow_factory() -> Ledger:
        building.set()
        await build_on.wait()
        return cls(note)

    old, caller = new_runtime(drain_timeout=20.0), await new_runtime().connect()
    await cls.register(old, "ledger", slow_factory)
    await old.add_subscription(TypeSubscription(TOPIC_TYPE, "ledger"))
    await old.start()
    calling: asyncio.Task[Any] | None = None
    if kind == "event":
        await caller.publish_message("message", TOPIC)
    else:
        calling = asyncio.create_task(caller.send_message("message", AGENT))
    async with asyncio.timeout(10):
        await building.wait()
    new = await serve(new_runtime(), note, cls=cls)
    leaving = asyncio.create_task(old.stop())
    await until(lambda: owns(new, AGENT))
    await caller.publish_message("other", TopicId(TOPIC_TYPE, NEIGHBOURS[0]))
    await until(lambda: "other" in handled)
    build_on.set()
    await leaving
    if calling is not None:
        await calling
    # What comes after it in its key's order is handled, so it is too.
    await caller.publish_message("after", TOPIC)
    await until(lambda: {"message", "after"} <= set(handled))
    assert sorted(each for each in handled if each != "look") == ["after", "message", "other"]


async def test_events_that_wait_behind_a_running_turn_move_and_keep_their_order(new_runtime: NewRuntime) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def hold(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        if message == 0:
            entered.set()
            await go_on.wait()

    old, caller = await serve(new_runtime(drain_timeout=30.0), hold), await new_runtime().connect()
    for number in range(30):
        await caller.publish_message(number, TOPIC)
    async with asyncio.timeout(10):
        await entered.wait()
    new = await serve(new_runtime())
    leaving = asyncio.create_task(old.stop())
    await until(lambda: owns(new, AGENT))
    for number in range(30, 60):
        await caller.publish_message(number, TOPIC)
    go_on.set()
    assert await ledger_reaches(caller, 60) == list(range(60))
    await leaving
    assert await ledger_of(caller) == list(range(60))


@pytest.mark.parametrize("cls", [Ledger, Plain])
async def test_an_event_that_fails_at_its_old_owner_after_the_move_is_handled_by_the_new_one(
    new_runtime: NewRuntime, cls: type[Ledger]
) -> None:
    failed: list[Any] = []
    handled: list[Any] = []
    entered, fail = asyncio.Event(), asyncio.Event()

    async def fail_later(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        if message == "event":
            failed.append(message)
            entered.set()
            await fail.wait()
            raise RuntimeError("boom")

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    patient = type(cls.__name__, (cls,), {"retry_policy": RetryPolicy(first_delay_s=30.0)})
    old, caller = await serve(new_runtime(drain_timeout=30.0), fail_later, cls=patient), await new_runtime().connect()
    await caller.publish_message("event", TOPIC)
    async with asyncio.timeout(10):
        await entered.wait()
    new = await serve(new_runtime(), note, cls=patient)
    leaving = asyncio.create_task(old.stop())
    await until(lambda: owns(new, AGENT))
    await caller.publish_message("after", TOPIC)
    fail.set()
    await until(lambda: "after" in handled)
    assert [each for each in handled if each != "look"] == ["event", "after"]
    assert failed == ["event"]
    await leaving


@pytest.mark.parametrize("cls", [Ledger, Plain])
@pytest.mark.parametrize("outcome", ["fails", "succeeds"])
async def test_an_event_that_runs_while_the_session_is_lost_and_renewed_is_neither_lost_nor_doubled(
    new_runtime: NewRuntime, cls: type[Ledger], outcome: str
) -> None:
    handled: list[Any] = []
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def handle(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        if message == "event" and not entered.is_set():
            entered.set()
            await go_on.wait()
            if outcome == "fails":
                raise RuntimeError("boom")
        handled.append(message)

    runtime = await serve(new_runtime(), handle, cls=cls)
    await runtime.publish_message("event", TOPIC)
    async with asyncio.timeout(10):
        await entered.wait()
    keeper = runtime._serving._keeper
    before = keeper.id
    keeper._lease.refused()
    await until(lambda: keeper.id != before and keeper.valid() and owns(runtime, AGENT), 30)
    go_on.set()
    await runtime.publish_message("after", TOPIC)
    await until(lambda: "after" in handled)
    assert [each for each in handled if each != "look"] == ["event", "after"]
    if cls is Ledger:
        assert await ledger_of(runtime) == ["event", "after"]
