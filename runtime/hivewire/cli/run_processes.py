"""`hivewire run --processes`: several processes of one pod, each a runtime of its own, with one health port.

This process loads none of the user's code and has no connection. It starts the others, which are the same command with
one process each, tells how they are, and gives the sum of what they count.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from hivewire.cli.connection import checked_subjects, checked_worker_broker
from hivewire.cli.errors import CommandError, UsageError
from hivewire.cli.health_port import health_server
from hivewire.cli.lifeline import follow_parent
from hivewire.cli.loading import Target
from hivewire.cli.log_setup import LogSetup
from hivewire.cli.signals import stop_signal
from hivewire.cli.waiting import first_of
from hivewire.cli.worker_processes import WorkerProcesses
from hivewire.health import HealthServer

log = logging.getLogger("hivewire.run")

_SHARED = "PROMETHEUS_MULTIPROC_DIR"


def run_processes(
    target: str,
    *,
    processes: int,
    broker: str,
    namespace: str,
    deployment: str,
    instance_id: str,
    drain_timeout: float,
    log_level: str,
    log_format: str,
    credentials: str,
    health: tuple[str, int] | None,
) -> None:
    """Serve the agents that a setup function registers, in so many processes; return after a drain.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: a process ended before it took messages, the port for the health is taken, or there is no place
            for the metrics.
    """
    follow_parent()
    Target.parse(target)
    if checked_worker_broker(broker) == "embedded":
        raise UsageError("--processes needs a broker that all of them reach: an embedded one ends with its process")
    log_setup = LogSetup.of(level=log_level, form=log_format)
    # In the environment, where no list of processes shows it.
    shared = {
        "BROKER_URL": broker,
        "HIVEWIRE_NAMESPACE": checked_subjects(namespace).namespace,
        "HIVEWIRE_DEPLOYMENT": deployment,
        "HIVEWIRE_LOG_LEVEL": log_level,
        "HIVEWIRE_LOG_FORMAT": log_format,
        "NATS_CREDS": credentials,
        "HIVEWIRE_HEALTH_PORT": "",
        "HIVEWIRE_PROCESSES": "1",
    }
    name = instance_id or socket.gethostname()
    workers = WorkerProcesses(
        ["run", target, "--drain-timeout", str(drain_timeout)],
        [{**shared, "INSTANCE_ID": f"{name}-{number}"} for number in range(1, processes + 1)],
        drain_timeout=drain_timeout,
    )
    log_setup.begin()
    log_setup.show_all()
    with (
        _place_for_metrics(),
        nullcontext()
        if health is None
        else health_server(*health, readiness=workers.readiness, liveness=workers.liveness) as server,
    ):
        asyncio.run(_serve(workers, server))


async def _serve(workers: WorkerProcesses, health: HealthServer | None) -> None:
    with stop_signal() as signalled:
        if health is None:
            await workers.run(signalled)
            return
        log.info("/healthz, /readyz and /metrics are served on port %d", health.port)
        await first_of(workers.run(signalled), health.beat_on())


@contextmanager
def _place_for_metrics() -> Iterator[None]:
    """Have the processes share a directory, in which nothing is left of earlier ones."""
    given = os.environ.get(_SHARED)
    if given:
        _empty(Path(given))
        yield
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="hivewire-metrics-")
    except OSError as error:
        raise _no_place(error) from error
    with made as directory:
        os.environ[_SHARED] = directory
        try:
            yield
        finally:
            del os.environ[_SHARED]


def _empty(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for file in directory.glob("*.db"):
            file.unlink()
    except OSError as error:
        raise _no_place(error) from error


def _no_place(error: OSError) -> CommandError:
    return CommandError(
        f"the processes need a directory for their metrics ({error}): let {_SHARED} name one that can be written"
    )
