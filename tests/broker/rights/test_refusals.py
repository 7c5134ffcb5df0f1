"""Each component tried at what it must not do, and at what comes next to it, on a server that enforces its rights."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from broker.rights.conftest import SHARDED, STATELESS, OperatorMode
from hivewire.nats.client import BrokerClient
from hivewire.provisioning import (
    Permissions,
    Subjects,
    gateway_permissions,
    operator_permissions,
    worker_permissions,
)

NS = Subjects("probed")
E, S, C, D = NS.events_stream, NS.schedules_stream, NS.chunks_stream, NS.dead_stream
WORKER = worker_permissions(NS, deployment="shop", types={"cart": SHARDED, "mail": STATELESS}, stateless=["crunch"])
GATEWAY = gateway_permissions(NS, stateless=["crunch"])
GATEWAY_WITH_WORKERS = gateway_permissions(
    NS, types={"cart": SHARDED}, worker_deployments=["web"], stateless=["crunch"]
)
OPERATOR = operator_permissions(NS)

STREAMS = (E, S, C, D, *(f"KV_probed_{each}" for each in ("state", "registry", "leases", "positions")))
OTHERS = (
    "$SYS.REQ.SERVER.PING",
    "$JS.API.STREAM.NAMES",
    "$JS.API.STREAM.LIST",
    "$JS.API.ACCOUNT.PURGE.A",
    "other.rpc.a",
)


def refused_of_workers() -> list[str]:
    """What nobody but the operator may publish to."""
    api = [f"$JS.API.STREAM.{what}.{each}" for what in ("CREATE", "UPDATE", "DELETE", "MSG.DELETE") for each in STREAMS]
    api += [f"$JS.API.STREAM.PURGE.{each}" for each in STREAMS if each != S]
    api += [f"$JS.API.STREAM.{what}.OTHER" for what in ("INFO", "MSG.GET")]
    api += ["$JS.API.STREAM.INFO.KV_probed_state", f"$JS.API.STREAM.MSG.GET.{D}"]
    api += ["$JS.API.STREAM.CREATE.KV_probed_KV_mine", f"$JS.API.STREAM.SNAPSHOT.{E}"]
    consumers = [f"$JS.API.CONSUMER.DURABLE.CREATE.{E}.mine", f"$JS.API.CONSUMER.PAUSE.{E}.mine"]
    consumers += [f"$JS.API.CONSUMER.{what}.{E}.crunch" for what in ("CREATE", "MSG.NEXT", "DELETE", "RESET")]
    consumers += [f"$JS.API.CONSUMER.CREATE.{E}.mine.probed.events.>", f"$JS.API.CONSUMER.LIST.{E}"]
    consumers += [f"$JS.API.CONSUMER.CREATE.{each}.mine" for each in (S, D, "KV_probed_state", "KV_probed_positions")]
    consumers += [f"$JS.API.CONSUMER.DELETE.{S}.forward", f"$JS.API.CONSUMER.CREATE.{S}.forward"]
    consumers += [f"$JS.ACK.{E}.crunch.1.1.1.1.1", f"$JS.ACK.hub.AB.{E}.crunch.1.1.1.1.1.x"]
    api += ["$JS.API.STREAM.MSG.GET.KV_probed_state", "$JS.API.DIRECT.GET.KV_probed_state"]
    api += [f"$JS.API.DIRECT.GET.KV_probed_state.$KV.probed_state.{each}" for each in ("bank.k", ">", "*.k")]
    records = ["$KV.probed_state.bank.k", "$KV.probed_positions.bank.0", "$KV.probed_registry.bank.type"]
    records += ["$KV.probed_registry.bank.messages", "$KV.probed_leases.bank.s1", "$KV.probed_state.cart.k.more"]
    messages = ["probed.marker.bank", "probed.dead.bank.k.1", "probed.events.1.193.k1.t", "probed.due.x"]
    return [*api, *consumers, *records, *messages, *OTHERS]


REFUSED_PUBLISHES = {
    "worker": (WORKER, refused_of_workers()),
    "gateway": (
        GATEWAY,
        [
            *refused_of_workers(),
            "$KV.probed_state.cart.k",
            "$KV.probed_leases._gateway.s1",
            "$KV.probed_registry.cart.type",
            "probed.marker.cart",
            "probed.inbox.cart.1.193.k1",
            "probed.pod.shop.s1",
            f"$JS.API.CONSUMER.MSG.NEXT.{S}.forward",
            "$JS.API.STREAM.MSG.GET.KV_probed_state",
        ],
    ),
    "gateway with workers": (GATEWAY_WITH_WORKERS, [*refused_of_workers(), "$KV.probed_leases.shop.s1"]),
    "operator": (
        OPERATOR,
        [
            "probed.rpc.cart.1.193.k1",
            "probed.cancel.c1",
            "probed.pod.shop.s1",
            "_INBOX.other.shop.x",
            "$KV.probed_state.cart.k",
            "$KV.probed_leases.shop.s1",
            "$JS.API.STREAM.MSG.GET.KV_probed_state",
            "$JS.API.STREAM.PURGE.KV_probed_registry",
            "$JS.API.CONSUMER.CREATE.KV_probed_state.mine",
            "$JS.API.STREAM.CREATE.OTHER",
            "$JS.API.STREAM.DELETE.OTHER",
            "$SYS.REQ.CLAIMS.UPDATE",
            "$SYS.REQ.SERVER.PING",
        ],
    ),
}

REFUSED_SUBSCRIPTIONS = {
    "worker": (
        WORKER,
        [
            (">", ""),
            ("_INBOX.>", ""),
            ("_INBOX.probed.>", ""),
            ("_INBOX.probed.bank.>", ""),
            ("_INBOX.probed._operator.>", ""),
            ("_INBOX.other.shop.>", ""),
            ("probed.>", ""),
            ("probed.rpc.>", ""),
            ("probed.rpc.*.>", "cart"),
            ("probed.rpc.bank.>", "bank"),
            ("probed.rpc.bank.1.193.k1", ""),
            ("probed.rpc.cart.>", ""),
            ("probed.rpc.cart.>", "bank"),
            ("probed.pod.>", ""),
            ("probed.pod.bank.*", ""),
            ("probed.event.>", ""),
            ("probed.chunk.*", ""),
            ("probed.wake.*", ""),
            ("$KV.probed_state.>", ""),
            ("$JS.API.>", ""),
            ("$JS.EVENT.ADVISORY.>", ""),
            ("$SYS.>", ""),
        ],
    ),
    "gateway": (
        GATEWAY,
        [
            (">", ""),
            ("_INBOX.>", ""),
            ("_INBOX.probed.shop.>", ""),
            ("probed.rpc.cart.>", "cart"),
            ("probed.pod._gateway.*", ""),
            ("probed.event.>", ""),
            ("$KV.>", ""),
        ],
    ),
    "operator": (
        OPERATOR,
        [
            (">", ""),
            ("_INBOX.>", ""),
            ("_INBOX.probed.shop.>", ""),
            ("probed.rpc.cart.>", "cart"),
            ("probed.cancel.*", ""),
            ("probed.event.>", ""),
            ("$KV.probed_state.>", ""),
            ("$SYS.>", ""),
        ],
    ),
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


@pytest.mark.parametrize("component", REFUSED_PUBLISHES)
async def test_what_a_component_may_not_publish_to(operator_mode: OperatorMode, component: str) -> None:
    permissions, subjects = REFUSED_PUBLISHES[component]
    async with prober(operator_mode, permissions) as probing:
        assert [subject for subject in subjects if await probing.publish(subject)] == []


@pytest.mark.parametrize("component", REFUSED_SUBSCRIPTIONS)
async def test_what_a_component_may_not_listen_to(operator_mode: OperatorMode, component: str) -> None:
    permissions, subjects = REFUSED_SUBSCRIPTIONS[component]
    async with prober(operator_mode, permissions) as probing:
        assert [each for each in subjects if await probing.subscribe(*each)] == []


@pytest.mark.parametrize("permissions", [WORKER, GATEWAY, GATEWAY_WITH_WORKERS, OPERATOR])
async def test_every_right_is_given(operator_mode: OperatorMode, permissions: Permissions) -> None:
    async with prober(operator_mode, permissions) as probing:
        allowed = [
            each.replace("*", "x").replace(">", "x") for each in permissions.publish if not each.startswith("$JS")
        ]
        assert [subject for subject in allowed if not await probing.publish(subject)] == []
        listened = [tuple(each.split(" ")) for each in permissions.subscribe]
        assert [each for each in listened if not await probing.subscribe(*each)] == []
