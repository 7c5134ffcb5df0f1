"""Chaos in half a minute, for every test run: a crash, and a rolling restart, on one node."""

import pytest

from chaos.cluster import Cluster
from chaos.conftest import NewScenario
from chaos.load import LoadPlan

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SHORT = LoadPlan(messages=3_000, keys=200, pace_per_s=500)

CRASH_GAP_S = 24.0
MOVE_GAP_S = 10.0


async def test_the_harness_finds_nothing_wrong_where_nothing_happens(
    one_node: Cluster, new_scenario: NewScenario
) -> None:
    plan = LoadPlan(messages=1_000, keys=100)
    async with new_scenario(one_node, plan, reads_stored=False) as run:
        report = await run.passes(gap_s=MOVE_GAP_S, crash_free=True)
    assert (report.messages, report.errors) == (1_000, {})


async def test_a_worker_that_is_killed_loses_and_doubles_nothing(one_node: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(one_node, SHORT) as run:
        await run.load.reaches(0.3)
        run.fleet.running[0].kill()
        await run.passes(gap_s=CRASH_GAP_S)


async def test_a_rolling_restart_loses_and_doubles_nothing(one_node: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(one_node, SHORT) as run:
        await run.load.reaches(0.2)
        for worker in run.fleet.running:
            await run.fleet.start()
            await worker.stop()
        await run.passes(gap_s=MOVE_GAP_S, crash_free=True)
