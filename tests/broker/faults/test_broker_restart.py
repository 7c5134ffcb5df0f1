"""The broker goes away and comes back while agents in several processes are at work."""

import asyncio
from collections import Counter

from broker.conftest import NewRuntime
from broker.processes import TOPIC_TYPE, TYPE, AgentProcesses, Ask, Note, Told
from hivewire import AgentId, BrokerUnavailableError, TopicId, WorkerLostError
from hivewire.nats.embedded import EmbeddedServer

EVENTS = 1_500
CALLERS = 8
PUBLISHERS = 8


async def test_no_event_is_lost_and_no_call_runs_twice_while_the_broker_restarts(
    server: EmbeddedServer, new_runtime: NewRuntime, processes: AgentProcesses
) -> None:
    await processes.start(2, url=server.url)
    runtime = await new_runtime(server.url).connect()
    events, calls = iter(range(EVENTS)), iter(range(1_000_000))
    outcomes: dict[int, object] = {}
    done = asyncio.Event()

    async def publish_on() -> None:
        for number in events:
            await runtime.publish_message(Note(number), TopicId(TOPIC_TYPE, f"k{number % 20}"))
            await asyncio.sleep(0.005)

    async def call_on() -> None:
        while not done.is_set():
            number = next(calls)
            try:
                outcomes[number] = await runtime.send_message(Ask(number, 0.01), AgentId(TYPE, f"k{number % 20}"))
            except (BrokerUnavailableError, WorkerLostError) as error:
                outcomes[number] = error

    async with asyncio.TaskGroup() as group:
        publishing = [group.create_task(publish_on()) for _ in range(PUBLISHERS)]
        for _ in range(CALLERS):
            group.create_task(call_on())
        for crash in (False, True):
            await processes.journal.reaches(len(processes.journal) + 200)
            if crash:
                server.kill()
            await server.restart()
        await asyncio.gather(*publishing)
        async with asyncio.timeout(30):
            while len(outcomes) < 300:
                await asyncio.sleep(0.05)
        done.set()
    async with asyncio.timeout(15):
        while set(processes.journal.numbers("event")) != set(range(EVENTS)):
            await asyncio.sleep(0.05)

    assert processes.journal.numbers("event") == list(range(EVENTS))
    executed = Counter(processes.journal.numbers("call"))
    assert max(executed.values()) == 1
    answered = {number for number, outcome in outcomes.items() if isinstance(outcome, Told)}
    assert all(outcomes[number].number == number for number in answered)  # type: ignore[attr-defined]
    assert answered <= executed.keys()
    # Those that were under way when it went down.
    assert len(outcomes) - len(answered) <= 2 * CALLERS
    assert len(answered) >= 300 - 2 * CALLERS
    assert processes.journal.overlaps() == []
