"""A handler that blocks the event loop of its process for longer than a session lives."""

import asyncio
import os
import time

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import comes_true, ledger_reaches
from broker.rules.workers import Workers
from hivewire import AgentId, TopicId


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["call", "event"])
async def test_a_process_whose_loop_is_blocked_for_twenty_seconds_keeps_its_shards_and_its_callers(
    new_runtime: NewRuntime, workers: Workers, kind: str
) -> None:
    await workers.start("ledger")
    await workers.start("ledger")
    caller = await new_runtime(default_timeout=60.0).connect()

    async def home(key: str) -> int:
        return int(await caller.send_message("who", AgentId("ledger", key)))

    keys = [f"k{number}" for number in range(40)]
    homes = {key: await home(key) for key in keys}
    assert len(set(homes.values())) == 2
    blocked, neighbour = [key for key in keys if homes[key] == homes["k0"]][:2]
    free = next(key for key in keys if homes[key] != homes["k0"])
    begun = time.monotonic()
    blocking: asyncio.Task[object] | None = None
    if kind == "call":
        blocking = asyncio.create_task(caller.send_message(["block", 20], AgentId("ledger", blocked)))
    else:
        await caller.publish_message(["block", 20], TopicId("for-ledger", blocked))

    async def has_begun() -> bool:
        return any(note[2] == ["block", 20] for note in workers.notebook.read())

    await comes_true(has_begun)
    waiting = [asyncio.create_task(caller.send_message(1, AgentId("ledger", key))) for key in (blocked, neighbour)]
    await caller.publish_message(2, TopicId("for-ledger", neighbour))
    assert await caller.send_message("free", AgentId("ledger", free)) == ["free"]
    assert time.monotonic() - begun < 15
    await asyncio.gather(*waiting)
    assert time.monotonic() - begun > 19
    if blocking is not None:
        assert await blocking == [["block", 20]]
    assert sorted(map(str, await ledger_reaches(caller, 2, blocked))) == sorted(map(str, [["block", 20], 1]))
    assert sorted(await ledger_reaches(caller, 2, neighbour)) == [1, 2]
    assert {key: await home(key) for key in keys} == homes
    assert len([note for note in workers.notebook.read() if note[2] == ["block", 20]]) == 1
    assert os.getpid() not in homes.values()
