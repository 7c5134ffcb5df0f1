"""One soak from its start to its numbers: a broker, a load, a worker that stays, and others that come and go."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Final

from hivewire import AgentId, NatsAgentRuntime
from hivewire.nats.broker import Broker
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.subjects import Subjects
from soak.agents import NAMESPACE, TYPE, Counted, ReadCounted
from soak.fleet import Churn, Worker, running_worker
from soak.load import KEYS, Accepted, Load
from soak.report import Outcome
from soak.samples import SAMPLE_EVERY_S, Sample, SampleFile, count_dead_letters, sample_broker, sample_own_process
from soak.verdict import compare, miscounts

PATIENCE_S: Final = 60.0
"""How long after the load what was accepted may take to be handled: more than the session of a killed worker lives."""

_POLL_S = 0.5
_SUBJECTS: Final = Subjects(NAMESPACE)


async def soak(seconds: float, *, tell: Callable[[str], object] = print) -> Outcome:
    """Run for so many seconds and say what came of it.

    Raises:
        ExceptionGroup: a worker failed, or the broker did not take an event.
        ValueError: the run was too short to say anything.
    """
    begun = monotonic()
    broker_samples: list[Sample] = []
    own_samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="hivewire-soak-") as directory:
        file = SampleFile(Path(directory) / "survivor.jsonl")
        async with (
            EmbeddedServer() as server,
            running_worker(server.url, file.path) as survivor,
            NatsAgentRuntime(server.url, namespace=NAMESPACE) as driver,
        ):
            broker, churn, load = Broker(server.url, name="soak"), Churn(server.url), Load(driver)
            await broker.open()
            try:
                ends = monotonic() + seconds
                async with asyncio.TaskGroup() as tasks:
                    churning = tasks.create_task(churn.run())
                    sending = tasks.create_task(load.run(lambda: monotonic() < ends))
                    while monotonic() < ends:
                        survivor.check()
                        own_samples.append(sample_own_process(other_tasks=load.under_way))
                        broker_samples.append(await sample_broker(broker, server.pid, _SUBJECTS))
                        tell(_progress(ends - monotonic(), churn, load.accepted))
                        await asyncio.sleep(min(SAMPLE_EVERY_S, max(0.0, ends - monotonic())))
                    await sending
                    churning.cancel()
                survivor_samples = file.read()
                tell("waiting for what is under way")
                wrong = await _miscounts(server.url, survivor, driver, broker, load.accepted)
            finally:
                await broker.close()
    comparisons = [
        *compare("worker", survivor_samples, sampled_s=seconds),
        *compare("driver", own_samples, sampled_s=seconds),
        *compare("broker", broker_samples, sampled_s=seconds),
    ]
    return Outcome(
        comparisons=comparisons,
        miscounts=wrong,
        accepted=load.accepted,
        churn=churn,
        took_s=monotonic() - begun,
    )


async def _miscounts(
    url: str, survivor: Worker, driver: NatsAgentRuntime, broker: Broker, accepted: Accepted
) -> list[str]:
    """Let everything come to rest, and compare what is stored, as a fresh worker loads it, with what was accepted."""
    async with running_worker(url):
        await survivor.leave(signal.SIGTERM)
        deadline = monotonic() + PATIENCE_S
        while True:
            counted = {key: await _read(driver, key) for key in KEYS}
            wrong = miscounts(accepted, counted, dead_letters=await count_dead_letters(broker, _SUBJECTS))
            if not wrong or monotonic() > deadline:
                return wrong
            await asyncio.sleep(_POLL_S)


async def _read(driver: NatsAgentRuntime, key: str) -> Counted:
    counted: Counted = await driver.send_message(ReadCounted(), AgentId(TYPE, key), timeout=PATIENCE_S)
    return counted


def _progress(left_s: float, churn: Churn, accepted: Accepted) -> str:
    return (
        f"{left_s / 60:.1f} minutes to go: {churn.joins} joins, {churn.drains} drains, {churn.kills} kills, "
        f"{accepted.events.total()} events, {accepted.answered.total()} calls"
    )
