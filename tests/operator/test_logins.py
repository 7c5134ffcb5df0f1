"""Logins as Secrets, on a real API server, and what the ledger knows of them."""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hivewire.provisioning import (
    Permissions,
    Subjects,
    TypeShape,
    admin_permissions,
    gateway_permissions,
    worker_permissions,
)
from hivewire_operator.access import Access
from hivewire_operator.cluster import ApiError, Cluster, Object
from hivewire_operator.credentials import Login
from hivewire_operator.ledger import Entry, Issued, Ledger
from hivewire_operator.ledgers import Ledgers, MalformedLedgerError
from hivewire_operator.login_sources import Shared, texts_of
from hivewire_operator.logins import ADMIN_SECRET, GATEWAY_SECRET, Owner, ensure_login
from hivewire_operator.names import credentials_secret
from hivewire_operator.resources.agent_system import AgentSystemSpec, Nats
from unit.operator.login_secrets import creds, minting

OWN = "default"
SOURCE = minting(login_seconds="3600")


class Kept:
    """A deployment whose login is kept, at times that a test sets."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.ledgers = Ledgers(cluster, own_namespace=OWN)
        self.owner = Owner(
            namespace=namespace,
            entry=Entry(kind="AgentDeployment", name="cart", uid=f"{namespace}-1", url="nats://n:4222"),
            secret=credentials_secret("cart"),
        )
        self.permissions: Permissions = worker_permissions(
            Subjects(namespace), deployment="cart", types={"cart": TypeShape()}
        )

    async def ensure(self, *, now: float, source: Any = SOURCE) -> float | None:
        return await ensure_login(self.cluster, self.ledgers, self.owner, source, self.permissions, now=now)

    async def secret(self) -> Object:
        found = await self.cluster.get("Secret", self.namespace, self.owner.secret)
        assert found is not None
        return found

    async def login(self) -> Login:
        return Login.read(texts_of(await self.secret())["nats.creds"] + "\n")

    async def users(self) -> frozenset[str]:
        return (await self.ledgers.load(self.namespace)).users_of(self.owner.entry.uid)


@pytest.fixture
def kept(cluster: Cluster, namespace: str) -> Kept:
    return Kept(cluster, namespace)


async def test_a_deployment_gets_a_login_with_its_rights_that_goes_with_it(kept: Kept) -> None:
    assert await kept.ensure(now=1_000) == 2_800
    login = await kept.login()
    assert login.rights == kept.permissions.claims()
    assert (login.account, login.issuer) == (SOURCE.account, SOURCE.signer.public)
    assert (login.issued_at, login.expires_at) == (1_000, 4_600)
    assert await kept.users() == {login.user}
    owners = (await kept.secret())["metadata"]["ownerReferences"]
    assert [(each["kind"], each["name"], each["uid"]) for each in owners] == [
        ("AgentDeployment", "cart", kept.owner.entry.uid)
    ]


async def test_nothing_is_written_while_a_login_is_right(kept: Kept) -> None:
    await kept.ensure(now=1_000)
    secret, ledger = await kept.secret(), await ledger_object(kept)
    assert await kept.ensure(now=2_799) == 2_800
    assert await kept.secret() == secret
    assert await ledger_object(kept) == ledger


async def test_a_login_is_made_anew_at_half_of_its_life_and_both_are_known_until_the_first_expires(kept: Kept) -> None:
    await kept.ensure(now=1_000)
    first = await kept.login()
    assert await kept.ensure(now=2_800) == 4_600
    second = await kept.login()
    assert await kept.users() == {first.user, second.user}
    assert await kept.ensure(now=4_600) == 6_400
    assert await kept.users() == {second.user, (await kept.login()).user}


async def test_other_rights_take_another_login_at_once(kept: Kept) -> None:
    await kept.ensure(now=1_000)
    first = await kept.login()
    kept.permissions = gateway_permissions(Subjects(kept.namespace))
    await kept.ensure(now=1_001)
    assert (await kept.login()).user != first.user
    assert (await kept.login()).rights == kept.permissions.claims()


@pytest.mark.parametrize("data", [{"nats.creds": "garbage"}, {"nats.creds": creds()}, {}])
async def test_what_somebody_else_put_there_is_replaced(kept: Kept, data: Mapping[str, str]) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    metadata = {"namespace": kept.namespace, "name": kept.owner.secret}
    await kept.cluster.create("Secret", {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": encoded})
    await kept.ensure(now=1_000)
    assert await kept.users() == {(await kept.login()).user}


async def test_a_deployment_that_was_made_again_does_not_take_up_the_login_of_the_one_before(kept: Kept) -> None:
    await kept.ensure(now=1_000)
    first = await kept.login()
    kept.owner = replace(kept.owner, entry=replace(kept.owner.entry, uid=f"{kept.namespace}-2"))
    await kept.ensure(now=1_001)
    assert (await kept.login()).user != first.user
    assert [each["uid"] for each in (await kept.secret())["metadata"]["ownerReferences"]] == [kept.owner.entry.uid]
    ledger = await kept.ledgers.load(kept.namespace)
    assert [[each.user for each in gone.issued] for gone in ledger.departed({kept.owner.entry.uid})] == [[first.user]]


async def test_the_shared_login_is_copied_and_nothing_is_left_to_revoke(kept: Kept) -> None:
    shared = Shared(name="main", login=Login.read(creds()))
    for _ in range(2):
        assert await kept.ensure(now=1_000, source=shared) is None
    assert await kept.login() == shared.login
    assert await kept.users() == frozenset()


async def test_from_a_shared_login_to_one_of_its_own_and_back(kept: Kept) -> None:
    shared = Shared(name="main", login=Login.read(creds()))
    await kept.ensure(now=1_000, source=shared)
    await kept.ensure(now=1_001)
    assert (await kept.login()).issuer == SOURCE.signer.public
    await kept.ensure(now=1_002, source=shared)
    assert await kept.login() == shared.login


async def test_the_gateways_login_belongs_to_the_system(kept: Kept) -> None:
    entry = Entry(kind="AgentSystem", name="default", uid=f"{kept.namespace}-s", url="nats://n:4222")
    kept.owner = Owner(namespace=kept.namespace, entry=entry, secret=GATEWAY_SECRET)
    kept.permissions = gateway_permissions(Subjects(kept.namespace))
    await kept.ensure(now=1_000)
    assert (await kept.secret())["metadata"]["ownerReferences"][0]["kind"] == "AgentSystem"
    assert (await kept.login()).rights == kept.permissions.claims()


async def test_a_system_has_a_login_for_the_command_line_where_it_is_asked_for(kept: Kept, tmp_path: Path) -> None:
    access = Access(kept.cluster, own_namespace=OWN, folder=tmp_path)
    metadata = {"namespace": kept.namespace, "name": "default", "uid": f"{kept.namespace}-s"}
    for asked_for in (False, True):
        spec = AgentSystemSpec(nats=Nats(url="nats://n:4222"), admin_login=asked_for)
        due = await access.of_system({"metadata": metadata}, spec, SOURCE, stateless=["mail"])
        assert due is not None
        found = await kept.cluster.get("Secret", kept.namespace, ADMIN_SECRET)
        assert (found is not None) == asked_for
    assert found is not None
    login = Login.read(texts_of(found)["nats.creds"] + "\n")
    assert login.rights == admin_permissions(Subjects(kept.namespace), stateless=["mail"]).claims()
    assert len((await kept.ledgers.load(kept.namespace)).users_of(metadata["uid"])) == 2


async def test_a_ledger_that_can_not_be_read_is_left_alone_and_no_login_is_made(kept: Kept) -> None:
    await kept.ensure(now=1_000)
    first, name = await kept.login(), f"hivewire-ledger-{kept.namespace}"
    await kept.cluster.merge("ConfigMap", OWN, name, {"data": {"ledger": '{"format": 2}'}})
    with pytest.raises(MalformedLedgerError, match=name):
        await kept.ensure(now=4_000)
    assert await kept.login() == first
    assert (await ledger_object(kept))["data"]["ledger"] == '{"format": 2}'


async def test_a_login_that_could_not_be_handed_out_is_not_remembered(kept: Kept) -> None:
    kept.owner = replace(kept.owner, secret="No Name")
    for _ in range(2):
        with pytest.raises(ApiError, match="No Name"):
            await kept.ensure(now=1_000)
    assert await kept.users() == frozenset()


async def test_changes_of_a_ledger_at_the_same_time_are_all_made(kept: Kept) -> None:
    entry = kept.owner.entry

    async def issue(number: int) -> None:
        issued = Issued(user=f"U{number}", login="main", account="A", expires_at=9_000)
        await kept.ledgers.change(kept.namespace, lambda now: now.with_object(entry).with_issued(entry.uid, issued))

    # Also the first ones, which both find none.
    await asyncio.gather(*map(issue, range(3)))
    assert await kept.users() == {"U0", "U1", "U2"}


async def test_ledgers_are_found_by_their_namespaces(kept: Kept) -> None:
    assert await kept.ledgers.load(kept.namespace) == Ledger(entries={})
    await kept.ensure(now=1_000)
    assert kept.namespace in await kept.ledgers.namespaces()


async def ledger_object(kept: Kept) -> Object:
    found = await kept.cluster.get("ConfigMap", OWN, f"hivewire-ledger-{kept.namespace}")
    assert found is not None
    assert json.loads(found["data"]["ledger"])
    return found
