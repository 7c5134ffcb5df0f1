"""Processes that this one starts."""

import asyncio
import signal

from hivewire.cli.children import Child


async def test_what_a_child_writes_can_be_kept_and_its_exit_code_is_known() -> None:
    child = await Child.start(["--version"], capture=True)
    assert await child.ended() == 0
    assert child.output().startswith("hivewire 0.")
    assert child.exit_code == 0
    assert await child.stop(1) == 0


async def test_the_errors_of_a_child_are_kept_too() -> None:
    child = await Child.start(["nothing"], capture=True)
    assert await child.ended() == 2
    assert "No such command" in child.output()
    await child.stop(1)


async def test_its_environment_is_that_of_this_process_and_what_is_added() -> None:
    child = await Child.start(["ps"], environment={"BROKER_URL": "gopher://added"}, capture=True)
    await child.ended()
    assert "gopher://added" in child.output()
    await child.stop(1)


async def test_a_child_that_does_not_heed_is_killed() -> None:
    child = await Child.start(["ps", "--broker", "nats://192.0.2.1"], capture=True)
    assert child.exit_code is None
    # 255: Python 3.11 sometimes misses with what a child ended that it sends a signal to.
    assert await child.stop(0) in (-signal.SIGKILL, -signal.SIGTERM, 255)


async def test_an_interrupted_stop_leaves_no_open_lifeline() -> None:
    child = await Child.start(["ps", "--broker", "nats://192.0.2.1"], capture=True)
    stopping = asyncio.ensure_future(child.stop(10))
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    async with asyncio.timeout(20):
        await child.ended()
