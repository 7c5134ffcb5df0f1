"""Which process runs which key: while processes come and go, block, or believe something wrong."""

import asyncio
import os
import signal
from typing import Any
from unittest.mock import AsyncMock

import pytest

from broker.conftest import NewRuntime
from broker.processes import TOPIC_TYPE, TYPE, AgentProcesses, Ask, Note, Told
from broker.scripted import Gate, Scripted, serve, until
from hivewire import AgentId, MessageContext, NatsAgentRuntime, TopicId
from hivewire.nats.tokens import slot

KEYS = 40


async def test_each_message_runs_once_and_each_key_in_one_process_while_processes_join_and_leave(
    new_runtime: NewRuntime, processes: AgentProcesses
) -> None:
    (first,) = await processes.start()
    runtime = await new_runtime().connect()
    numbers = iter(range(1_000_000))
    sent: dict[str, list[int]] = {"call": [], "event": []}
    going_on = True

    def key_of(number: int) -> str:
        return f"k{number * 7 % KEYS}"

    async def call_on() -> None:
        while going_on:
            number = next(numbers)
            # Some take longer than a move, so that a key is held back for those that still run at its old owner.
            answer = await runtime.send_message(
                Ask(number, 0.7 if number % 25 == 0 else 0.003), AgentId(TYPE, key_of(number))
            )
            assert isinstance(answer, Told)
            assert answer.number == number
            sent["call"].append(number)

    async def publish_on() -> None:
        while going_on:
            number = next(numbers)
            note = Note(number, 0.7 if number % 25 == 0 else 0.003)
            await runtime.publish_message(note, TopicId(TOPIC_TYPE, key_of(number)))
            sent["event"].append(number)
            await asyncio.sleep(0.01)

    async def handled(count: int) -> None:
        await processes.journal.reaches(len(processes.journal) + count)

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(call_on())
            group.create_task(publish_on())
        await handled(200)
        (second,) = await processes.start()
        await handled(200)
        first.signal(signal.SIGTERM)
        assert await first.ended() == 0
        await handled(200)
        (third,) = await processes.start()
        await handled(200)
        second.signal(signal.SIGTERM)
        assert await second.ended() == 0
        await handled(200)
        going_on = False
    await processes.journal.reaches(len(sent["call"]) + len(sent["event"]))

    assert processes.journal.numbers("call") == sorted(sent["call"])
    assert processes.journal.numbers("event") == sorted(sent["event"])
    assert processes.journal.overlaps() == []
    assert {record.pid for record in processes.journal.records()} == {first.pid, second.pid, third.pid}


async def test_a_call_that_is_held_back_for_a_turn_elsewhere_waits_for_it(new_runtime: NewRuntime) -> None:
    """The turn takes longer than a caller waits without a sign of life."""
    gate = Gate()
    old, new, caller = new_runtime(drain_timeout=20.0), new_runtime(), new_runtime()
    await serve(old, "agent", gate)
    await old.start()
    await caller.connect()
    agent = AgentId("agent", "k")
    first = asyncio.create_task(caller.send_message("first", agent))
    await until(lambda: gate.entered)
    await serve(new, "agent")
    await new.start()
    leaving = asyncio.create_task(old.stop())
    await until(lambda: owns(new, agent) and not owns(old, agent))
    second = asyncio.create_task(caller.send_message("second", agent))
    assert not (await asyncio.wait([second], timeout=9))[0]
    gate.opened.set()
    assert await first == "first"
    assert await second == "second"
    await leaving


def owns(runtime: NatsAgentRuntime, agent: AgentId) -> bool:
    return runtime._serving.owns(agent.type, slot(agent.key))


async def test_two_owners_of_one_shard_never_both_run_a_call(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: dict[str, list[int]] = {"rightful": [], "usurper": []}

    def noting(name: str) -> Any:
        async def note(agent: Scripted, message: int, ctx: MessageContext) -> int:
            executed[name].append(message)
            await asyncio.sleep(0)
            return message

        return note

    rightful, usurper, caller = new_runtime(), new_runtime(), new_runtime()
    await serve(rightful, "agent", noting("rightful"))
    await rightful.start()
    await caller.connect()
    await serve(usurper, "agent", noting("usurper"))
    await usurper.connect()
    # It takes everybody else for dead, and claims all.
    shards = usurper._serving._shards
    every_session = shards._live_sessions
    monkeypatch.setattr(shards, "_has_ended", AsyncMock(return_value=True))
    monkeypatch.setattr(
        shards,
        "_live_sessions",
        lambda: {session: record for session, record in every_session().items() if session == shards._keeper.id},
    )
    await usurper.start()
    agents = [AgentId("agent", f"k{number}") for number in range(200)]
    both = [agent for agent in agents if owns(rightful, agent) and owns(usurper, agent)]
    assert len(both) > 50
    calls = [(number, both[number % len(both)]) for number in range(1_000)]
    assert await asyncio.gather(*(caller.send_message(number, agent) for number, agent in calls)) == list(range(1_000))
    assert sorted(executed["rightful"] + executed["usurper"]) == list(range(1_000))
    assert len(executed["rightful"]) > 100
    assert len(executed["usurper"]) > 100


class FourShards(Scripted):
    shards = 4


class EightShards(Scripted):
    shards = 8


async def test_processes_that_disagree_on_the_shards_of_a_type_are_told_both_counts(new_runtime: NewRuntime) -> None:
    first = new_runtime()
    await FourShards.register(first, "agent", FourShards)
    await first.start()
    for late in (False, True):
        second = new_runtime()
        if late:
            await second.start()
        with pytest.raises(ValueError, match=r"'agent' has 4 shards and this process wants 8.*same count"):
            await EightShards.register(second, "agent", EightShards)
            await second.start()
    assert await first.send_message("hello", AgentId("agent", "k")) == "hello"


@pytest.mark.parametrize("shards", [0, 3, 512, -1])
async def test_a_shard_count_that_is_no_power_of_two_is_refused(new_runtime: NewRuntime, shards: int) -> None:
    class Odd(Scripted):
        pass

    Odd.shards = shards  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=f"can't have {shards} shards"):
        await Odd.register(new_runtime(), "agent", Odd)


async def test_a_handler_that_blocks_its_event_loop_keeps_its_shards_and_answers(
    new_runtime: NewRuntime, processes: AgentProcesses
) -> None:
    blocked, other = await processes.start(2)
    caller = await new_runtime().connect()

    async def home(key: str) -> int:
        return int((await caller.send_message(Ask(), AgentId(TYPE, key))).pid)

    homes = {key: await home(key) for key in map(str, range(20))}
    key = next(key for key, pid in homes.items() if pid == blocked.pid)
    answer = asyncio.create_task(caller.send_message(Ask(7, 8.0, blocking=True), AgentId(TYPE, key)))
    waiting = asyncio.create_task(caller.send_message(Ask(8), AgentId(TYPE, key)))
    assert await answer == Told(7, blocked.pid)
    assert await waiting == Told(8, blocked.pid)
    assert await home(key) == blocked.pid != other.pid != os.getpid()
