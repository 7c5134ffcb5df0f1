import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hivewire.local.mailboxes import Mailboxes
from hivewire.local.work import Call, Work
from hivewire.model.ids import AgentId

AGENT = AgentId("agent", "k")
OTHER = AgentId("agent", "other")


def turn(recipient: AgentId = AGENT, caused_by: Work | None = None) -> Call:
    call = Call("x", recipient, None, None, "1", None, asyncio.get_running_loop().create_future())
    call.caused_by = caused_by
    return call


async def rounds(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_one_turn_of_an_agent_is_in_at_a_time_in_order() -> None:
    mailboxes = Mailboxes()
    entered: list[int] = []
    turns = [turn() for _ in range(3)]

    async def enter(number: int) -> None:
        await mailboxes.enter(turns[number])
        entered.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(enter(number))
        await rounds()
        assert (entered, mailboxes.waiting) == ([0], 2)
        for number in range(3):
            mailboxes.leave(turns[number])
            await rounds()

    assert entered == [0, 1, 2]
    assert mailboxes.waiting == 0


async def test_other_agents_have_their_own_mailboxes() -> None:
    mailboxes = Mailboxes()
    await mailboxes.enter(turn())
    await mailboxes.enter(turn(OTHER))


async def test_an_inner_turn_enters_beside_the_one_that_caused_it() -> None:
    mailboxes = Mailboxes()
    outer = turn()
    await mailboxes.enter(outer)
    through = turn(OTHER, caused_by=outer)
    await mailboxes.enter(through)

    await mailboxes.enter(turn(caused_by=through))


async def test_an_idle_agent_leaves_no_mailbox() -> None:
    mailboxes = Mailboxes()
    for number in range(100):
        one = turn(AgentId("agent", str(number)))
        await mailboxes.enter(one)
        mailboxes.leave(one)

    assert mailboxes._boxes == {}


async def test_refused_turns_fail_and_the_running_one_stays() -> None:
    mailboxes = Mailboxes()
    first = turn()
    await mailboxes.enter(first)
    waiting = [asyncio.create_task(mailboxes.enter(turn())) for _ in range(2)]
    await rounds()
    mailboxes.refuse_waiting(KeyError("stopped"))

    for task in waiting:
        with pytest.raises(KeyError, match="stopped"):
            await task
    mailboxes.leave(first)
    assert mailboxes._boxes == {}


@pytest.mark.parametrize("let_in_first", [False, True])
async def test_a_cancelled_turn_makes_room_for_the_next(let_in_first: bool) -> None:
    mailboxes = Mailboxes()
    first, last = turn(), turn()
    await mailboxes.enter(first)
    cancelled = asyncio.create_task(mailboxes.enter(turn()))
    following = asyncio.create_task(mailboxes.enter(last))
    await rounds()
    steps: list[Callable[[], object]] = [cancelled.cancel, lambda: mailboxes.leave(first)]
    for step in reversed(steps) if let_in_first else steps:
        step()
    await rounds()

    assert cancelled.cancelled()
    assert await _is_done(following)
    mailboxes.leave(last)
    assert mailboxes._boxes == {}


async def _is_done(task: Awaitable[None]) -> bool:
    await asyncio.wait_for(task, 5)
    return True
