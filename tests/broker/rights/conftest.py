"""A server in operator mode, on which each component has a user with its own rights and no more."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client

from broker.jwt_accounts import JwtAccounts, replace
from hivewire import NatsAgentRuntime
from hivewire.nats.embedded import EmbeddedServer
from hivewire.provisioning import (
    Permissions,
    Subjects,
    TypeShape,
    Upkeep,
    operator_permissions,
    worker_permissions,
)

SHARDED = TypeShape(kind="sharded", shards=16)
STATELESS = TypeShape(kind="stateless", shards=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorMode:
    """A running server, and who mints its users."""

    url: str
    accounts: JwtAccounts
    directory: Path

    def credentials(self, permissions: Permissions | None = None, *, name: str = "any", **claims: Any) -> str:
        """Return the path of a new user's credentials; without permissions it may do all."""
        rights = {} if permissions is None else permissions.claims()
        path = self.directory / f"{name}.creds"
        replace(path, self.accounts.credentials(**rights, **claims))
        return str(path)


@pytest.fixture(scope="session")
def operator_mode(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorMode]:
    accounts = JwtAccounts()
    # The line of a login holds its permissions.
    server = EmbeddedServer(config_lines=f"{accounts.config_lines}\nmax_control_line: 262144")
    asyncio.run(server.start())
    yield OperatorMode(url=server.url, accounts=accounts, directory=tmp_path_factory.mktemp("creds"))
    asyncio.run(server.stop())


@pytest.fixture
def subjects(namespace: str) -> Subjects:
    return Subjects(namespace)


class Components:
    """The components of one namespace, each with its own user."""

    def __init__(self, server: OperatorMode, subjects: Subjects) -> None:
        self._server = server
        self._subjects = subjects
        self._runtimes: list[NatsAgentRuntime] = []

    def credentials(self, permissions: Permissions, name: str, **claims: Any) -> str:
        return self._server.credentials(permissions, name=f"{self._subjects.namespace}.{name}", **claims)

    def upkeep(self, **settings: Any) -> Upkeep:
        """Return what the operator runs."""
        credentials = self.credentials(operator_permissions(self._subjects), "operator")
        return Upkeep(self._server.url, namespace=self._subjects.namespace, credentials=credentials, **settings)

    def worker(
        self, deployment: str, types: Mapping[str, TypeShape], *, instance: str = "", **options: Any
    ) -> NatsAgentRuntime:
        """Return the runtime of a pod of a deployment."""
        permissions = worker_permissions(self._subjects, deployment=deployment, types=types)
        defaults: dict[str, Any] = {
            "namespace": self._subjects.namespace,
            "deployment": deployment,
            "instance_id": instance or deployment,
            "credentials": self.credentials(permissions, f"{deployment}{instance}"),
            "provision": False,
            "default_timeout": 20.0,
            "drain_timeout": 2.0,
        }
        self._runtimes.append(NatsAgentRuntime(self._server.url, **{**defaults, **options}))
        return self._runtimes[-1]

    async def stop(self) -> None:
        await asyncio.gather(*(runtime.stop() for runtime in self._runtimes))


@pytest.fixture
async def components(operator_mode: OperatorMode, subjects: Subjects) -> AsyncIterator[Components]:
    components = Components(operator_mode, subjects)
    yield components
    await components.stop()


@pytest.fixture
async def root(operator_mode: OperatorMode) -> AsyncIterator[Client]:
    """A client that may do all."""
    client = await nats.connect(operator_mode.url, user_credentials=operator_mode.credentials(name="root"))
    yield client
    await client.close()
