"""The text that Prometheus reads.

Where `PROMETHEUS_MULTIPROC_DIR` names a directory, each of the processes that share it gives the sum over all of them.
"""

from __future__ import annotations

import os

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector

METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST


def metrics_text(apart: CollectorRegistry | None = None) -> bytes:
    """Return all metrics of this process, or of those that share its directory, and those of a registry apart, which
    has no name twice. May be called from any thread."""
    directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if not directory:
        return generate_latest(REGISTRY) + (b"" if apart is None else generate_latest(apart))
    # There, those of all registries are in the same files.
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
