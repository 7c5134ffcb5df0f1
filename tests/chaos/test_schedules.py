"""Ten thousand messages that are due within a minute, while a worker and the broker are killed."""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chaos.agents import TYPE, Ask
from chaos.cluster import Cluster
from chaos.fleet import Fleet
from chaos.observation import dead_letters, read_ledgers
from chaos.report import DIRECTORY_VARIABLE
from hivewire import AgentId, NatsAgentRuntime
from hivewire.nats.subjects import Subjects

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

SCHEDULES = 10_000
AGENTS = 100
WITHIN_S = 60.0
HEAD_START_S = 15.0
"""How long after the first one is made the first one is due: all are there before."""

DOWN_S = 3.0
_AT_ONCE = 500

Strike = Callable[[Cluster, str], Awaitable[None]]


async def kill_the_only_broker(cluster: Cluster, stream: str) -> None:
    (node,) = cluster.nodes
    await node.kill()
    await asyncio.sleep(DOWN_S)
    cluster.start(node)
    await node.healthy()


async def kill_the_leader(cluster: Cluster, stream: str) -> None:
    node = await cluster.leader_of(stream)
    await node.kill()
    await asyncio.sleep(DOWN_S)
    cluster.start(node)
    await node.healthy()


async def test_each_of_ten_thousand_schedules_fires_once_on_one_node(
    one_node: Cluster, namespace: str, tmp_path: Path
) -> None:
    await fire(one_node, namespace, tmp_path, kill_the_only_broker, "schedules_on_one_node")


async def test_each_of_ten_thousand_schedules_fires_once_on_three_nodes(
    three_nodes: Cluster, namespace: str, tmp_path: Path
) -> None:
    await fire(three_nodes, namespace, tmp_path, kill_the_leader, "schedules_on_three_nodes")


async def fire(cluster: Cluster, namespace: str, directory: Path, strike: Strike, name: str) -> None:
    """Make the schedules, strike twice while they fire, and see what the ledgers say."""
    await cluster.provision(namespace)
    subjects = Subjects(namespace)
    keys = [f"k{number}" for number in range(AGENTS)]
    dice = random.Random(5)
    async with (
        Fleet(cluster.urls, namespace, directory / "workers") as fleet,
        NatsAgentRuntime(cluster.urls, namespace=namespace) as runtime,
    ):
        await fleet.start(3)
        began, begin = time.monotonic(), datetime.now(UTC) + timedelta(seconds=HEAD_START_S)
        due = {f"s{number}": dice.uniform(0, WITHIN_S) for number in range(SCHEDULES)}
        ids = list(due)
        for first in range(0, SCHEDULES, _AT_ONCE):
            await asyncio.gather(
                *(
                    runtime.schedule_message(
                        Ask(id), AgentId(TYPE, keys[int(id[1:]) % AGENTS]), at=begin + timedelta(seconds=due[id])
                    )
                    for id in ids[first : first + _AT_ONCE]
                )
            )
        registered_s = time.monotonic() - began
        assert registered_s < HEAD_START_S, "the first ones are due before the last ones are made"

        async def passes(seconds: float) -> None:
            await asyncio.sleep(began + HEAD_START_S + seconds - time.monotonic())

        await passes(WITHIN_S / 4)
        await fleet.replace(fleet.running[0])
        await passes(WITHIN_S / 2)
        await strike(cluster, subjects.schedules_stream)
        await passes(WITHIN_S)
        async with asyncio.timeout(90):
            while len({turn.id for turn in fleet.handled()}) < SCHEDULES:
                await asyncio.sleep(0.5)
        # What comes twice comes after the acknowledgement is overdue.
        await asyncio.sleep(10)
        ledgers = await read_ledgers(runtime, keys)
        entered = Counter(id for ledger in ledgers.values() for id in ledger.ids)
        assert entered == Counter(ids), f"{len(entered)} are entered, at most {max(entered.values())} times"
        assert await runtime.list_schedules() == []
        async with cluster.client() as client:
            assert await dead_letters(client, namespace) == []
        first_turns = {turn.id: turn.at_s for turn in reversed(fleet.handled())}
        late = sorted(first_turns[id] - (began + HEAD_START_S) - due[id] for id in ids)
    publish(name, registered_s, late)


def publish(name: str, registered_s: float, late: list[float]) -> None:
    """Print the numbers of a run, and write them where the environment says."""
    text = (
        f"{len(late)} schedules, made in {registered_s:.1f} s; late by p50 {late[len(late) // 2]:.3f} s,"
        f" p90 {late[len(late) * 90 // 100]:.3f} s, p99 {late[len(late) * 99 // 100]:.3f} s, at most {late[-1]:.3f} s"
    )
    print(text)
    if directory := os.environ.get(DIRECTORY_VARIABLE):
        Path(directory).mkdir(parents=True, exist_ok=True)
        (Path(directory) / f"{name}.txt").write_text(text + "\n")
