"""The port at which a worker tells how it is."""

from __future__ import annotations

from collections.abc import Callable

from hivewire.cli.errors import CommandError
from hivewire.health import HealthServer, Readiness, metrics_page


def health_server(
    host: str,
    port: int,
    *,
    readiness: Callable[[], Readiness],
    liveness: Callable[[], Readiness] = lambda: Readiness(True),
) -> HealthServer:
    """Return what serves `/healthz`, `/readyz` and `/metrics` there.

    Raises:
        CommandError: the address can't be listened on.
    """
    try:
        return HealthServer(host, port, readiness=readiness, liveness=liveness, pages={"/metrics": metrics_page})
    except OSError as error:
        raise CommandError(
            f"the health can't be served at {host} port {port} ({error.strerror or error}): choose another "
            "--health-port or --health-host"
        ) from error
