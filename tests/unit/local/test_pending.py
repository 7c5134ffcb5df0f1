import asyncio
from typing import Any

import pytest

from hivewire.local.pending import PendingWork
from hivewire.local.work import Call, Work, current_work
from hivewire.model.ids import AgentId

OWNER = object()


def never() -> bool:
    return False


def call(caused_by: Work | None = None, owner: object = OWNER) -> Call:
    made = Call("x", AgentId("agent", "k"), None, None, "1", owner, asyncio.get_running_loop().create_future())
    made.caused_by = caused_by
    return made


async def wait_within(pending: PendingWork, work: Work | None) -> None:
    current_work.set(work)
    await pending.until_idle(never)


async def rounds() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
def pending() -> PendingWork:
    return PendingWork(OWNER)


def add(pending: PendingWork, count: int) -> None:
    for _ in range(count):
        pending.add()


async def test_without_work_nothing_is_waited_for(pending: PendingWork) -> None:
    await pending.until_idle(never)


async def test_all_work_is_waited_for(pending: PendingWork) -> None:
    add(pending, 2)
    waiting = asyncio.create_task(pending.until_idle(never))
    await rounds()
    pending.remove()
    await rounds()
    assert not waiting.done()
    pending.remove()
    await waiting


async def test_what_a_waiter_is_part_of_does_not_count(pending: PendingWork) -> None:
    outer = call()
    inner = call(caused_by=outer)
    add(pending, 3)
    waiting = asyncio.create_task(wait_within(pending, inner))
    await rounds()
    assert not waiting.done()
    pending.remove()
    await waiting


async def test_what_one_waiter_is_part_of_does_not_count_for_another_either(pending: PendingWork) -> None:
    shared = call()
    add(pending, 4)
    waiters = [asyncio.create_task(wait_within(pending, call(caused_by=shared))) for _ in range(2)]
    await rounds()
    assert not any(waiter.done() for waiter in waiters)
    pending.remove()
    await asyncio.gather(*waiters)


@pytest.mark.parametrize("other", [{"owner": object()}, {"finished": True}])
async def test_work_of_others_and_finished_work_count_in_full(pending: PendingWork, other: dict[str, Any]) -> None:
    work = call()
    for name, value in other.items():
        setattr(work, name, value)
    add(pending, 1)
    waiting = asyncio.create_task(wait_within(pending, work))
    await rounds()
    assert not waiting.done()
    pending.remove()
    await waiting


async def test_waiting_ends_when_its_condition_holds(pending: PendingWork) -> None:
    ended = False
    add(pending, 1)
    waiting = asyncio.create_task(pending.until_idle(lambda: ended))
    await rounds()
    ended = True
    pending.notify()
    await waiting


async def test_a_waiter_that_is_cancelled_leaves_nothing_behind(pending: PendingWork) -> None:
    add(pending, 2)
    waiting = asyncio.create_task(wait_within(pending, call()))
    await rounds()
    waiting.cancel()
    await asyncio.wait([waiting])

    other = asyncio.create_task(pending.until_idle(never))
    pending.remove()
    await rounds()
    assert not other.done()
    pending.remove()
    await other
