"""The brokers that the chaos runs break."""

import pytest

from chaos.cluster import Cluster


async def test_a_cluster_has_r3_streams_and_elects_a_new_leader_when_the_old_one_is_killed(namespace: str) -> None:
    stream = f"{namespace.upper()}_EVENTS"
    async with Cluster(3) as cluster:
        await cluster.provision(namespace)
        assert await cluster.replicas_of(stream) == 3
        leader = await cluster.leader_of(stream)
        await leader.kill()
        assert await cluster.leader_of(stream) is not leader
        cluster.start(leader)
        await leader.healthy()


@pytest.mark.parametrize("how", ["kill", "terminate"])
async def test_a_single_node_keeps_its_address_and_its_streams_over_a_restart(how: str, namespace: str) -> None:
    async with Cluster(1) as cluster:
        await cluster.provision(namespace)
        (node,) = cluster.nodes
        url = node.url
        await getattr(node, how)()
        assert not node.is_running
        cluster.start(node)
        await node.healthy()
        assert (node.url, await cluster.replicas_of(f"{namespace.upper()}_EVENTS")) == (url, 1)
