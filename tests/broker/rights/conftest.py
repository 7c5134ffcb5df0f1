"""A server in operator mode, on which each component has a user with its own rights and no more."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import nats
import pytest
from nats.aio.client import Client

from broker.jwt_accounts import replace
from hivewire import NatsAgentRuntime
from hivewire.nats.embedded import EmbeddedServer
from hivewire.provisioning import (
    GATEWAY,
    Permissions,
    Subjects,
    TypeShape,
    Upkeep,
    gateway_permissions,
    operator_permissions,
    worker_permissions,
)
from hivewire.relay import RelayRuntime
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.login_sources import Minting
from hivewire_operator.nats_accounts import account_jwt, operator_jwt
from hivewire_operator.nats_keys import KeyPair, new_key_pair

SHARDED = TypeShape(kind="sharded", shards=16)
STATELESS = TypeShape(kind="stateless", shards=1)


ALL = Permissions(publish=(">",), publish_denied=(), subscribe=(">",), inbox_prefix="_INBOX")


class OperatorMode:
    """A server in operator mode, and the keys of its operator and accounts.

    Args:
        directory: Where it finds the accounts, and this puts credentials.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._operator = _new("operator")
        self._system, self._account, self._signing = (_new("account") for _ in range(3))
        self.server = EmbeddedServer(config_lines=self._config())

    @property
    def url(self) -> str:
        return self.server.url

    def minting(self, *, life_s: int) -> Minting:
        """Return what the operator makes logins from."""
        return Minting(name="test", account=self._account.public, signer=self._signing, life_s=life_s)

    def login(self, permissions: Permissions = ALL, *, lives_s: float = 3600) -> Login:
        """Make a user of the account, by its signing key."""
        return new_login(
            self._signing,
            name="test",
            permissions=permissions,
            now=time.time(),
            lives_s=lives_s,
            entropy=secrets.token_bytes(32),
            account=self._account.public,
        )

    def credentials(self, permissions: Permissions = ALL, *, name: str) -> str:
        """Return the path of a new user's credentials."""
        path = self._directory / f"{name}.creds"
        replace(path, self.login(permissions).file)
        return str(path)

    async def revoke(self, user: str) -> None:
        """Let a user in no more, and cut its connections."""
        login = new_login(
            self._system, name="admin", permissions=ALL, now=time.time(), lives_s=60, entropy=secrets.token_bytes(32)
        )
        path = self._directory / "system.creds"
        replace(path, login.file)
        client = await nats.connect(self.url, user_credentials=str(path))
        jwt = self._account_jwt(revoked={user: time.time()})
        answer = json.loads((await client.request("$SYS.REQ.CLAIMS.UPDATE", jwt.encode(), timeout=5)).data)
        assert answer["data"]["code"] == 200, answer
        await client.close()

    def _account_jwt(self, *, revoked: Mapping[str, float] | None = None) -> str:
        return account_jwt(
            self._operator,
            self._account.public,
            name="agents",
            now=time.time(),
            signing_keys=[self._signing.public],
            revoked=revoked,
        )

    def _config(self) -> str:
        system = self._system.public
        accounts = {
            system: account_jwt(self._operator, system, name="system", now=time.time(), has_jetstream=False),
            self._account.public: self._account_jwt(),
        }
        return "\n".join(
            [
                f"operator: {operator_jwt(self._operator, name='test', system_account=system, now=time.time())}",
                f"system_account: {system}",
                f"resolver: {{ type: full, dir: {json.dumps(str(self._directory / 'accounts'))}, allow_delete: true }}",
                f"resolver_preload: {json.dumps(accounts)}",
                # The line of a login holds all its rights.
                "max_control_line: 262144",
            ]
        )


def _new(kind: Literal["operator", "account", "user"]) -> KeyPair:
    return new_key_pair(kind, secrets.token_bytes(32))


@pytest.fixture(scope="session")
def operator_mode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorMode]:
    mode = OperatorMode(tmp_path_factory.mktemp("creds"))
    asyncio.run(mode.server.start())
    yield mode
    asyncio.run(mode.server.stop())


@pytest.fixture
def subjects(namespace: str) -> Subjects:
    return Subjects(namespace)


class Components:
    """The components of one namespace, each with its own user."""

    def __init__(self, server: OperatorMode, subjects: Subjects) -> None:
        self._server = server
        self.subjects = subjects
        self._runtimes: list[NatsAgentRuntime] = []
        self.minted: list[Permissions] = []

    def credentials(self, permissions: Permissions, name: str) -> str:
        self.minted.append(permissions)
        return self._server.credentials(permissions, name=f"{self.subjects.namespace}.{name}")

    def upkeep(self, **settings: Any) -> Upkeep:
        """Return what the operator runs."""
        rights = operator_permissions(self.subjects)
        credentials = self._server.credentials(rights, name=f"{self.subjects.namespace}.operator")
        return Upkeep(self._server.url, namespace=self.subjects.namespace, credentials=credentials, **settings)

    def worker(
        self, deployment: str, types: Mapping[str, TypeShape], *, instance: str = "", **options: Any
    ) -> NatsAgentRuntime:
        """Return the runtime of a pod of a deployment."""
        permissions = worker_permissions(self.subjects, deployment=deployment, types=types)
        defaults: dict[str, Any] = {
            "namespace": self.subjects.namespace,
            "deployment": deployment,
            "instance_id": instance or deployment,
            "credentials": self.credentials(permissions, f"{deployment}{instance}"),
            "provision": False,
            "default_timeout": 20.0,
            "drain_timeout": 2.0,
        }
        self._runtimes.append(NatsAgentRuntime(self._server.url, **{**defaults, **options}))
        return self._runtimes[-1]

    def gateway(self, types: Mapping[str, TypeShape]) -> RelayRuntime:
        """Return the runtime of a gateway, which lets in workers of the deployment `web` that serve these types."""
        permissions = gateway_permissions(self.subjects, types=types, worker_deployments=["web"])
        runtime = RelayRuntime(
            self._server.url,
            namespace=self.subjects.namespace,
            deployment=GATEWAY,
            credentials=self.credentials(permissions, "gateway"),
            provision=False,
        )
        self._runtimes.append(runtime)
        return runtime

    async def stop(self) -> None:
        await asyncio.gather(*(runtime.stop() for runtime in self._runtimes))


@pytest.fixture
async def components(operator_mode: OperatorMode, subjects: Subjects) -> AsyncIterator[Components]:
    components = Components(operator_mode, subjects)
    yield components
    await components.stop()


@pytest.fixture
async def upkeep(components: Components) -> AsyncIterator[Upkeep]:
    async with components.upkeep() as upkeep:
        yield upkeep
    assert upkeep.failure is None


@pytest.fixture
def nothing_is_refused(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What works here must not work by luck."""
    caplog.set_level(logging.INFO, "hivewire")
    yield
    refused = [record.getMessage() for record in caplog.get_records("call") if "refused" in record.getMessage()]
    assert not refused


@pytest.fixture
async def root(operator_mode: OperatorMode) -> AsyncIterator[Client]:
    """A client that may do all."""
    client = await nats.connect(operator_mode.url, user_credentials=operator_mode.credentials(name="root"))
    yield client
    await client.close()
