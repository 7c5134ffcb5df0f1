"""The text that Prometheus reads.

Where `PROMETHEUS_MULTIPROC_DIR` names a directory, each of the processes that share it gives the sum over all of them.
"""

from __future__ import annotations

import os
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST


def metrics_text(apart: CollectorRegistry | None = None) -> bytes:
    """Return all metrics of this process, or of those that share its directory, and those of a registry apart, which
    has no name twice. May be called from any thread."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return generate_latest(REGISTRY) + (b"" if apart is None else generate_latest(apart))
    _forget_the_dead(directory)
    # There, those of all registries are in the same files.
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_process(pid: int) -> None:
    """Take the gauges of a process that shares the directory out of the sum: it has ended, or begins. Its counters
    stay."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if directory:
        mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


def _forget_the_dead(directory: str) -> None:
    for file in Path(directory).glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdecimal() and not _is_running(int(pid)):
            mark_process_dead(pid, directory)  # type: ignore[no-untyped-call]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
