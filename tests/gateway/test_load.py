"""Many events over many connections, while processes die."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from broker.cli.commands import CommandLine
from broker.processes import TOPIC_TYPE, AgentProcesses
from gateway.conftest import until
from gateway.processes import GatewayProcess
from gateway.stored_events import stored_events

EVENTS = 10_000
CONNECTIONS = 64
SOURCES = 20
DEADLINE_S = 100.0


@pytest.fixture
def processes(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[AgentProcesses]:
    """Starts processes with agents."""
    processes = AgentProcesses(nats_url, namespace, tmp_path / "journal")
    yield processes
    processes.kill_all()


@pytest.fixture
def cli(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[CommandLine]:
    """Starts gateways."""
    cli = CommandLine(nats_url, namespace, tmp_path)
    yield cli
    cli.kill_all()


@pytest.mark.slow
async def test_every_event_that_was_accepted_is_stored_once_whatever_dies(
    nats_url: str, namespace: str, processes: AgentProcesses, cli: CommandLine
) -> None:
    worker, _ = await processes.start(2)
    first, second = await asyncio.gather(*(asyncio.to_thread(GatewayProcess, cli) for _ in range(2)))
    gateways = [first.url, second.url]
    todo = iter(range(EVENTS))
    accepted: dict[int, int] = {}
    broken: list[int] = []

    async def produce(session: aiohttp.ClientSession, turn: int) -> None:
        for number in todo:
            headers = {
                "ce-specversion": "1.0",
                "ce-id": str(number),
                "ce-source": f"k{number % SOURCES}",
                "ce-type": TOPIC_TYPE,
                "ce-dataschema": "Note",
            }
            while number not in accepted:
                try:
                    url = f"{gateways[turn % 2]}/v1/events"
                    async with session.post(url, json={"number": number}, headers=headers) as answer:
                        assert answer.status == 202, await answer.text()
                        accepted[number] = (await answer.json())["sequence"]
                except aiohttp.ClientError:
                    # Whether it was stored is not known: it goes to another replica.
                    broken.append(number)
                    turn += 1

    async def disturb() -> None:
        await until(lambda: len(accepted) >= EVENTS // 4, DEADLINE_S)
        worker.kill()
        await until(lambda: len(accepted) >= EVENTS // 2, DEADLINE_S)
        first.started.kill()
        gateways[0] = (await asyncio.to_thread(GatewayProcess, cli)).url

    async with (
        asyncio.timeout(DEADLINE_S),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(disturb())
        for turn in range(CONNECTIONS):
            group.create_task(produce(session, turn))
    assert broken, "the gateway was killed while nothing was under way"
    stored = await stored_events(nats_url, namespace)
    assert {int(event.id): event.sequence for event in stored} == accepted
    assert len(stored) == EVENTS
    # What is stored is handled too, by the worker that is left.
    async with asyncio.timeout(DEADLINE_S):
        while len(set(processes.journal.numbers("event"))) < EVENTS:
            await asyncio.sleep(0.1)
