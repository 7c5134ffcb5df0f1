"""Brokers that are killed and restarted under load."""

from dataclasses import replace

import pytest

from chaos.cluster import Cluster
from chaos.conftest import NewScenario
from chaos.load import LoadPlan
from hivewire.nats.lease import SESSION_TTL_S
from hivewire.nats.subjects import Subjects

pytestmark = [pytest.mark.chaos, pytest.mark.slow, pytest.mark.timeout(400)]

LONG = LoadPlan(pace_per_s=600)

LEADER_GAP_S = 30.0


async def test_the_leader_of_the_event_stream_is_killed(three_nodes: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(three_nodes, LONG) as run:
        for share in (0.2, 0.6):
            await run.load.reaches(share)
            leader = await three_nodes.leader_of(Subjects(run.namespace).events_stream)
            await leader.kill()
            await run.load.reaches(share + 0.1)
            three_nodes.start(leader)
            await leader.healthy()
        await run.passes(gap_s=LEADER_GAP_S)


async def test_every_node_is_restarted_in_turn(three_nodes: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(three_nodes, LONG) as run:
        for number, node in enumerate(three_nodes.nodes, 1):
            await run.load.reaches(number / 5)
            await node.terminate()
            three_nodes.start(node)
            await node.healthy()
        await run.passes(gap_s=LEADER_GAP_S)


async def test_the_only_node_is_killed_and_started_again(one_node: Cluster, new_scenario: NewScenario) -> None:
    async with new_scenario(one_node, LONG) as run:
        (node,) = one_node.nodes
        for share in (0.2, 0.5, 0.8):
            await run.load.reaches(share)
            await node.kill()
            one_node.start(node)
            await node.healthy()
        await run.passes(gap_s=LEADER_GAP_S)


async def test_no_session_is_lost_when_the_leader_of_the_sessions_is_killed(
    three_nodes: Cluster, new_scenario: NewScenario
) -> None:
    pace = 600
    async with new_scenario(three_nodes, replace(LONG, pace_per_s=pace), workers=6) as run:
        sessions = await run.sessions()
        assert len(sessions) >= 6, "each of the workers has one"
        for share in (0.2, 0.6):
            await run.load.reaches(share)
            leader = await three_nodes.leader_of(f"KV_{Subjects(run.namespace).leases_bucket}")
            await leader.kill()
            # Long enough for a session that nobody could renew to expire.
            await run.load.reaches(share + 2 * SESSION_TTL_S * pace / run.load.plan.messages)
            assert await run.sessions() == sessions
            three_nodes.start(leader)
            await leader.healthy()
        assert await run.sessions() == sessions
        await run.passes(gap_s=LEADER_GAP_S)
