"""One contract, three runtimes: every test here runs in one process, over NATS, and through a gateway.

A test that marks itself `only_local`, `only_nats` or `only_network` is about a point where they are meant to differ.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import nats
import pytest
from nats.js.errors import NotFoundError

from contract.gateways import GatewayedRuntime, Gateways
from contract.support import DEADLINE_S, MakeRuntime, Runtime, Settle
from hivewire import NatsAgentRuntime, SingleThreadedAgentRuntime
from hivewire.nats.subjects import Subjects
from hivewire.nats.topology import plan


@pytest.fixture(params=["local", "nats", "http"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which runtime the test runs on."""
    return str(request.param)


@pytest.fixture
def broker_url(kind: str, request: pytest.FixtureRequest) -> str:
    """The address of the shared server, which is only started for tests that need one."""
    return "" if kind == "local" else str(request.getfixturevalue("nats_url"))


@pytest.fixture
async def make_runtime(kind: str, broker_url: str) -> AsyncIterator[MakeRuntime]:
    """Return a function that makes a runtime, not started yet, in a namespace of its own unless told another one.

    The option `copies=True` makes the local runtime pass copies, as the other one always does.
    """
    runtimes: list[Runtime] = []
    namespaces: set[str] = set()
    gateways = Gateways(broker_url)

    def make(*, copies: bool = False, namespace: str | None = None, **options: Any) -> Runtime:
        runtime: Runtime
        if kind == "local":
            runtime = SingleThreadedAgentRuntime(serialize_messages=copies, **options)
        else:
            namespace = namespace or f"c{secrets.token_hex(6)}"
            namespaces.add(namespace)
            options = {"drain_timeout": 2.0, **options}
            if kind == "nats":
                runtime = NatsAgentRuntime(broker_url, namespace=namespace, **options)
            else:
                runtime = GatewayedRuntime(gateways, namespace, **options)
        runtimes.append(runtime)
        return runtime

    yield make
    async with asyncio.timeout(DEADLINE_S):
        for runtime in reversed(runtimes):
            await runtime.close()
        await gateways.stop()
    await _forget(broker_url, namespaces)


@pytest.fixture
async def runtime(make_runtime: MakeRuntime) -> Runtime:
    """A runtime that is started."""
    runtime = make_runtime()
    await runtime.start()
    return runtime


@pytest.fixture
async def copying_runtime(make_runtime: MakeRuntime) -> Runtime:
    """A runtime that is started and sends every message through its serializer."""
    runtime = make_runtime(copies=True)
    await runtime.start()
    return runtime


@pytest.fixture
def settle() -> Settle:
    """Return a function that waits until everything that was published so far is handled."""

    async def wait(runtime: Runtime) -> None:
        async with asyncio.timeout(DEADLINE_S):
            if not isinstance(runtime, SingleThreadedAgentRuntime):
                # To stop and start it again would hide what goes wrong while it runs.
                while not await runtime._is_idle():
                    await asyncio.sleep(0.005)
            else:
                await runtime.stop_when_idle()
                await runtime.start()

    return wait


async def _forget(broker_url: str, namespaces: set[str]) -> None:
    """Delete what the namespaces left on the server."""
    if not namespaces:
        return
    client = await nats.connect(broker_url)
    # By their names: the server's list of all streams has pages, and holds those of other tests too.
    for name in [name for namespace in namespaces for name in plan(Subjects(namespace)).streams]:
        with suppress(NotFoundError):
            await client.jetstream().delete_stream(name)
    await client.close()
