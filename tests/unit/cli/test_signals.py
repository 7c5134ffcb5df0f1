"""Signals that ask a process to stop."""

import asyncio
import os
import signal

import pytest

from hivewire.cli.signals import stop_signal


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    async with asyncio.timeout(5):
        with stop_signal() as came:
            assert not came.is_set()
            os.kill(os.getpid(), number)
            await came.wait()
            # A second one would end the process.
            assert signal.getsignal(number) is not before or before in (signal.SIG_DFL, signal.default_int_handler)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_signal() as came:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(0)
            assert not came.is_set()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
