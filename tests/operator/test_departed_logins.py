"""From keys that are made to logins that are revoked, on a real API server and a real NATS."""

import asyncio
import base64
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from api_server import ApiServer
from broker.scripted import until
from documents import free_port
from hivewire.nats.embedded import EmbeddedServer
from hivewire.provisioning import Subjects, worker_permissions
from hivewire_operator.bootstrap import AUTH_SECRET, BootstrapError, Done, bootstrap
from hivewire_operator.cluster import Cluster, Object
from hivewire_operator.credentials import Login
from hivewire_operator.departed_logins import DepartedLogins, revoke_departed
from hivewire_operator.ledger import Entry
from hivewire_operator.ledgers import Ledgers
from hivewire_operator.login_sources import Minting, login_secret, login_source, texts_of
from hivewire_operator.logins import Owner, ensure_login
from unit.operator.login_secrets import MINTING, secret

KEYS = login_secret("default")


class Installation:
    """A namespace in which the operator runs, and serves itself."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        self.port = free_port()
        self.ledgers = Ledgers(cluster, own_namespace=namespace)

    async def bootstrap(self, *, allowed: str = "*") -> Done:
        url = f"nats://127.0.0.1:{self.port}"
        now = time.time() - 60
        return await bootstrap(
            self.cluster, namespace=self.namespace, login="default", allowed=allowed, url=url, now=now
        )

    async def secret(self, name: str) -> Object:
        found = await self.cluster.get("Secret", self.namespace, name)
        assert found is not None
        return found

    async def deploy(self, name: str) -> Login:
        """Give a deployment a login."""
        source = login_source(await self.secret(KEYS), name="default", namespace=self.namespace)
        assert isinstance(source, Minting), source
        entry = Entry(kind="AgentDeployment", name=name, uid=f"uid-{name}", url="nats://elsewhere:4222")
        owner = Owner(namespace=self.namespace, entry=entry, secret=f"hivewire-{name}-nats")
        permissions = worker_permissions(Subjects(self.namespace), deployment=name, types={})
        await ensure_login(self.cluster, self.ledgers, owner, source, permissions, now=time.time())
        return Login.read(texts_of(await self.secret(owner.secret))["nats.creds"])

    async def settle(
        self,
        *existing: str,
        now: float | None = None,
        meanwhile: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
    ) -> DepartedLogins:
        async def list_existing() -> set[str]:
            await meanwhile()
            return {f"uid-{name}" for name in existing}

        return await revoke_departed(
            self.cluster,
            self.ledgers,
            self.namespace,
            list_existing,
            own_namespace=self.namespace,
            now=time.time() if now is None else now,
        )


@pytest.fixture
def installation(cluster: Cluster, namespace: str) -> Installation:
    return Installation(cluster, namespace)


@asynccontextmanager
async def nats_of(installation: Installation, directory: Path) -> AsyncIterator[str]:
    """Run a server as the Secret for it says."""
    files = texts_of(await installation.secret(AUTH_SECRET))
    config = [
        files["resolver.conf"],
        f'resolver {{ type: full, dir: "{directory / "resolver"}", allow_delete: true }}',
        "max_control_line: 262144",
    ]
    (directory / "data").mkdir(exist_ok=True)
    async with EmbeddedServer(directory / "data", config_lines="\n".join(config), port=installation.port) as server:
        yield server.url


@asynccontextmanager
async def connected(url: str, login: Login, name: str, namespace: str) -> AsyncIterator[Client]:
    prefix = worker_permissions(Subjects(namespace), deployment=name, types={}).inbox_prefix
    client = Client()
    try:
        await client.connect(
            url,
            user_credentials=RawCredentials(login.file),
            inbox_prefix=prefix.encode(),
            allow_reconnect=False,
            error_cb=_ignored,
        )
        yield client
    finally:
        await client.close()


async def test_logins_of_what_was_deleted_are_revoked_and_forgotten(installation: Installation, tmp_path: Path) -> None:
    await installation.bootstrap()
    space = installation.namespace
    async with nats_of(installation, tmp_path) as url:
        gone, stays = [await installation.deploy(name) for name in ("gone", "stays")]
        async with connected(url, gone, "gone", space) as cut, connected(url, stays, "stays", space) as kept:
            assert await installation.settle("gone", "stays") == DepartedLogins()
            settled = await installation.settle("stays")
            assert [each.user for each in settled.revoked] == [gone.user]
            assert not settled.message()
            await until(lambda: not cut.is_connected)
            assert kept.is_connected
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            async with connected(url, gone, "gone", space):
                pass
        assert await installation.settle("stays") == DepartedLogins()
        ledger = await installation.ledgers.load(space)
        assert list(ledger.entries) == ["uid-stays"]
        assert [each.user for each in ledger.revoked] == [gone.user]
        # Once its login has expired by itself, the next revocation takes it off the account's list.
        assert gone.expires_at is not None
        await installation.settle(now=gone.expires_at - 10)
        assert len((await installation.ledgers.load(space)).revoked) == 2


async def test_what_is_made_while_it_is_looked_at_is_not_taken_for_gone(installation: Installation) -> None:
    await installation.bootstrap()
    assert await installation.settle(meanwhile=lambda: installation.deploy("new")) == DepartedLogins()
    ledger = await installation.ledgers.load(installation.namespace)
    assert len(ledger.users_of("uid-new")) == 1


async def test_what_nats_could_not_be_told_is_tried_again(installation: Installation, tmp_path: Path) -> None:
    await installation.bootstrap()
    login = await installation.deploy("gone")
    settled = await installation.settle()
    assert not settled.revoked and "could not be told" in settled.message()
    async with nats_of(installation, tmp_path):
        assert [each.user for each in (await installation.settle()).revoked] == [login.user]


async def test_without_the_keys_for_it_logins_expire_by_themselves(installation: Installation) -> None:
    created = secret(MINTING, namespaces="*")
    created["metadata"].update(namespace=installation.namespace, name=KEYS)
    await installation.cluster.create("Secret", {"apiVersion": "v1", "kind": "Secret", **created})
    login = await installation.deploy("gone")
    settled = await installation.settle()
    assert [each.user for each in settled.expiring] == [login.user]
    assert "no keys for it: 1. The last one expires at 20" in settled.message()
    assert login.expires_at is not None
    assert await installation.settle(now=login.expires_at) == DepartedLogins()
    assert not (await installation.ledgers.load(installation.namespace)).entries


async def test_keys_that_are_there_are_kept(installation: Installation) -> None:
    assert await installation.bootstrap() == Done(keys=True, files=True)
    before = [await installation.secret(name) for name in (KEYS, AUTH_SECRET)]
    assert await installation.bootstrap() == Done(keys=False, files=False)
    assert [await installation.secret(name) for name in (KEYS, AUTH_SECRET)] == before


async def test_who_may_use_the_login_follows_from_the_last_time(installation: Installation) -> None:
    await installation.bootstrap()
    before = await installation.secret(KEYS)
    await installation.bootstrap(allowed="shop,bank")
    after = await installation.secret(KEYS)
    assert after["metadata"]["annotations"]["hivewire.dev/namespaces"] == "shop,bank"
    assert after["data"] == before["data"]


async def test_what_the_servers_need_is_made_again_as_it_was(installation: Installation) -> None:
    await installation.bootstrap()
    before = await installation.secret(AUTH_SECRET)
    await installation.cluster.delete("Secret", installation.namespace, AUTH_SECRET)
    assert await installation.bootstrap() == Done(keys=False, files=True)
    assert (await installation.secret(AUTH_SECRET))["data"] == before["data"]


async def test_lost_keys_are_made_anew_for_the_same_account(installation: Installation) -> None:
    await installation.bootstrap()
    before = texts_of(await installation.secret(KEYS))
    await installation.cluster.delete("Secret", installation.namespace, KEYS)
    assert await installation.bootstrap() == Done(keys=True, files=True)
    after = texts_of(await installation.secret(KEYS))
    assert after["account"] == before["account"]
    assert after["signing-key"] != before["signing-key"]
    assert await installation.bootstrap() == Done(keys=False, files=False)


async def test_keys_of_somebody_else_are_left_alone(installation: Installation) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in MINTING.items()}
    metadata = {"namespace": installation.namespace, "name": KEYS}
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    before = await installation.cluster.create("Secret", manifest)
    with pytest.raises(BootstrapError, match="was not made here"):
        await installation.bootstrap()
    assert await installation.secret(KEYS) == before
    assert await installation.cluster.get("Secret", installation.namespace, AUTH_SECRET) is None


async def test_the_right_to_the_two_secrets_is_enough(api_server: ApiServer, namespace: str) -> None:
    named = {"resourceNames": [KEYS, AUTH_SECRET], "verbs": ["get", "create", "patch"]}
    account = api_server.service_account(namespace, "bootstrap", {"apiGroups": [""], "resources": ["secrets"], **named})
    async with Cluster(await api_server.client(kubeconfig=account)) as cluster:
        installation = Installation(cluster, namespace)
        assert await installation.bootstrap() == Done(keys=True, files=True)
        assert await installation.bootstrap() == Done(keys=False, files=False)


def test_the_command_says_what_it_made(api_server: ApiServer, namespace: str) -> None:
    command = [sys.executable, "-m", "hivewire", "operator", "bootstrap", "--namespaces", "*"]
    environment = {
        **os.environ,
        "KUBECONFIG": str(api_server.kubeconfig),
        "POD_NAMESPACE": namespace,
        "BROKER_URL": "nats://nats:4222",
    }
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "keys: made; server configuration: made\n"


async def _ignored(error: Exception) -> None:
    pass
