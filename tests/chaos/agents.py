"""The agents of the chaos runs, and the process that serves them.

An agent of the type `ledger` remembers in its persisted state every message that it handled, so that the state itself
tells at the end what was lost and what was done twice. Each process also writes a journal, one line for a handler that
ran to its end: it tells when there was progress, not what was committed.

Run as a script this file is a worker process: `agents.py URLS NAMESPACE DIRECTORY NAME`. It prints ``serving`` once it
serves, drains on SIGTERM, and ends with the process that started it.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hivewire import MessageContext, NatsAgentRuntime, RetryPolicy, RoutedAgent, TypeSubscription, event, rpc
from hivewire.logging import EVENT_LOGGER_NAME
from hivewire.nats import session
from hivewire.nats.buckets import Bucket, BucketView
from hivewire.nats.buckets import Entry as BucketEntry

TYPE = "ledger"
TOPIC_TYPE = "chaos"
HOOK_VARIABLE = "HIVEWIRE_CHAOS_HOOK"
"""``before:state:N:SIGKILL`` or ``after:positions:N:SIGSTOP``, say: the process sends itself the signal at every Nth
write into that bucket, just before it, or when it is stored and nobody has been told. So a turn dies between handling
and acknowledging; and after SIGCONT a paused process goes on as if nothing had been. ``slow:positions:S`` lets every
write into that bucket begin S seconds late."""

LATE_VARIABLE = "HIVEWIRE_CHAOS_LATE"
"""After how many seconds the process learns of sessions that begin after its own. Of those that end it learns at
once."""

CLOCK_VARIABLE = "HIVEWIRE_CHAOS_CLOCK"
"""By how many seconds the clock of the session jumps at each SIGUSR1."""

EXIT_CODE = 7
"""The exit code of a process that a message killed."""

_PR_SET_PDEATHSIG = 1


class DoomedError(Exception):
    """What a message that is meant to fail fails with."""


@dataclass
class Entry:
    """An event for one ledger, and what its handler does before it enters it."""

    id: str
    sleep_s: float = 0.0
    block_s: float = 0.0
    fails: bool = False
    exits: bool = False


@dataclass
class Ask:
    """The same as a call; it is answered by `Place`."""

    id: str
    sleep_s: float = 0.0
    block_s: float = 0.0
    fails: bool = False
    exits: bool = False


@dataclass
class Place:
    """Where in the ledger a call was entered, from 1."""

    place: int


@dataclass
class Read:
    """Asks for the whole ledger, and enters nothing."""


@dataclass
class Pages:
    """A whole ledger."""

    counter: int
    ids: list[str]


class Journal:
    """The lines of this process, written so that a kill loses none that came before it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, key: str, id: str) -> None:
        os.write(self._fd, f"{time.monotonic():.6f} {key} {id}\n".encode())


class LedgerAgent(RoutedAgent):
    """Remembers what it handled, as a list and as a count that must agree with it."""

    retry_policy = RetryPolicy(attempts=4, first_delay_s=0.2, max_delay_s=1.0)

    def __init__(self, journal: Journal) -> None:
        super().__init__("ledger")
        self._journal = journal
        self._counter = 0
        self._ids: list[str] = []

    @event
    async def on_entry(self, message: Entry, ctx: MessageContext) -> None:
        await self._enter(message)

    @rpc
    async def on_ask(self, message: Ask, ctx: MessageContext) -> Place:
        await self._enter(message)
        return Place(self._counter)

    @rpc
    async def on_read(self, message: Read, ctx: MessageContext) -> Pages:
        return Pages(self._counter, self._ids)

    async def save_state(self) -> Mapping[str, Any]:
        return {"counter": self._counter, "ids": list(self._ids)}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self._counter, self._ids = state["counter"], list(state["ids"])

    async def _enter(self, message: Entry | Ask) -> None:
        # Read before and written after the wait: two turns at once would lose one of the two.
        counter = self._counter
        await asyncio.sleep(message.sleep_s)
        if message.block_s:
            time.sleep(message.block_s)  # that it blocks the loop is the point
        if message.exits:
            os._exit(EXIT_CODE)
        if message.fails:
            raise DoomedError(message.id)
        self._counter = counter + 1
        self._ids.append(message.id)
        self._journal.write(self.id.key, message.id)


