"""Processes that die in the middle of a turn, by a signal or by what a message does to them."""

import asyncio
import os
from collections import Counter
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import comes_true, ledger_of, ledger_reaches
from broker.rules.stored import Stored
from broker.rules.workers import Workers
from broker.scripted import until
from hivewire import AgentId, NatsAgentRuntime, TopicId
from hivewire.nats.tokens import slot

AGENT = AgentId("ledger", "k")


def notes(workers: Workers, what: str) -> list[list[Any]]:
    return [note for note in workers.notebook.read() if note[0] == what]


async def publish(runtime: NatsAgentRuntime, message: Any, key: str = "k", agent_type: str = "ledger") -> None:
    await runtime.publish_message(message, TopicId(f"for-{agent_type}", key))


async def test_state_is_there_after_the_process_was_killed(new_runtime: NewRuntime, workers: Workers) -> None:
    worker, caller = await workers.start("ledger"), await new_runtime().connect()
    for number in range(10):
        await caller.send_message(number, AGENT)
        await publish(caller, f"event {number}")
    assert len(await ledger_reaches(caller, 20)) == 20
    seen = await ledger_of(caller)
    worker.kill()
    second = await workers.start("ledger")
    await publish(caller, "after")
    assert await ledger_reaches(caller, 21, timeout_s=30) == [*seen, "after"]
    assert await caller.send_message("who", AGENT) == second.pid != os.getpid()


@pytest.mark.parametrize("separate", [False, True])
async def test_a_round_through_another_agent_that_is_killed_before_its_end_is_applied_once(
    new_runtime: NewRuntime, workers: Workers, separate: bool
) -> None:
    """The inner turn is over, and the outer one, which commits for both, is not."""
    if separate:
        await workers.start("relay")
    types = ("ledger",) if separate else ("ledger", "relay")
    worker, caller = await workers.start(*types), await new_runtime().connect()
    assert await caller.send_message(["round", 0], AGENT) == [["begins", 0], ["inner", 0], ["round", 0]]
    workers.notebook.flag("hold").touch()
    await publish(caller, ["round", 1])
    await publish(caller, "after")
    await until(lambda: len(notes(workers, "between")) == 2)
    worker.kill()
    workers.notebook.flag("hold").unlink()
    await workers.start(*types)
    once = [["begins", 0], ["inner", 0], ["round", 0], ["begins", 1], ["inner", 1], ["round", 1], "after"]
    assert await ledger_reaches(caller, len(once), timeout_s=40) == once


async def test_what_a_killed_turn_had_published_is_not_published_again(
    new_runtime: NewRuntime, workers: Workers, stored: Stored
) -> None:
    worker, caller = await workers.start("ledger"), await new_runtime().connect()
    workers.notebook.flag("hold").touch()
    await publish(caller, ["publish", "it"])
    await until(lambda: notes(workers, "published"))
    worker.kill()
    workers.notebook.flag("hold").unlink()
    await workers.start("ledger")
    await ledger_reaches(caller, 1, timeout_s=40)
    assert len(notes(workers, "published")) == 2
    published = [each for each in await stored.events() if (each.headers or {}).get("ce-type") == "out"]
    assert len(published) == 1


async def all_handled(runtime: NatsAgentRuntime, keys: list[str], each: list[int], timeout_s: float) -> None:
    async with asyncio.timeout(timeout_s):
        for key in keys:
            while True:
                try:
                    seen = await runtime.send_message("look", AgentId("ledger", key), timeout=10.0)
                except Exception:  # its process may just have died
                    await asyncio.sleep(0.2)
                    continue
                if len(seen) >= len(each):
                    break
                await asyncio.sleep(0.1)
            assert seen == each, key


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_message_that_kills_its_process_ends_alone_in_the_dead_letters(
    new_runtime: NewRuntime, workers: Workers, stored: Stored
) -> None:
    caller = await new_runtime().connect()
    shards = {slot("poisoned") % 16, 1, 2}
    keys = [f"k{number}" for number in range(200) if slot(f"k{number}") % 16 in shards]
    async with workers.supervised(2, "ledger"):
        await comes_true(lambda: is_served(caller), 40)
        for number in range(10):
            await asyncio.gather(*(publish(caller, number, key) for key in keys))
            if number == 4:
                await publish(caller, "die", "poisoned")
                await publish(caller, "after", "poisoned")
        (letter,) = await comes_true(stored.dead_letters, 150)
        assert letter.agent == AgentId("ledger", "poisoned")
        assert "WorkerLostError" in letter.error
        await all_handled(caller, keys, list(range(10)), 60)
        assert await ledger_reaches(caller, 1, "poisoned", timeout_s=30) == ["after"]
        assert len(await stored.dead_letters()) == 1
        # Twice until it is suspected, three times alone, and as often as the position had moved on between two deaths.
        assert 5 <= workers.deaths <= 12


