"""`hivewire gateway`: HTTP in front of the agents."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from hivewire.cli.connection import checked_broker, checked_subjects
from hivewire.cli.errors import CommandError, UsageError
from hivewire.cli.exporting import export_spans
from hivewire.cli.lifeline import follow_parent
from hivewire.cli.log_setup import LogSetup
from hivewire.cli.signals import stop_signal
from hivewire.cli.waiting import first_of

if TYPE_CHECKING:
    from hivewire.relay import RelayRuntime
    from hivewire_gateway import Settings

log = logging.getLogger("hivewire.gateway")


def gateway(
    *,
    config: Path | None,
    typed: Mapping[str, object],
    broker: str,
    namespace: str,
    credentials: str,
    log_level: str,
    log_format: str,
) -> None:
    """Serve HTTP until a signal comes, then drain.

    Args:
        config: A TOML file.
        typed: What was typed, by the keys of the file; None was not.

    Raises:
        UsageError: something that was typed, or is in the file, is malformed or makes no sense together.
        CommandError: the extra is not installed, or an address can't be listened on.
        HivewireError: there is no broker.
    """
    _check_installed()
    from hivewire.relay import RelayRuntime
    from hivewire_gateway import ConfigurationError, load_settings

    follow_parent()
    url = checked_broker(broker)
    checked_subjects(namespace)
    log_setup = LogSetup.of(level=log_level, form=log_format)
    try:
        settings = load_settings(config, {key: value for key, value in typed.items() if value is not None})
        log_setup.begin()
        relay = RelayRuntime(url, namespace=namespace, credentials=credentials or None)
        stop_exporting = export_spans(service="hivewire-gateway", instance=relay.instance_id)
        try:
            asyncio.run(_serve(settings, relay, log_setup))
        finally:
            stop_exporting()
    except ConfigurationError as error:
        raise UsageError(str(error)) from None


def token(name: str, *, add_to: Path | None) -> None:
    """Print a fresh token for a principal, and the line that lets it in, unless a file gets that.

    Raises:
        UsageError: the name can't be a principal's.
        CommandError: the extra is not installed, or the file can't be written.
    """
    _check_installed()
    from hivewire_gateway import new_token, token_line

    secret = new_token()
    try:
        line = token_line(name, secret)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if add_to is None:
        print(secret)
        print(line)
        return
    try:
        _append(add_to, line)
    except OSError as error:
        raise CommandError(f"can't write {add_to}: {error.strerror or error}") from None
    print(secret)


def _append(file: Path, line: str) -> None:
    """Add a line to a file that only its owner can read if it is new, also where the last line has no end."""
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(descriptor, "r+b") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size:
            stream.seek(size - 1)
        separator = b"\n" if size and stream.read(1) != b"\n" else b""
        stream.write(separator + line.encode() + b"\n")


def _check_installed() -> None:
    if find_spec("uvicorn") is None:
        raise CommandError("`hivewire gateway` needs more packages: pip install 'hivewire[gateway]'")


async def _serve(settings: Settings, relay: RelayRuntime, log_setup: LogSetup) -> None:
    from hivewire_gateway import GatewayServer

    gateway_server = GatewayServer(relay, settings)
    with stop_signal() as signalled:
        try:
            await first_of(relay.connect(), signalled.wait())
            if signalled.is_set():
                return
            log_setup.show_all()
            async with gateway_server as server:
                log.info("the gateway listens at %s; health and metrics are at %s", server.url, server.health_url)
                await first_of(server.wait_until_stopped(), signalled.wait())
                log.info("the gateway drains")
        except OSError as error:
            raise CommandError(str(error)) from error
        finally:
            await relay.stop()
