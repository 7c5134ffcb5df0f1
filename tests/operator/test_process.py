"""`hivewire operator` as a process: it works while it leads, and how it ends tells why."""

import asyncio
import signal
from pathlib import Path

import pytest

from api_server import ApiServer
from child_processes import DEADLINE_S, Program
from hivewire_operator.cluster import Cluster

pytestmark = pytest.mark.slow  # beside other tests it takes 20 s

COMMAND = Path(__file__).with_name("command.py")


async def holder(cluster: Cluster, namespace: str) -> str:
    lease = await cluster.get("Lease", namespace, "hivewire-operator")
    return str((lease or {}).get("spec", {}).get("holderIdentity", ""))


def operator(api_server: ApiServer, namespace: str, identity: str) -> Program:
    options = ("--own-namespace", namespace, "--identity", identity, "--health-port", "0", "--log-format", "text")
    return Program(COMMAND, "operator", *options, KUBECONFIG=str(api_server.kubeconfig))


async def leads(process: Program, cluster: Cluster, namespace: str, identity: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not (await holder(cluster, namespace)).startswith(f"{identity}_"):
            assert process.is_running, process.errors
            await asyncio.sleep(0.05)


async def test_after_sigterm_another_one_leads_at_once_and_the_exit_code_is_0(
    api_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    async with operator(api_server, namespace, "first") as first:
        await leads(first, cluster, namespace, "first")
        async with operator(api_server, namespace, "second") as second:
            await second.logged("waits")

            await first.send_signal(signal.SIGTERM)

            async with asyncio.timeout(10):  # an expiry would take 15 s
                await leads(second, cluster, namespace, "second")
            await first.ended_well()
            assert "OS signals" not in first.errors  # they are seen to elsewhere
            await second.send_signal(signal.SIGTERM)
            await second.ended_well()
    assert await holder(cluster, namespace) == ""


async def test_who_lost_the_leadership_ends_with_exit_code_1_and_says_why(
    api_server: ApiServer, cluster: Cluster, namespace: str
) -> None:
    async with operator(api_server, namespace, "first") as first:
        await leads(first, cluster, namespace, "first")

        await cluster.merge("Lease", namespace, "hivewire-operator", {"spec": {"holderIdentity": "thief"}})

        assert await first.ended() == 1
        assert "another operator has the Lease" in first.errors
    assert await holder(cluster, namespace) == "thief"
