"""`hivewire demo`: an embedded broker, four processes, real input."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from hivewire.agents.closure import ClosureAgent, ClosureContext
from hivewire.cli.children import Child
from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.demo.agents import COORDINATOR, REPORTER, REVIEWS
from hivewire.cli.demo.display import Display
from hivewire.cli.demo.messages import FileReview, HowFar, Report, Started, StartReview, WaitForReport
from hivewire.cli.demo.progress import REVIEWERS, Progress, measured
from hivewire.cli.demo.sources import Sources, find_sources
from hivewire.cli.errors import CommandError
from hivewire.cli.waiting import first_of
from hivewire.distributed import NatsAgentRuntime
from hivewire.exceptions import HivewireError
from hivewire.model.contexts import MessageContext
from hivewire.model.subscriptions import TypeSubscription
from hivewire.nats.snapshot import take_snapshot

NAMESPACE = "demo"
PROCESSES = {
    "coordinator": "coordinator",
    **dict.fromkeys(REVIEWERS, "reviewer"),
    "reporter": "reporter",
}
"""The label of each process, and the setup function that it runs."""

START_TIMEOUT_S = 60.0
REVIEW_TIMEOUT_S = 300.0
STALL_TIMEOUT_S = 20.0
_STOP_TIMEOUT_S = 5.0
_LOOK_EVERY_S = 0.1
_ASK_EVERY_S = 0.25


def demo(path: Path | None, *, limit: int) -> None:
    """Review the Python files of a folder, and show how.

    Raises:
        UsageError: there is no such path, or no Python file in it.
        CommandError: a process did not start, or ended.
        BrokerUnavailableError: the broker did not start.
    """
    sources = find_sources(path, limit=limit)
    asyncio.run(_demo(sources, Display()))


async def _demo(sources: Sources, display: Display) -> None:
    display.introduce(sources)
    runtime = NatsAgentRuntime("embedded", namespace=NAMESPACE, instance_id="demo")
    await runtime.connect()
    try:
        display.broker_runs(runtime.broker_url, NAMESPACE)
        async with _processes(runtime.broker_url) as children:
            await first_of(_all_serve(runtime.broker_url), _one_ended(children))
            display.processes_run()
            progress = Progress(files=len(sources.files), pids={name: child.pid for name, child in children.items()})
            await first_of(_review(runtime, sources, progress, display), _one_ended(children))
    finally:
        await runtime.stop()


async def _review(runtime: NatsAgentRuntime, sources: Sources, progress: Progress, display: Display) -> None:
    await _observe(runtime, progress)
    await runtime.start()
    with display.live(progress):
        begun = time.perf_counter()
        asked = StartReview(str(sources.folder), list(sources.files))
        started: Started = await runtime.send_message(asked, COORDINATOR, timeout=REVIEW_TIMEOUT_S)
        progress.files = progress.published = started.files
        reports: list[Report] = []

        async def wait_for_report() -> None:
            wanted = WaitForReport(started.files)
            reports.append(await runtime.send_message(wanted, REPORTER, timeout=REVIEW_TIMEOUT_S))

        await first_of(wait_for_report(), _follow(runtime, progress, display))
        seconds = time.perf_counter() - begun
        # What the reporter has, this process gets a moment later.
        await first_of(_all_seen(progress), _no_later_than(STALL_TIMEOUT_S))
        progress.summed_up = reports[0].files
        display.update(progress)
    display.conclude(started, reports[0], measured(progress, seconds), progress)


async def _all_seen(progress: Progress) -> None:
    while progress.reviewed < progress.files:  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_EVERY_S)


async def _no_later_than(seconds: float) -> None:
    await asyncio.sleep(seconds)
    raise CommandError("the reporter has reviews that did not come here")


async def _observe(runtime: NatsAgentRuntime, progress: Progress) -> None:
    """Subscribe to the reviews, as the reporter does."""

    async def observe(agent: ClosureContext, message: FileReview, ctx: MessageContext) -> None:
        progress.add(message)

    await ClosureAgent.register_closure(
        runtime,
        "observer",
        observe,
        subscriptions=lambda: [TypeSubscription(REVIEWS.type, "observer")],
    )


async def _follow(runtime: NatsAgentRuntime, progress: Progress, display: Display) -> None:
    moved_at = time.monotonic()
    while time.monotonic() - moved_at < STALL_TIMEOUT_S:
        before = progress.summed_up
        progress.summed_up = await runtime.send_message(HowFar(), REPORTER)
        if progress.summed_up != before:
            moved_at = time.monotonic()
        display.update(progress)
        await asyncio.sleep(_ASK_EVERY_S)
    raise CommandError(f"no review came for {STALL_TIMEOUT_S:g} s")


@asynccontextmanager
async def _processes(url: str) -> AsyncIterator[dict[str, Child]]:
    children: dict[str, Child] = {}
    try:
        for name, setup in PROCESSES.items():
            arguments = ["run", f"hivewire.cli.demo.agents:{setup}", "--broker", url, "--namespace", NAMESPACE]
            arguments += ["--deployment", setup, "--log-level", "warning", "--log-format", "text"]
            arguments += ["--drain-timeout", "1"]
            # The environment may name a login to another broker.
            arguments += ["--creds", ""]
            children[name] = await Child.start(arguments, environment={"INSTANCE_ID": name}, capture=True)
        yield children
    except (CommandError, HivewireError) as error:
        raise CommandError(f"{error}{_last_words(children)}") from error
    finally:
        await asyncio.gather(*(child.stop(_STOP_TIMEOUT_S) for child in children.values()))


async def _all_serve(url: str) -> None:
    """Return when all processes serve and every shard has an owner."""
    with suppress(TimeoutError):
        async with asyncio.timeout(START_TIMEOUT_S), open_namespace(url, NAMESPACE, name="demo") as namespace:
            # What the broker has can only be asked for.
            while not await _is_settled(namespace):  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_S)
            return
    raise CommandError(f"the processes did not start within {START_TIMEOUT_S:g} s")


async def _is_settled(namespace: Namespace) -> bool:
    snapshot = await take_snapshot(namespace.broker, namespace.subjects, stream_created=namespace.stream_created)
    serving = {session.instance for session in snapshot.sessions if session.types}
    return serving == PROCESSES.keys() and all(snapshot.session(shard.owner) for shard in snapshot.shards)


async def _one_ended(children: dict[str, Child]) -> None:
    """Wait for the end of any process, which is an error."""
    await first_of(*(child.ended() for child in children.values()))
    name, child = next((name, child) for name, child in children.items() if child.exit_code is not None)
    raise CommandError(f"the process {name} ended with exit code {child.exit_code}")


def _last_words(children: dict[str, Child]) -> str:
    """Return the last line of each process that complained."""
    lines = {name: child.output().strip().splitlines() for name, child in children.items()}
    return "".join(f"; {name} says: {said[-1]}" for name, said in lines.items() if said)