async def is_served(runtime: NatsAgentRuntime, agent_type: str = "ledger") -> bool:
    try:
        return bool(await runtime.send_message("who", AgentId(agent_type, "first"), timeout=5.0))
    except Exception:  # it is not there yet
        return False


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_message_that_kills_its_process_while_others_flow_ends_in_the_dead_letters_too(
    new_runtime: NewRuntime, workers: Workers, stored: Stored
) -> None:
    """Its shard's position moves on meanwhile, and its key is one of those with too many events."""
    caller = await new_runtime().connect()
    neighbours = [f"n{number}" for number in range(200) if slot(f"n{number}") % 16 == slot("poisoned") % 16]
    flowing = True

    async def flow() -> int:
        number = 0
        while flowing:
            await asyncio.gather(*(publish(caller, number, key, "plain") for key in neighbours))
            number += 1
            await asyncio.sleep(0.1)
        return number

    async with workers.supervised(1, "plain"):
        await comes_true(lambda: is_served(caller, "plain"), 40)
        going = asyncio.create_task(flow())
        await asyncio.gather(*(publish(caller, ["sleep", 0.2, n], "poisoned", "plain") for n in range(200)))
        await publish(caller, "die", "poisoned", "plain")
        try:
            (letter,) = await comes_true(stored.dead_letters, 200)
        finally:
            flowing = False
            rounds = await going
        assert letter.agent == AgentId("plain", "poisoned")

        def handled() -> Counter[str]:
            messages = [note for note in notes(workers, "plain") if note[1] in neighbours]
            return Counter(key for key, _ in {(note[1], note[2]) for note in messages})

        await until(lambda: all(handled()[key] == rounds for key in neighbours), 40)
        assert len(await stored.dead_letters()) == 1


async def test_stateless_workers_retry_and_give_up(new_runtime: NewRuntime, workers: Workers, stored: Stored) -> None:
    await workers.start("anybody")
    caller = await new_runtime().connect()
    for number in range(20):
        await publish(caller, number, f"k{number}", "anybody")
    await publish(caller, "fail", "k", "anybody")
    (letter,) = await comes_true(stored.dead_letters)
    assert (letter.agent, letter.error, letter.attempts) == (AgentId("anybody", "k"), "RuntimeError", 3)
    await until(lambda: len(notes(workers, "anybody")) == 23)
    messages = Counter(str(note[2]) for note in notes(workers, "anybody"))
    assert messages == Counter({**{str(number): 1 for number in range(20)}, "fail": 3})


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_stateless_workers_event_whose_processes_die_ends_in_the_dead_letters(
    new_runtime: NewRuntime, workers: Workers, stored: Stored
) -> None:
    caller = await new_runtime().connect()
    async with workers.supervised(2, "anybody"):
        await comes_true(lambda: is_served(caller, "anybody"), 40)
        for number in range(30):
            await publish(caller, number, f"k{number}", "anybody")
        await publish(caller, "die", "k", "anybody")
        (letter,) = await comes_true(stored.dead_letters, 120)
        assert letter.agent == AgentId("anybody", "k")
        assert "WorkerLostError" in letter.error
        for number in range(30, 60):
            await publish(caller, number, f"k{number}", "anybody")
        await until(lambda: {note[2] for note in notes(workers, "anybody")} >= set(range(60)), 40)
        assert len(await stored.dead_letters()) == 1
