"""The worker processes: one that stays, and others that join and leave every few seconds."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import cycle
from pathlib import Path

READY_TIMEOUT_S = 90.0
DRAIN_TIMEOUT_S = 60.0
PAUSE_S = 2.0
"""After each join and each leave. A worker takes about as long to start, so one comes or goes every few seconds."""

MOST_OTHERS = 2


class WorkerFailedError(Exception):
    """A worker did not start, ended by itself, or did not drain. What it printed is on standard error."""


class Worker:
    """One worker process: `start` it, and `end` it whatever happens."""

    def __init__(self, url: str, samples: Path | None = None) -> None:
        self._arguments = [sys.executable, "-m", "soak.worker", url, *([str(samples)] if samples else [])]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return once it serves.

        Raises:
            WorkerFailedError: it ended before.
            TimeoutError: it took too long.
        """
        pipe = asyncio.subprocess.PIPE
        process = self._process = await asyncio.create_subprocess_exec(*self._arguments, stdin=pipe, stdout=pipe)
        assert process.stdout is not None
        async with asyncio.timeout(READY_TIMEOUT_S):
            line = await process.stdout.readline()
        if line != b"serving\n":
            raise WorkerFailedError(f"a worker ended with {await process.wait()} before it served")

    def check(self) -> None:
        """See that it lives.

        Raises:
            WorkerFailedError: it does not.
        """
        if self._process is None or self._process.returncode is not None:
            raise WorkerFailedError(f"a worker ended by itself: {self._process}")

    async def leave(self, number: signal.Signals) -> None:
        """End it by SIGTERM, as a scale-down would, or by SIGKILL, as a crash would.

        Raises:
            WorkerFailedError: it did not drain, or had ended before.
            TimeoutError: it took too long.
        """
        self.check()
        assert self._process is not None
        self._process.send_signal(number)
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            code = await self._process.wait()
        wanted = 0 if number == signal.SIGTERM else -number
        if code != wanted:
            raise WorkerFailedError(f"a worker ended with {code} after {number.name}")

    async def end(self) -> None:
        """Kill it if it still lives."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def running_worker(url: str, samples: Path | None = None) -> AsyncIterator[Worker]:
    """A worker that serves inside, and is gone after."""
    worker = Worker(url, samples)
    try:
        await worker.start()
        yield worker
    finally:
        await worker.end()


class Churn:
    """Workers that join and leave for as long as `run` runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._others: list[Worker] = []
        self.joins = 0
        self.drains = 0
        self.kills = 0

    async def run(self) -> None:
        """Let workers join and leave until cancelled; then kill those that are left."""
        numbers = cycle([signal.SIGTERM, signal.SIGKILL])
        try:
            while True:
                await self._join()
                await asyncio.sleep(PAUSE_S)
                if len(self._others) == MOST_OTHERS:
                    await self._leave(next(numbers))
                    await asyncio.sleep(PAUSE_S)
        finally:
            for worker in self._others:
                await worker.end()

    async def _join(self) -> None:
        worker = Worker(self._url)
        self._others.append(worker)
        await worker.start()
        self.joins += 1

    async def _leave(self, number: signal.Signals) -> None:
        await self._others[0].leave(number)
        del self._others[0]
        self.drains += number == signal.SIGTERM
        self.kills += number == signal.SIGKILL
