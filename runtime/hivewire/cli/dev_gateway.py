"""The gateway of `hivewire dev`: HTTP in front of the agents, for as long as the command runs.

It lives in the process of the broker, so it outlives reloads of the agents.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec

from hivewire.cli.errors import CommandError

USUAL_PORT = 8080


def is_installed() -> bool:
    """Tell whether the extra with the gateway is there."""
    return find_spec("uvicorn") is not None


@asynccontextmanager
async def serving_http(broker_url: str, namespace: str, *, port: int | None, drain_s: float) -> AsyncIterator[str]:
    """Serve HTTP on a loopback port and give its address.

    Args:
        port: None is the usual one, or a free one where that is taken.

    Raises:
        CommandError: the port is taken.
    """
    from hivewire.relay import RelayRuntime
    from hivewire_gateway import GatewayServer, Settings

    settings = Settings(port=USUAL_PORT if port is None else port, metrics_port=0, drain_timeout_s=drain_s)
    async with AsyncExitStack() as stack:
        relay = RelayRuntime(broker_url, namespace=namespace, drain_timeout=drain_s)
        stack.push_async_callback(relay.stop)
        await relay.connect()
        try:
            server = await stack.enter_async_context(GatewayServer(relay, settings))
        except OSError as error:
            if port is not None:
                raise CommandError(str(error).replace("--port", "--gateway-port")) from error
            free = settings.model_copy(update={"port": 0})
            server = await stack.enter_async_context(GatewayServer(relay, free))
        yield server.url
