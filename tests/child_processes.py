"""Python programs as processes of their own, for tests that speak of processes."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from time import monotonic
from typing import Any, Self

from hivewire import AgentId, AgentNotFoundError, NatsAgentRuntime

DEADLINE_S = 40.0
_TESTS = Path(__file__).parent


class Program:
    """A running Python program. `async with` it: whatever is left of it at the end is killed."""

    def __init__(self, path: Path, *arguments: str, **environment: str) -> None:
        self._command = (sys.executable, str(path), *arguments)
        self._environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")]),
            **environment,
        }
        self._name = path.name
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process
        self._readers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command, env=self._environment, stdin=PIPE, stdout=PIPE, stderr=PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(self._process.stdout, self._lines)),
            asyncio.create_task(self._read(self._process.stderr, self._errors)),
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        await self._process.wait()
        await asyncio.gather(*self._readers)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    @property
    def lines(self) -> list[str]:
        """What it printed so far."""
        return list(self._lines)

    @property
    def errors(self) -> str:
        """What it wrote to standard error so far."""
        return "".join(f"{line}\n" for line in self._errors)

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def printed(self, text: str, *, timeout_s: float = DEADLINE_S) -> str:
        """Wait until it has printed a line that contains a text, and return the line."""
        return await self._in(self._lines, text, timeout_s)

    async def logged(self, text: str) -> str:
        """Wait until it has written a line that contains a text to standard error, and return the line."""
        return await self._in(self._errors, text, DEADLINE_S)

    async def ended_well(self) -> None:
        """Wait until it has ended by itself, and see that nothing went wrong in it."""
        status = await self.ended()
        assert status == 0, f"{self._name} ended with {status}. It wrote {self._lines} and\n{self.errors}"

    async def ended(self) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        async with asyncio.timeout(DEADLINE_S):
            status = await self._process.wait()
            await asyncio.gather(*self._readers)
        return status

    async def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, once it has a handler for it."""
        async with asyncio.timeout(DEADLINE_S):
            # Only the kernel can be asked for it.
            while not self._handles(number):
                await asyncio.sleep(0.01)
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it by force, as a power cut would."""
        if self._process.returncode is None:
            self._process.kill()

    def _handles(self, number: signal.Signals) -> bool:
        status = Path(f"/proc/{self._process.pid}/status")
        if not status.exists():
            return True
        (caught,) = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (number - 1) & 1)

    async def _read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        while line := await stream.readline():
            into.append(line.decode().rstrip("\n"))
            self._news.set()
        self._news.set()

    async def _in(self, lines: list[str], text: str, timeout_s: float) -> str:
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._news.clear()
                    for line in lines:
                        if text in line:
                            return line
                    if all(reader.done() for reader in self._readers):
                        break
                    await self._news.wait()
        except TimeoutError:
            pass
        raise AssertionError(f"{self._name} did not write {text!r}. It wrote {self._lines} and\n{self.errors}")


async def answer_of(runtime: NatsAgentRuntime, message: Any, recipient: AgentId) -> Any:
    """Send a message to an agent whose process may still be starting, and return the answer."""
    until = monotonic() + DEADLINE_S
    while True:
        try:
            return await runtime.send_message(message, recipient, timeout=DEADLINE_S)
        except AgentNotFoundError:
            if monotonic() > until:
                raise
