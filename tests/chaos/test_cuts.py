"""A worker that is cut off from the broker for half a minute, in each direction."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest

from chaos import netns
from chaos.cluster import Cluster
from chaos.conftest import NewScenario
from chaos.load import LoadPlan
from chaos.netns import Direction, Network

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

CUT_S = 30.0
CRASH_GAP_S = 24.0


@pytest.fixture
def network() -> Iterator[Network]:
    if reason := netns.missing():
        pytest.skip(reason)
    with Network() as network:
        yield network


@pytest.fixture
async def reachable_node(undisturbed: None, network: Network) -> AsyncIterator[Cluster]:
    """A broker at this end of the network."""
    async with Cluster(1, host=network.broker_host) as cluster:
        yield cluster


@pytest.mark.parametrize("direction", ["both", "to_broker", "to_worker"])
async def test_a_worker_is_cut_off_from_the_broker(
    direction: Direction, network: Network, reachable_node: Cluster, new_scenario: NewScenario
) -> None:
    plan = replace(LoadPlan(), pace_per_s=600)
    async with new_scenario(reachable_node, plan, workers=1) as run:
        far = run.fleet.launch(prefix=network.prefix)
        await far.ready()
        await run.load.reaches(0.1)
        network.cut(direction)
        await asyncio.sleep(CUT_S)  # the time itself is what is tested
        network.mend()
        await run.passes(gap_s=CRASH_GAP_S)
