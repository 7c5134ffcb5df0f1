"""What a process or the broker holds at one moment, as named numbers."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from hivewire.nats.broker import Broker
from hivewire.nats.subjects import Subjects

SAMPLE_EVERY_S: Final = 10.0

_MIB: Final = 1024 * 1024

Sample = Mapping[str, float]
"""A number for each thing that should not grow."""


def sample_own_process(*, other_tasks: int = 0) -> Sample:
    """Look at this process; to be called on its event loop. `other_tasks` are not the runtime's, and don't count."""
    gc.collect()
    return {
        **sample_process(os.getpid()),
        "tasks": len(asyncio.all_tasks()) - other_tasks,
        "threads": threading.active_count(),
        "objects": len(gc.get_objects()),
    }


def sample_process(pid: int) -> Sample:
    """Look at any process of this user from outside."""
    resident_pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "RSS, MiB": resident_pages * os.sysconf("SC_PAGE_SIZE") / _MIB,
        "open files": len(os.listdir(f"/proc/{pid}/fd")),
    }


async def sample_broker(broker: Broker, pid: int, subjects: Subjects) -> Sample:
    """Look at the broker: its process, its event stream, its buckets and who reads them."""
    buckets = {
        "state": subjects.state_bucket,
        "positions": subjects.positions_bucket,
        "leases": subjects.leases_bucket,
        "registry": subjects.registry_bucket,
    }
    sample = {**sample_process(pid)}
    for name, stream in {"events": subjects.events_stream, **_streams_of(buckets)}.items():
        state = (await broker.api(f"STREAM.INFO.{stream}"))["state"]
        sample[f"consumers of {name}"] = int(state["consumer_count"])
        if name == "events":
            sample["messages of events"] = int(state["messages"])
        if name in buckets:
            # A bucket keeps one message a key. One that expired counts as long as its marker.
            sample[f"keys of {name}"] = int(state["messages"])
    return sample


async def count_dead_letters(broker: Broker, subjects: Subjects) -> int:
    return int((await broker.api(f"STREAM.INFO.{subjects.dead_stream}"))["state"]["messages"])


class SampleFile:
    """The samples of one process, a line of JSON each, so that those of a process that ends are there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, sample: Sample) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(sample) + "\n")

    def read(self) -> list[Sample]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


def _streams_of(buckets: Mapping[str, str]) -> dict[str, str]:
    return {name: f"KV_{bucket}" for name, bucket in buckets.items()}
