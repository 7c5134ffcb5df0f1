"""The worker processes of one run: started, stopped, killed, paused, and restarted when a message kills them."""

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Self

from chaos import agents
from chaos.model import Handled

READY_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 45.0

_POLL_S = 0.02


class Worker:
    """One process that serves the ledgers.

    Args:
        prefix: What to start it with, such as ``ip netns exec NAME``, which becomes the process itself.
        environment: More of its environment.
    """

    def __init__(
        self,
        name: str,
        urls: str,
        namespace: str,
        directory: Path,
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.expected_to_end = False
        self._output = directory / f"{name}.log"
        with self._output.open("wb") as output:
            self._popen = subprocess.Popen(
                [*prefix, sys.executable, agents.__file__, urls, namespace, str(directory), name],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "HIVEWIRE_CHAOS_PARENT": str(os.getpid()), **(environment or {})},
            )

    def __repr__(self) -> str:
        return f"<Worker {self.name} pid {self.pid} {'running' if self.is_running else self._popen.returncode}>"

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    @property
    def is_paused(self) -> bool:
        """Whether it was stopped by SIGSTOP, by whomever."""
        status = Path(f"/proc/{self.pid}/stat").read_text()
        return status.rpartition(")")[2].split()[0] == "T"

    @property
    def exit_code(self) -> int | None:
        return self._popen.poll()

    @property
    def log(self) -> str:
        return self._output.read_text(errors="replace")

    async def ready(self) -> None:
        """Return once it serves."""
        deadline = monotonic() + READY_TIMEOUT_S
        while "serving\n" not in self.log:
            if not self.is_running or monotonic() > deadline:
                raise AssertionError(f"{self!r} does not serve; the end of its output:\n{self.log[-3000:]}")
            await asyncio.sleep(_POLL_S)

    async def takes_part(self) -> None:
        """Return once it has a shard: those of the dead may come later."""
        deadline = monotonic() + READY_TIMEOUT_S
        while "was taken over" not in self.log:
            if not self.is_running or monotonic() > deadline:
                raise AssertionError(f"{self!r} takes no shard; the end of its output:\n{self.log[-3000:]}")
            await asyncio.sleep(_POLL_S)

    async def ended(self, timeout_s: float = DRAIN_TIMEOUT_S) -> int:
        """Wait for its end and return its exit code."""
        deadline = monotonic() + timeout_s
        while (code := self._popen.poll()) is None:
            if monotonic() > deadline:
                raise AssertionError(f"{self!r} did not end; the end of its output:\n{self.log[-3000:]}")
            await asyncio.sleep(_POLL_S)
        return code

    async def stop(self) -> None:
        """End it by SIGTERM, and see that it drained."""
        self.expected_to_end = True
        self._popen.terminate()
        code = await self.ended()
        assert code == 0, f"{self!r} ended with {code} after SIGTERM; the end of its output:\n{self.log[-3000:]}"

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        self.expected_to_end = True
        self._popen.kill()
        self._popen.wait()

    def pause(self) -> None:
        """Stop it by SIGSTOP: it holds its connections and does nothing."""
        self._popen.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._popen.send_signal(signal.SIGCONT)

    def jump_clock(self) -> None:
        """Let the clock of its session jump, as `agents.CLOCK_VARIABLE` in its environment says."""
        self._popen.send_signal(signal.SIGUSR1)


class Fleet:
    """All workers of a run, those that have ended too. `async with` it: what is left at the end is killed.

    Args:
        environment: For every worker, such as the PYTHONPATH of another copy of the runtime.
    """

    def __init__(
        self, urls: str, namespace: str, directory: Path, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._urls = urls
        self._namespace = namespace
        self._directory = directory
        self._environment = dict(environment or {})
        self._numbers = count(1)
        self.all: list[Worker] = []
        directory.mkdir(parents=True, exist_ok=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self.all:
            worker.kill()

    @property
    def running(self) -> list[Worker]:
        """The workers that live and that nobody has told to end, the oldest first."""
        return [worker for worker in self.all if worker.is_running and not worker.expected_to_end]

    def launch(
        self, *, urls: str | None = None, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> Worker:
        """Start one and don't wait for it."""
        worker = Worker(
            f"w{next(self._numbers)}",
            urls or self._urls,
            self._namespace,
            self._directory,
            prefix=prefix,
            environment={**self._environment, **(environment or {})},
        )
        self.all.append(worker)
        return worker

    async def start(self, number: int = 1, *, environment: Mapping[str, str] | None = None) -> list[Worker]:
        """Start some at once and return them when all of them serve."""
        workers = [self.launch(environment=environment) for _ in range(number)]
        await asyncio.gather(*(worker.ready() for worker in workers))
        return workers

    async def scale(self, number: int) -> None:
        """Have so many: start what is missing, or drain the oldest."""
        surplus = len(self.running) - number
        if surplus > 0:
            await asyncio.gather(*(worker.stop() for worker in self.running[:surplus]))
        elif surplus < 0:
            await self.start(-surplus)

    async def stop(self) -> None:
        """Drain all of them."""
        await asyncio.gather(*(worker.stop() for worker in self.running))

    async def replace(self, worker: Worker) -> Worker:
        """Kill one and return another that takes part in its place."""
        worker.kill()
        successor = self.launch()
        await successor.takes_part()
        return successor

    async def replace_random(self, dice: random.Random) -> Worker:
        return await self.replace(dice.choice(self.running))

    @asynccontextmanager
    async def supervised(self) -> AsyncIterator[list[Worker]]:
        """Restart what dies by itself, as Kubernetes would; yields the list of those that died, which grows."""
        died: list[Worker] = []
        watching = asyncio.create_task(self._watch(died), name="chaos: supervisor")
        try:
            yield died
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, died: list[Worker]) -> None:
        while True:
            for worker in self.all:
                if not worker.is_running and not worker.expected_to_end:
                    worker.expected_to_end = True
                    died.append(worker)
                    self.launch()
            await asyncio.sleep(_POLL_S)

    def unexpected_ends(self) -> list[Worker]:
        """Workers that ended although nobody told them to, and nobody restarted them."""
        return [worker for worker in self.all if not worker.is_running and not worker.expected_to_end]

    def handled(self) -> list[Handled]:
        """Read the journals of all workers, in the order of time."""
        turns = []
        for path in self._directory.glob("*.journal"):
            for line in path.read_text().splitlines(keepends=True):
                if line.endswith("\n"):  # A killed process may leave half a line.
                    at_s, key, id = line.split()
                    turns.append(Handled(id=id, key=key, at_s=float(at_s)))
        return sorted(turns, key=lambda turn: turn.at_s)
