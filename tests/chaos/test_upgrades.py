"""A rolling upgrade: processes of two releases that know one format serve the same agents."""

from pathlib import Path

import pytest

from chaos import mutants
from chaos.cluster import Cluster
from chaos.conftest import NewScenario
from chaos.load import LoadPlan
from chaos.test_short import MOVE_GAP_S

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


async def test_two_releases_serve_side_by_side_during_an_upgrade_and_the_way_back(
    one_node: Cluster, new_scenario: NewScenario, tmp_path: Path
) -> None:
    next_release = mutants.make(tmp_path / "next", *mutants.NEXT_RELEASE)
    plan = LoadPlan(messages=3_000, keys=200, pace_per_s=400)
    async with new_scenario(one_node, plan) as run:
        old = list(run.fleet.running)
        await run.load.reaches(0.2)
        (new,) = await run.fleet.start(environment=next_release)
        await old[0].stop()
        await run.load.reaches(0.5)
        (newer,) = await run.fleet.start(environment=next_release)
        await old[1].stop()
        await run.fleet.start()
        await new.stop()
        await newer.stop()
        await run.passes(gap_s=MOVE_GAP_S, crash_free=True)
