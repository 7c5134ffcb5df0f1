"""Signals that ask a process to stop, as an event."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signal() -> Iterator[asyncio.Event]:
    """Set the event at the first SIGTERM or SIGINT; a second one has its usual effect, which ends the process.

    A signal that is ignored stays ignored.
    """
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = [each for each in (signal.SIGTERM, signal.SIGINT) if signal.getsignal(each) is not signal.SIG_IGN]

    def stop() -> None:
        came.set()
        for each in signals:
            loop.remove_signal_handler(each)

    for each in signals:
        loop.add_signal_handler(each, stop)
    try:
        yield came
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
