"""Suspects of several shards of one process: tried one after the other, each written down no earlier than it runs."""

import asyncio
from dataclasses import replace

from hivewire.model.ids import AgentId
from hivewire.nats.admitted import Admitted
from hivewire.nats.crash_guard import CrashGuard
from hivewire.nats.positions import Position, SubscriptionChange
from hivewire.nats.recorded_start import RecordedStart
from hivewire.nats.turn import Turn

POSITION = Position(
    owner=None,
    epoch=3,
    stream="S",
    subscriptions=SubscriptionChange(change=1, filters=()),
    floor=0,
    unclean=2,
    started=9,
)


def admitted(shard: int) -> Admitted:
    turn = Turn(
        id=f"turn {shard}",
        agent=AgentId("agent", str(shard)),
        type_name="",
        content_type="",
        payload=b"",
        message_id="",
    )
    return Admitted(key=str(shard), turn=turn, sequence=1)


class Process:
    """A process with shards that have a suspect each. `happened` tells what was written and tried, in order."""

    def __init__(self) -> None:
        self.trial = asyncio.Lock()
        self.happened: list[str] = []
        self.ends = asyncio.Event()

    def shard(self, number: int) -> RecordedStart:
        guard = CrashGuard(replace(POSITION), end=9)

        async def write() -> None:
            self.happened.append(f"{number} suspects {guard.suspect and guard.suspect.attempts}")
            await asyncio.sleep(0)

        async def runs() -> None:
            self.happened.append(f"{number} tries")
            await self.ends.wait()
            self.happened.append(f"{number} has survived")

        def start(each: Admitted, doomed: bool) -> asyncio.Task[None]:
            assert not doomed
            return asyncio.create_task(runs())

        recorded = RecordedStart(
            guard, write=write, start=start, busy_keys=list, on_buried=lambda: None, trial=self.trial
        )
        assert recorded.takes(admitted(number))
        return recorded


async def until(process: Process, count: int) -> None:
    async with asyncio.timeout(5):
        while len(process.happened) < count:
            await asyncio.sleep(0)


async def test_no_event_is_suspected_while_that_of_another_shard_is_tried() -> None:
    process = Process()
    shards = [process.shard(number) for number in range(3)]
    tasks = [asyncio.create_task(each.run()) for each in shards]
    await until(process, 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert process.happened == ["0 suspects 1", "0 tries"]
    process.ends.set()
    await until(process, 9)
    assert process.happened == [
        f"{number} {what}" for number in range(3) for what in ("suspects 1", "tries", "has survived")
    ]
    for shard in shards:
        shard.leave()
    await asyncio.gather(*tasks)


async def test_a_shard_that_is_left_waits_for_no_trial_and_takes_none_away() -> None:
    process = Process()
    first, second, third = (process.shard(number) for number in range(3))
    tasks = [asyncio.create_task(each.run()) for each in (first, second, third)]
    await until(process, 2)
    second.leave()
    async with asyncio.timeout(5):
        await tasks[1]
    process.ends.set()
    await until(process, 6)
    assert process.happened[3:] == ["2 suspects 1", "2 tries", "2 has survived"]
    for shard in (first, third):
        shard.leave()
    await asyncio.gather(*tasks)
    assert not process.trial.locked()
