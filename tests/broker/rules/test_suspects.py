"""Events that are tried one by one, since somebody died of one of them."""

import asyncio
from dataclasses import replace
from typing import Any

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, Ledger, comes_true, ledger_reaches, serve
from broker.rules.stored import Stored
from broker.scripted import until
from hivewire import AgentId, MessageContext, NatsAgentRuntime, RetryPolicy, TopicId
from hivewire.nats.positions import Suspect
from hivewire.nats.tokens import slot

AGENT = AgentId("ledger", "k")
NEIGHBOURS = [f"n{number}" for number in range(400) if slot(f"n{number}") % 16 == slot("k") % 16][:6]


async def published_after_two_deaths(
    new_runtime: NewRuntime, stored: Stored, messages: list[tuple[str, Any]], **changes: Any
) -> NatsAgentRuntime:
    """Publish events that two owners seem to have died of, and return the caller's runtime."""
    caller = await new_runtime().connect()
    first = await serve(new_runtime())
    await first.stop()
    for key, message in messages:
        await caller.publish_message(message, TopicId(TOPIC_TYPE, key))
    last = (await stored.events())[-1].seq or 0
    released = await stored.position(AGENT)
    died = replace(released, owner="somebody who died", unclean=1, started=last, **changes)
    await stored.write_position(AGENT, died)
    return caller


async def test_suspects_are_tried_one_at_a_time_and_nothing_runs_beside_them(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    at_once = most = 0

    async def pause(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1

    keys = ["k", *NEIGHBOURS]
    caller = await published_after_two_deaths(new_runtime, stored, [(key, n) for n in range(3) for key in keys])
    await serve(new_runtime(), pause)

    async def handled() -> bool:
        records = [await stored.state(AgentId("ledger", key)) for key in keys]
        return all(record is not None and record.state == '{"seen":[0,1,2]}' for record in records)

    await comes_true(handled)
    assert most == 1
    # Once they are behind, all is as before.
    await asyncio.gather(*(caller.publish_message("after", TopicId(TOPIC_TYPE, key)) for key in keys))
    for key in keys:
        assert await ledger_reaches(caller, 4, key) == [0, 1, 2, "after"]
    await comes_true(lambda: is_clean(stored))


async def is_clean(stored: Stored) -> bool:
    position = await stored.position(AGENT)
    over = position.started is None or position.started <= position.floor
    return position.unclean == 0 and over and position.suspect is None


async def test_a_suspect_that_fails_holds_up_no_other_key(new_runtime: NewRuntime, stored: Stored) -> None:
    tried: list[Any] = []
    healthy = False

    async def fail(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        if agent.id.key == "k" and message != "look":
            tried.append(message)
            if not healthy:
                raise RuntimeError("boom")

    class Patient(Ledger):
        retry_policy = RetryPolicy(attempts=10, first_delay_s=6.0, factor=1.0, jitter=0.0)

    messages: list[tuple[str, Any]] = [("k", 0), ("k", 1), *((key, 0) for key in NEIGHBOURS), ("k", 2)]
    caller = await published_after_two_deaths(new_runtime, stored, messages)
    await serve(new_runtime(), fail, cls=Patient)
    for key in NEIGHBOURS:
        assert await ledger_reaches(caller, 1, key, timeout_s=5) == [0]
    assert tried == [0]
    healthy = True
    assert await ledger_reaches(caller, 3) == [0, 1, 2]
    await comes_true(lambda: is_clean(stored))


async def test_a_suspect_that_three_processes_died_of_is_given_up_unseen(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    handled: list[Any] = []

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    caller = await published_after_two_deaths(new_runtime, stored, [("k", "good"), ("k", "bad"), ("k", "after")])
    _, bad, _ = await stored.events()
    position = await stored.position(AGENT)
    await stored.write_position(AGENT, replace(position, suspect=Suspect(bad.seq or 0, 3)))
    await serve(new_runtime(), note)
    assert await ledger_reaches(caller, 2) == ["good", "after"]
    (letter,) = await stored.dead_letters()
    assert letter.sequence == bad.seq
    assert "bad" not in handled
    await comes_true(lambda: is_clean(stored))


async def test_a_move_during_a_trial_loses_nothing(new_runtime: NewRuntime, stored: Stored) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    handled: list[Any] = []

    async def hold(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        entered.set()
        await go_on.wait()
        handled.append(message)

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    messages = [("k", "first"), ("k", "second"), (NEIGHBOURS[0], "other")]
    caller = await published_after_two_deaths(new_runtime, stored, messages)
    old = await serve(new_runtime(drain_timeout=20.0), hold)
    async with asyncio.timeout(10):
        await entered.wait()
    new = await serve(new_runtime(), note)
    leaving = asyncio.create_task(old.stop())
    await until(lambda: not old._serving._shards._owned or new._serving.owns("ledger", slot("k")))
    go_on.set()
    await leaving
    assert await ledger_reaches(caller, 2) == ["first", "second"]
    assert await ledger_reaches(caller, 1, NEIGHBOURS[0]) == ["other"]
    assert sorted(each for each in handled if each != "look") == ["first", "other", "second"]
