"""`hivewire operator`: keeps what agents need in Kubernetes and on NATS."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hivewire.cli.connection import checked_broker
from hivewire.cli.errors import CommandError, UsageError
from hivewire.cli.health_port import health_server
from hivewire.cli.log_setup import LogSetup
from hivewire.cli.signals import stop_signal
from hivewire.cli.waiting import first_of
from hivewire.health import HealthServer

if TYPE_CHECKING:
    from hivewire_operator import OperatorProcess, OperatorSettings

log = logging.getLogger("hivewire.operator")

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def operator(
    *,
    namespaces: list[str],
    own_namespace: str,
    identity: str,
    lease: str,
    image: str,
    monitor_labels: list[str],
    first_system: Path | None,
    health_host: str,
    health_port: int,
    log_level: str,
    log_format: str,
) -> None:
    """Work until a signal comes.

    Args:
        namespaces: Kubernetes namespaces, or `*` alone: all. None: its own.
        monitor_labels: Each as NAME=VALUE.

    Raises:
        UsageError: something that was typed makes no sense.
        CommandError: the extra is not installed, there is no Kubernetes, or another operator leads since.
    """
    check_installed()
    from hivewire_operator import OperatorProcess, OperatorSettings

    if "*" in namespaces and len(namespaces) > 1:
        raise UsageError("--namespace '*' stands for all namespaces: give it alone")
    settings = OperatorSettings(
        own_namespace=own_namespace,
        identity=identity,
        lease=lease,
        namespaces=None if namespaces == ["*"] else tuple(namespaces or [own_namespace]),
        image=image,
        monitor_labels=_labels(monitor_labels),
        first_system=first_system,
    )
    logs = LogSetup.of(level=log_level, form=log_format)
    logs.begin()
    logs.show_all()
    process = OperatorProcess(settings)
    with health_server(health_host, health_port, readiness=process.readiness) as health:
        asyncio.run(_run(process, settings, health))


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise UsageError(f"--monitor-label {each!r} is no label: give it as NAME=VALUE")
        labels[name] = value
    return labels


def bootstrap(*, namespaces: str, login: str, own_namespace: str, broker: str) -> None:
    """Make the keys of a NATS that belongs to Hivewire alone, where there are none yet, and say what was made.

    Raises:
        UsageError: a name or the address is none.
        CommandError: the extra is not installed, there is no Kubernetes or it refuses, or there are keys that are not
            from here.
    """
    check_installed()
    allowed = [each.strip() for each in namespaces.split(",")]
    for name in (own_namespace, login, *(each for each in allowed if each != "*")):
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is not a name in Kubernetes: small letters, digits and hyphens, at most 63")
    url = checked_broker(broker)
    asyncio.run(_bootstrap(",".join(allowed), login, own_namespace, url))


def check_installed() -> None:
    """See to it that what it takes is there.

    Raises:
        CommandError: it is not.
    """
    if find_spec("kopf") is None:
        raise CommandError("`hivewire operator` needs more packages: pip install 'hivewire[operator]'")


async def _run(process: OperatorProcess, settings: OperatorSettings, health: HealthServer) -> None:
    from hivewire_operator import OperatorEndedError

    with stop_signal() as signalled:
        try:
            log.info("the operator of %s begins", ", ".join(settings.namespaces or ["all namespaces"]))
            await first_of(process.run(), health.beat_on(), signalled.wait())
        except OperatorEndedError as error:
            raise CommandError(str(error)) from error


async def _bootstrap(namespaces: str, login: str, own_namespace: str, url: str) -> None:
    from hivewire_operator.bootstrap import BootstrapError, bootstrap
    from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster

    try:
        async with await Cluster.connect() as cluster:
            done = await bootstrap(
                cluster, namespace=own_namespace, login=login, allowed=namespaces, url=url, now=time.time()
            )
    except (ApiError, ApiUnavailableError, BootstrapError) as error:
        raise CommandError(str(error)) from None
    print(f"keys: {'made' if done.keys else 'kept'}; server configuration: {'made' if done.files else 'kept'}")
