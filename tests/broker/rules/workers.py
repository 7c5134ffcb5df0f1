"""Processes with the agents of `agents.py`, and a supervisor that starts again those that die."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from broker.rules.agents import Notebook

_TESTS = Path(__file__).parents[2]


class Worker:
    """One process."""

    def __init__(self, command: list[str]) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_TESTS)

    @property
    def pid(self) -> int:
        return self.process.pid

    async def serves(self, timeout_s: float = 40.0) -> bool:
        """Wait until it serves; False: it died before."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            return await asyncio.to_thread(self.process.stdout.readline) == "serving\n"

    async def died(self, timeout_s: float = 30.0) -> int:
        return await asyncio.to_thread(self.process.wait, timeout_s)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Workers:
    """The processes of one test."""

    def __init__(self, url: str, namespace: str, folder: Path) -> None:
        folder.mkdir()
        self.notebook = Notebook(folder)
        self.deaths = 0
        self._command = [sys.executable, "-m", "broker.rules.agents", url, namespace, str(folder)]
        self._all: list[Worker] = []

    async def start(self, *types: str) -> Worker:
        """Start one that serves these types, and return it when it does."""
        worker = self._begin(types)
        assert await worker.serves(), f"the process ended with {worker.process.wait()}"
        return worker

    @contextlib.asynccontextmanager
    async def supervised(self, count: int, *types: str) -> AsyncIterator[None]:
        """Keep so many running: one that dies is started again."""
        keepers = [asyncio.create_task(self._keep(types)) for _ in range(count)]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    async def _keep(self, types: tuple[str, ...]) -> None:
        while True:
            worker = self._begin(types)
            while worker.process.poll() is None:
                await asyncio.sleep(0.05)
            self.deaths += 1

    def _begin(self, types: tuple[str, ...]) -> Worker:
        worker = Worker([*self._command, *types])
        self._all.append(worker)
        return worker

    def kill_all(self) -> None:
        for worker in self._all:
            worker.kill()
