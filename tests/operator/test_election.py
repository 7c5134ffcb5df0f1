"""The election among the operator's replicas, by a Lease of a real API server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from api_server import ApiServer
from broker.proxy import TcpProxy
from child_processes import Program
from hivewire_operator.candidacy import LeaseTimes
from hivewire_operator.cluster import Cluster
from hivewire_operator.election import Leadership, LeadershipLostError

ELECTOR = Path(__file__).parent / "elector.py"
LEASE = "elected"
DURATION_S = 6
TIMES = LeaseTimes(duration_s=DURATION_S, retry_s=0.5)
DEADLINE_S = 30.0

Connect = Callable[..., Awaitable[Cluster]]


@pytest.fixture
async def connect(api_server: ApiServer) -> AsyncIterator[Connect]:
    """Opens clients, as the administrator or by a kubeconfig, that are closed at the end."""
    opened: list[Cluster] = []

    async def opening(kubeconfig: Path | None = None) -> Cluster:
        opened.append(Cluster(await api_server.client(kubeconfig=kubeconfig), timeout_s=2.0))
        return opened[-1]

    yield opening
    for cluster in opened:
        await cluster.api.close()


class Elector:
    """Takes part in the election until the block ends, with work that goes on until it is told to end."""

    def __init__(self, cluster: Cluster, namespace: str, identity: str) -> None:
        self.leadership = Leadership(cluster, namespace=namespace, name=LEASE, identity=identity, times=TIMES)
        self.works = asyncio.Event()
        self.worked = asyncio.Event()
        self.outcome: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> "Elector":
        self.task = asyncio.ensure_future(self.leadership.run(self._work))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task], timeout=DEADLINE_S)

    async def works_now(self) -> float:
        async with asyncio.timeout(DEADLINE_S):
            await self.works.wait()
        return time.monotonic()

    async def _work(self) -> None:
        self.works.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.worked.set()


async def holder(cluster: Cluster, namespace: str) -> str:
    lease = await cluster.get("Lease", namespace, LEASE)
    return str((lease or {}).get("spec", {}).get("holderIdentity", ""))


async def test_one_leads_the_other_follows_at_once_when_it_is_released(connect: Connect, namespace: str) -> None:
    first_client, second_client = await connect(), await connect()
    async with Elector(first_client, namespace, "first") as first:
        await first.works_now()
        assert first.leadership.leads()
        assert (await holder(first_client, namespace)).startswith("first_")
        async with Elector(second_client, namespace, "second") as second:
            await asyncio.wait([second.task], timeout=2 * TIMES.retry_s)
            assert not second.works.is_set()
            assert not second.leadership.leads()

            await first.stop()
            stopped = time.monotonic()

            assert first.worked.is_set()
            assert not first.leadership.leads()
            assert await second.works_now() - stopped < DURATION_S / 2
            assert second.leadership.leads()
    assert await holder(first_client, namespace) == ""


async def test_of_many_that_begin_at_once_one_leads(connect: Connect, namespace: str) -> None:
    electors = [Elector(await connect(), namespace, f"number-{number}") for number in range(4)]
    async with AsyncExitStack() as stack:
        for elector in electors:
            await stack.enter_async_context(elector)
        for left in (4, 3):
            working = [asyncio.ensure_future(each.works.wait()) for each in electors]
            done, others = await asyncio.wait(working, timeout=DEADLINE_S, return_when=asyncio.FIRST_COMPLETED)
            assert len(done) == 1
            # Time enough for each of the others to try it, too.
            done, others = await asyncio.wait(others, timeout=2 * TIMES.retry_s)
            assert (len(done), len(others)) == (0, left - 1)
            for waiting in others:
                waiting.cancel()
            (leader,) = (each for each in electors if each.leadership.leads())
            electors.remove(leader)
            await leader.stop()


async def test_work_that_ends_or_fails_gives_the_lease_back(connect: Connect, namespace: str) -> None:
    cluster = await connect()

    async def fail() -> None:
        raise KeyError("broken")

    async def end() -> None:
        pass

    for work, expected in [(end, None), (fail, KeyError)]:
        leadership = Leadership(cluster, namespace=namespace, name=LEASE, identity="first", times=TIMES)
        async with asyncio.timeout(DEADLINE_S):
            if expected is None:
                await leadership.run(work)
            else:
                with pytest.raises(expected):
                    await leadership.run(work)
        assert await holder(cluster, namespace) == ""
        assert not leadership.leads()


async def test_who_sees_another_name_in_the_lease_stops(connect: Connect, namespace: str) -> None:
    cluster = await connect()
    async with Elector(cluster, namespace, "first") as first:
        await first.works_now()

        await cluster.merge("Lease", namespace, LEASE, {"spec": {"holderIdentity": "thief"}})

        with pytest.raises(LeadershipLostError, match="another operator"):
            await asyncio.wait_for(first.task, DEADLINE_S)
        assert first.worked.is_set()
        assert not first.leadership.leads()
    assert await holder(cluster, namespace) == "thief"


async def test_who_stops_before_it_knows_that_it_has_the_lease_gives_it_back(connect: Connect, namespace: str) -> None:
    cluster = await connect()
    replaced = asyncio.Event()
    replace = cluster.replace

    async def replace_and_hang(kind: str, found: dict[str, Any]) -> dict[str, Any]:
        answer = await replace(kind, found)
        if not replaced.is_set():
            replaced.set()
            await asyncio.Event().wait()
        return answer

    cluster.replace = replace_and_hang  # type: ignore[method-assign]
    async with Elector(cluster, namespace, "first"):
        async with asyncio.timeout(DEADLINE_S):
            await replaced.wait()
        assert await holder(cluster, namespace) != ""
    assert await holder(cluster, namespace) == ""


async def test_a_lease_that_is_written_while_it_is_released_is_released_all_the_same(
    connect: Connect, namespace: str
) -> None:
    cluster = await connect()
    replace, conflicts = cluster.replace, 0

    async def replace_late(kind: str, found: dict[str, Any]) -> dict[str, Any]:
        nonlocal conflicts
        if not found["spec"]["holderIdentity"] and not conflicts:
            conflicts += 1
            await cluster.merge(kind, namespace, LEASE, {"metadata": {"labels": {"touched": "yes"}}})
        return await replace(kind, found)

    cluster.replace = replace_late  # type: ignore[method-assign]
    async with Elector(cluster, namespace, "first") as first:
        await first.works_now()
    assert conflicts
    assert await holder(cluster, namespace) == ""


async def test_work_that_does_not_end_keeps_the_lease_from_being_released(
    connect: Connect, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hivewire_operator.election.END_TIMEOUT_S", 0.1)
    cluster, started, end = await connect(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                pass

    leadership = Leadership(cluster, namespace=namespace, name=LEASE, identity="first", times=TIMES)
    running = asyncio.ensure_future(leadership.run(work))
    await asyncio.wait_for(started.wait(), DEADLINE_S)
    running.cancel()
    await asyncio.wait([running], timeout=DEADLINE_S)

    assert running.cancelled()
    assert await holder(cluster, namespace) != ""
    end.set()


def lease_rule(*verbs: str) -> dict[str, list[str]]:
    return {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [LEASE],
        "verbs": list(verbs),
    }


async def test_a_lease_that_the_chart_made_takes_the_rights_to_get_and_update_it(
    api_server: ApiServer, connect: Connect, namespace: str
) -> None:
    api_server.kubectl(namespace).apply(
        {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}}
    )
    kubeconfig = api_server.service_account(namespace, "operator", lease_rule("get", "update"))
    async with Elector(await connect(kubeconfig), namespace, "first") as first:
        await first.works_now()


async def test_a_lease_that_is_missing_is_made_with_the_rights_to_create_and_patch_that_one(
    api_server: ApiServer, connect: Connect, namespace: str
) -> None:
    rights = lease_rule("get", "update", "create", "patch")
    kubeconfig = api_server.service_account(namespace, "operator", rights)
    async with Elector(await connect(kubeconfig), namespace, "first") as first:
        await first.works_now()


async def test_without_the_rights_nobody_leads_and_the_log_says_why(
    api_server: ApiServer, connect: Connect, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    kubeconfig = api_server.service_account(namespace, "operator", lease_rule("get"))
    async with Elector(await connect(kubeconfig), namespace, "first") as first:
        async with asyncio.timeout(DEADLINE_S):
            while "forbidden" not in caplog.text:
                await asyncio.sleep(0.05)
        assert not first.works.is_set()


@pytest.mark.slow
async def test_the_place_of_a_killed_leader_is_taken_when_its_lease_is_over(
    api_server: ApiServer, namespace: str
) -> None:
    async with elector(api_server, namespace, "first") as first:
        await first.printed("leads")
        async with elector(api_server, namespace, "second") as second:
            await second.logged("waits")
            killed = time.monotonic()
            first.kill()
            taken = time_in(await second.printed("leads"))

    assert DURATION_S - 2 < taken - killed < DURATION_S + 3
    assert times_of(first)[-1] < taken


@pytest.mark.slow
async def test_a_leader_that_was_frozen_has_stopped_before_it_does_anything_else(
    api_server: ApiServer, namespace: str
) -> None:
    async with elector(api_server, namespace, "first") as first:
        await first.printed("leads")
        async with elector(api_server, namespace, "second") as second:
            await second.logged("waits")
            os.kill(first.pid, signal.SIGSTOP)
            taken = time_in(await second.printed("leads"))
            os.kill(first.pid, signal.SIGCONT)
            await first.printed("lost")
            await second.send_signal(signal.SIGTERM)
            await second.printed("stopped")

    assert times_of(first)[-1] < taken


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["refuses", "hangs"])
async def test_a_leader_without_an_api_server_stops_before_its_lease_is_over(
    api_server: ApiServer, namespace: str, fault: str
) -> None:
    async with TcpProxy(api_server.url) as proxy:
        everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
        url = proxy.url.replace("nats://", "https://")
        cut_off = api_server.service_account(namespace, "first", everything, url=url)
        async with elector(api_server, namespace, "first", kubeconfig=cut_off) as first:
            await first.printed("leads")
            async with elector(api_server, namespace, "second") as second:
                await second.logged("waits")
                cut = time.monotonic()
                if fault == "refuses":
                    proxy.refuse()
                else:
                    proxy.answering = False
                taken = time_in(await second.printed("leads"))
                await first.printed("lost")

    last = times_of(first)[-1]
    assert DURATION_S - 4 < last - cut < DURATION_S
    assert last < taken


def elector(api_server: ApiServer, namespace: str, identity: str, *, kubeconfig: Path | None = None) -> Program:
    return Program(ELECTOR, str(kubeconfig or api_server.kubeconfig), namespace, identity, str(DURATION_S), "1")


def time_in(line: str) -> float:
    return float(line.split()[1])


def times_of(program: Program) -> list[float]:
    return [time_in(line) for line in program.lines if line.startswith("leads")]
