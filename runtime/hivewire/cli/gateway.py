"""`hivewire gateway`: HTTP in front of the agents."""

from __future__ import annotations

import asyncio
import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hivewire.cli.connection import checked_broker, checked_subjects
from hivewire.cli.errors import CommandError
from hivewire.cli.lifeline import follow_parent
from hivewire.cli.signals import stop_signal

if TYPE_CHECKING:
    from hivewire_gateway import Settings

log = logging.getLogger("hivewire.gateway")


def gateway(*, host: str, port: int, broker: str, namespace: str, credentials: str) -> None:
    """Serve HTTP until a signal comes, then drain.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: the extra is not installed, or the address can't be listened on.
        HivewireError: there is no broker.
    """
    if find_spec("uvicorn") is None:
        raise CommandError("`hivewire gateway` needs more packages: pip install 'hivewire[gateway]'")
    from hivewire_gateway import Settings

    follow_parent()
    url = checked_broker(broker)
    checked_subjects(namespace)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("hivewire").setLevel(logging.INFO)
    asyncio.run(_serve(Settings(host=host, port=port), url, namespace, credentials))


async def _serve(settings: Settings, url: str, namespace: str, credentials: str) -> None:
    from hivewire.relay import RelayRuntime
    from hivewire_gateway import GatewayServer

    relay = RelayRuntime(url, namespace=namespace, credentials=credentials or None)
    with stop_signal() as signalled:
        await relay.connect()
        try:
            async with GatewayServer(relay, settings) as server:
                log.info("the gateway listens at %s", server.url)
                await signalled.wait()
        except OSError as error:
            raise CommandError(
                f"the gateway can't listen at {settings.host} port {settings.port} ({error.strerror or error}): choose "
                "another --host or --port"
            ) from error
        finally:
            await relay.stop()
