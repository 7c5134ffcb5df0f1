"""Each component tried at what it must not do, and at what comes next to it, on a server that enforces its rights."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.rights.conftest import SHARDED, STATELESS, OperatorMode
from hivewire.nats.client import BrokerClient
from hivewire.provisioning import (
    Permissions,
    Subjects,
    admin_permissions,
    gateway_permissions,
    operator_permissions,
    worker_permissions,
)
from refusals import Refusals

PROBED = Refusals(namespace="probed", deployment="shop", served="cart", other="bank", stateless="crunch")
NS = Subjects(PROBED.namespace)
WORKER = worker_permissions(NS, deployment="shop", types={"cart": SHARDED, "mail": STATELESS}, stateless=["crunch"])
GATEWAY = gateway_permissions(NS, stateless=["crunch"])
GATEWAY_WITH_WORKERS = gateway_permissions(
    NS, types={"cart": SHARDED}, worker_deployments=["web"], stateless=["crunch"]
)
OPERATOR = operator_permissions(NS)
COMPONENTS = {
    "worker": WORKER,
    "gateway": GATEWAY,
    "gateway with workers": GATEWAY_WITH_WORKERS,
    "operator": OPERATOR,
    "administrator": admin_permissions(NS, stateless=["crunch"]),
}


class Prober:
    """A raw client with a component's rights, that tells what the server refuses it."""

    def __init__(self) -> None:
        self.client = BrokerClient()
        self._refused: list[str] = []

    async def publish(self, subject: str) -> bool:
        """Return whether it may publish there."""
        self._refused.clear()
        await self.client.publish(subject, b"{}")
        await self.client.flush(5)
        return not self._refused

    async def subscribe(self, subject: str, queue: str = "") -> bool:
        """Return whether it may subscribe there."""
        self._refused.clear()
        subscription = await self.client.subscribe(subject, queue)
        await self.client.flush(5)
        refused = bool(self._refused)
        if not refused:
            await subscription.unsubscribe()
        return not refused

    async def note(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self._refused.append(str(error))


@asynccontextmanager
async def prober(server: OperatorMode, permissions: Permissions) -> AsyncIterator[Prober]:
    prober = Prober()
    credentials = server.credentials(permissions, name="probed")
    await prober.client.connect(
        server.url,
        user_credentials=credentials,
        error_cb=prober.note,
        inbox_prefix=f"{permissions.inbox_prefix}.probe".encode(),
        allow_reconnect=False,
    )
    try:
        yield prober
    finally:
        await prober.client.close()


@pytest.mark.parametrize("component", COMPONENTS)
async def test_what_a_component_may_not_publish_to(operator_mode: OperatorMode, component: str) -> None:
    async with prober(operator_mode, COMPONENTS[component]) as probing:
        assert [each for each in PROBED.publishes(component) if await probing.publish(each)] == []


@pytest.mark.parametrize("component", ["worker", "gateway", "operator"])
async def test_what_a_component_may_not_listen_to(operator_mode: OperatorMode, component: str) -> None:
    async with prober(operator_mode, COMPONENTS[component]) as probing:
        assert [each for each in PROBED.subscriptions(component) if await probing.subscribe(*each)] == []


@pytest.mark.parametrize("permissions", COMPONENTS.values(), ids=list(COMPONENTS))
async def test_every_right_is_given(operator_mode: OperatorMode, permissions: Permissions) -> None:
    async with prober(operator_mode, permissions) as probing:
        allowed = [
            each.replace("*", "x").replace(">", "x") for each in permissions.publish if not each.startswith("$JS")
        ]
        assert [subject for subject in allowed if not await probing.publish(subject)] == []
        listened = [tuple(each.split(" ")) for each in permissions.subscribe]
        assert [each for each in listened if not await probing.subscribe(*each)] == []
