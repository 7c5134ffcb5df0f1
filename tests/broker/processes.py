"""Agents in processes of their own, for tests that kill, stop, start and count them.

Run as a script this file is such a process: it serves the type `worker` until a signal ends it, and writes each turn
into a journal that all processes share.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hivewire import (
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TypeSubscription,
    event,
    message_handler,
)

TYPE = "worker"
TOPIC_TYPE = "work"


@dataclass
class Ask:
    """A call of the type `worker`: wait for `seconds`, blocking the event loop with `blocking`, and answer."""

    number: int = 0
    seconds: float = 0.0
    blocking: bool = False
    caller: str = ""


@dataclass
class Told:
    """The answer to an `Ask`: its number and its caller, and the process that handled it."""

    number: int
    pid: int
    caller: str = ""


@dataclass
class Note:
    """An event of the topic type `work`."""

    number: int
    seconds: float = 0.0


@dataclass(frozen=True)
class TurnRecord:
    """One turn, as its process wrote it down. Times are those of one clock for all processes, in seconds."""

    kind: Literal["call", "event"]
    key: str
    number: int
    pid: int
    begun: float
    ended: float


class Journal:
    """What all processes of a test wrote down about their turns, one file each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)

    def write(self, record: TurnRecord) -> None:
        with (self._directory / str(record.pid)).open("a") as file:
            file.write(json.dumps(asdict(record)) + "\n")

    def records(self) -> list[TurnRecord]:
        # The last line of a process may be half written.
        lines = [line for file in self._directory.iterdir() for line in file.read_text().splitlines(keepends=True)]
        return [TurnRecord(**json.loads(line)) for line in lines if line.endswith("\n")]

    def __len__(self) -> int:
        return sum(file.read_bytes().count(b"\n") for file in self._directory.iterdir())

    async def reaches(self, count: int, timeout_s: float = 30.0) -> None:
        """Wait until so many turns are written down."""
        async with asyncio.timeout(timeout_s):
            while len(self) < count:
                await asyncio.sleep(0.05)

    def numbers(self, kind: str) -> list[int]:
        """Return the numbers of the turns of this kind, sorted, each as often as it was handled."""
        return sorted(record.number for record in self.records() if record.kind == kind)

    def overlaps(self) -> list[tuple[TurnRecord, TurnRecord]]:
        """Return pairs of turns of one key that ran at once in two processes."""
        by_key: defaultdict[str, list[TurnRecord]] = defaultdict(list)
        for record in self.records():
            by_key[record.key].append(record)
        return [pair for records in by_key.values() for pair in _overlaps_of(records)]


def _overlaps_of(records: list[TurnRecord]) -> Iterator[tuple[TurnRecord, TurnRecord]]:
    records.sort(key=lambda record: record.begun)
    for index, earlier in enumerate(records):
        for later in records[index + 1 :]:
            if later.begun >= earlier.ended:
                break
            if later.pid != earlier.pid:
                yield earlier, later


class Worker(RoutedAgent):
    """Does what it is asked, and writes it down."""

    def __init__(self, journal: Journal) -> None:
        super().__init__("worker")
        self._journal = journal

    @message_handler
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Told:
        begun = time.monotonic()
        if message.blocking:
            time.sleep(message.seconds)  # that it blocks is the point
        else:
            await asyncio.sleep(message.seconds)
        self._note("call", message.number, begun)
        return Told(message.number, os.getpid(), message.caller)

    @event
    async def on_note(self, message: Note, ctx: MessageContext) -> None:
        begun = time.monotonic()
        await asyncio.sleep(message.seconds)
        self._note("event", message.number, begun)

    def _note(self, kind: Literal["call", "event"], number: int, begun: float) -> None:
        self._journal.write(TurnRecord(kind, self.id.key, number, os.getpid(), begun, time.monotonic()))


async def serve(runtime: NatsAgentRuntime, journal: Journal) -> None:
    """Register the type `worker` and start."""
    await Worker.register(runtime, TYPE, lambda: Worker(journal))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, TYPE))
    await runtime.start()


class AgentProcess:
    """One process that serves the type `worker`."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, __file__, url, namespace, str(directory)], stdout=subprocess.PIPE, text=True
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    async def ready(self, timeout_s: float = 30.0) -> None:
        """Return once it serves."""
        assert self._popen.stdout is not None
        async with asyncio.timeout(timeout_s):
            line = await asyncio.to_thread(self._popen.stdout.readline)
        assert line == "serving\n", f"the process ended with {self._popen.wait()}"

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    async def ended(self, timeout_s: float = 20.0) -> int:
        """Wait for its end and return its exit code."""
        return await asyncio.to_thread(self._popen.wait, timeout_s)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()
        assert self._popen.stdout is not None
        self._popen.stdout.close()


class AgentProcesses:
    """The processes of one test."""

    def __init__(self, url: str, namespace: str, directory: Path) -> None:
        self._url = url
        self._namespace = namespace
        self._directory = directory
        self._all: list[AgentProcess] = []
        self.journal = Journal(directory)

    async def start(self, count: int = 1, *, url: str | None = None) -> list[AgentProcess]:
        """Start some at once and return them when all of them serve."""
        started = [AgentProcess(url or self._url, self._namespace, self._directory) for _ in range(count)]
        self._all += started
        await asyncio.gather(*(process.ready() for process in started))
        return started

    def kill_all(self) -> None:
        for process in self._all:
            process.kill()


async def _main(url: str, namespace: str, directory: str) -> None:
    runtime = NatsAgentRuntime(url, namespace=namespace)
    await serve(runtime, Journal(Path(directory)))
    print("serving", flush=True)
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
