"""Workers over HTTP and their gateways as processes that are killed, hang, or get a signal."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import pytest

from broker.cli.commands import CommandLine
from broker.proxy import TcpProxy
from child_processes import Program, answer_of
from gateway.conftest import DEADLINE_S, NewGateway, NewRuntime
from gateway.processes import GatewayProcess
from hivewire import AgentId, NatsAgentRuntime, TopicId, WorkerLostError
from hivewire_gateway import server as server_module

WORKER = Path(__file__).parent / "programs" / "counting_worker.py"
AGENT = AgentId("counter", "k")


@dataclass
class Step:
    number: int


@pytest.fixture
def cli(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[CommandLine]:
    """Runs commands; those that still run are killed at the end."""
    line = CommandLine(nats_url, namespace, tmp_path)
    yield line
    line.kill_all()


@pytest.fixture
async def client(new_runtime: NewRuntime) -> AsyncIterator[NatsAgentRuntime]:
    """Somebody on NATS."""
    runtime = new_runtime()
    await runtime.connect()
    yield runtime


async def numbers_of(client: NatsAgentRuntime, agent: AgentId, count: int) -> list[int]:
    """Return what an agent has counted, once it is so much."""
    async with asyncio.timeout(2 * DEADLINE_S):
        while True:
            try:
                state = await client.agent_save_state(agent)
            except WorkerLostError:
                continue
            if len(state["numbers"]) >= count:
                return list(state["numbers"])
            await asyncio.sleep(0.05)


async def test_a_worker_whose_gateway_is_killed_goes_on_with_another_one(
    cli: CommandLine, client: NatsAgentRuntime
) -> None:
    first, second = await asyncio.gather(*(asyncio.to_thread(GatewayProcess, cli) for _ in range(2)))
    async with TcpProxy(first.url) as proxy, Program(WORKER, proxy.url.replace("nats", "http")) as worker:
        await worker.printed("ready")
        assert await answer_of(client, Step(1), AGENT) == Step(1)

        async def publish() -> None:
            for number in range(2, 62):
                await client.publish_message(Step(number), TopicId("steps", "k"))

        publishing = asyncio.create_task(publish())
        await worker.printed("got k 10")
        proxy.target(second.url)
        first.started.kill()
        await publishing
        # In order, and each counted once, although the one that ran at the kill was handled again.
        assert await numbers_of(client, AGENT, 61) == list(range(1, 62))
        await worker.send_signal(SIGTERM)
        await worker.ended_well()


async def test_another_worker_goes_on_for_one_that_is_killed(cli: CommandLine, client: NatsAgentRuntime) -> None:
    gateway = await asyncio.to_thread(GatewayProcess, cli)
    async with Program(WORKER, gateway.url) as first:
        await first.printed("ready")
        for number in range(30):
            await client.publish_message(Step(number), TopicId("steps", "k"))
        await first.printed("got k 5")
        first.kill()
        async with Program(WORKER, gateway.url) as second:
            assert await numbers_of(client, AGENT, 30) == list(range(30))
            await second.send_signal(SIGTERM)
            await second.ended_well()


async def test_callers_of_a_worker_whose_loop_hangs_learn_of_it_and_others_take_over(
    new_gateway: NewGateway, client: NatsAgentRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "PING_INTERVAL_S", 0.5)
    monkeypatch.setattr(server_module, "PING_TIMEOUT_S", 1.0)
    gateway = await new_gateway()
    async with Program(WORKER, gateway.url) as hanging:
        await hanging.printed("ready")
        call = asyncio.create_task(client.send_message(Step(666), AGENT))
        await hanging.printed("got k 666")
        with pytest.raises(WorkerLostError):
            async with asyncio.timeout(DEADLINE_S):
                await call
        async with Program(WORKER, gateway.url) as second:
            await second.printed("ready")
            assert await client.send_message(Step(1), AGENT, timeout=DEADLINE_S) == Step(1)


async def test_a_worker_that_gets_a_signal_hands_over_and_ends(cli: CommandLine, client: NatsAgentRuntime) -> None:
    gateway = await asyncio.to_thread(GatewayProcess, cli)
    async with Program(WORKER, gateway.url) as worker:
        await worker.printed("ready")
        assert await answer_of(client, Step(1), AGENT) == Step(1)
        await worker.send_signal(SIGTERM)
        await worker.ended_well()
        assert worker.lines[-1] == "stopped"