async def serve(runtime: NatsAgentRuntime, journal: Journal) -> None:
    """Register the type `ledger` and start."""
    await LedgerAgent.register(runtime, TYPE, lambda: LedgerAgent(journal))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, TYPE))
    await runtime.start()


def hook_writes(order: str) -> None:
    """Make this process signal itself at writes into a bucket, or slow them down, as `HOOK_VARIABLE` says."""
    when, bucket, number, *rest = order.split(":")
    if when not in ("before", "after", "slow"):
        raise ValueError(f"{HOOK_VARIABLE}={order!r}: neither before nor after nor slow")
    end = [signal.Signals[name] for name in rest]
    numbers = count(1)
    put: Callable[..., Any] = Bucket.put

    async def hooked_put(self: Bucket, *arguments: Any, **options: Any) -> int:
        is_meant = self.name.endswith(f"_{bucket}")
        if is_meant and when == "slow":
            await asyncio.sleep(float(number))
        hit = is_meant and when != "slow" and next(numbers) % int(number) == 0
        if hit and when == "before":
            os.kill(os.getpid(), *end)
        revision: int = await put(self, *arguments, **options)
        if hit and when == "after":
            os.kill(os.getpid(), *end)
        return revision

    Bucket.put = hooked_put  # type: ignore[method-assign]


def hook_sessions(late_s: float) -> None:
    """Let this process learn late of sessions that begin."""
    apply, coming = BucketView._apply, dict[str, BucketEntry]()

    def late_apply(self: BucketView, key: str, entry: BucketEntry) -> None:
        is_new = self.ready.is_set() and key not in self.entries and entry.value is not None
        if not is_new or not self._prefix.endswith("_leases."):
            coming.pop(key, None)
            apply(self, key, entry)
            return
        if key not in coming:
            asyncio.get_running_loop().call_later(late_s, arrive, self, key)
        coming[key] = entry

    def arrive(view: BucketView, key: str) -> None:
        if key in coming:
            apply(view, key, coming.pop(key))

    BucketView._apply = late_apply  # type: ignore[method-assign]


def hook_clock(jump_s: float) -> None:
    """Let the clock by which the session is kept jump at each SIGUSR1."""
    off_s = 0.0

    def jump(*_: object) -> None:
        nonlocal off_s
        off_s += jump_s

    signal.signal(signal.SIGUSR1, jump)
    jumpy = {**vars(time), "monotonic": lambda: time.monotonic() + off_s}
    session.time = SimpleNamespace(**jumpy)  # type: ignore[attr-defined]


def end_with_parent(parent: int) -> None:
    """See to it that a test run that is killed leaves no worker behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


async def _main(urls: str, namespace: str, directory: str, name: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(name)s %(message)s", datefmt="%H:%M:%S")
    # Two lines for each message would cost more than handling it.
    logging.getLogger(EVENT_LOGGER_NAME).setLevel(logging.WARNING)
    logging.getLogger("hivewire.shards").setLevel(logging.DEBUG)
    if order := os.environ.get(HOOK_VARIABLE):
        hook_writes(order)
    if late_s := os.environ.get(LATE_VARIABLE):
        hook_sessions(float(late_s))
    if jump_s := os.environ.get(CLOCK_VARIABLE):
        hook_clock(float(jump_s))
    runtime = NatsAgentRuntime(urls, namespace=namespace, instance_id=name)
    await serve(runtime, Journal(Path(directory) / f"{name}.journal"))
    print("serving", flush=True)
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    end_with_parent(int(os.environ["HIVEWIRE_CHAOS_PARENT"]))
    asyncio.run(_main(*sys.argv[1:]))
