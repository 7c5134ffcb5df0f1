"""Servers that are configured with what the bootstrap made, and users that are revoked on them."""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials

from broker.scripted import until
from documents import free_port
from hivewire.nats.embedded import EmbeddedServer
from hivewire.provisioning import Permissions, Subjects, worker_permissions
from hivewire_operator.bootstrap import SYSTEM_PERMISSIONS, new_keys, server_files
from hivewire_operator.credentials import Login, new_login
from hivewire_operator.login_sources import Minting, RevocationKeys, login_source
from hivewire_operator.nats_accounts import revocations_of
from hivewire_operator.nats_keys import new_key_pair
from hivewire_operator.revocations import RevocationError, revoke

SHOP = worker_permissions(Subjects("shop"), deployment="cart", types={})
ALL = SYSTEM_PERMISSIONS


def made(*, account: str | None = None, age_s: float = 60) -> Minting:
    """Return keys that were made some time ago, as it takes a while until somebody revokes or loses them."""
    data = new_keys(account=account, now=time.time() - age_s, entropy=lambda: secrets.token_bytes(32))
    data["url"] = "nats://127.0.0.1:1"
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    source = login_source({"metadata": {}, "data": encoded}, name="main", namespace=None)
    assert isinstance(source, Minting), source
    return source


def login(source: Minting, permissions: Permissions = SHOP, *, now: float | None = None) -> Login:
    return new_login(
        source.signer,
        name="test",
        permissions=permissions,
        now=time.time() if now is None else now,
        lives_s=600,
        entropy=secrets.token_bytes(32),
        account=source.account,
    )


class Bootstrapped:
    """A server as the chart configures it. Its keys may be changed, which takes a restart."""

    def __init__(self, directory: Path, source: Minting, *, lines: str = "") -> None:
        self._included = directory / "resolver.conf"
        config = [
            # It is looked for from the folder of the configuration, whatever it begins with.
            'include "../resolver.conf"',
            f"resolver {{ type: full, dir: {json.dumps(str(directory / 'resolver'))}, allow_delete: true }}",
            "max_control_line: 262144",
            lines,
        ]
        self.server = EmbeddedServer(directory / "data", config_lines="\n".join(config))
        self.use(source)

    @property
    def url(self) -> str:
        return self.server.url

    def use(self, source: Minting) -> None:
        self._included.write_text(server_files(source, login="main")["resolver.conf"])


@pytest.fixture
async def source() -> Minting:
    return made()


@pytest.fixture
async def bootstrapped(tmp_path: Path, source: Minting) -> AsyncIterator[Bootstrapped]:
    (tmp_path / "data").mkdir()
    bootstrapped = Bootstrapped(tmp_path, source)
    async with bootstrapped.server:
        yield bootstrapped


@asynccontextmanager
async def connected(url: str, login: Login) -> AsyncIterator[Client]:
    client = Client()
    try:
        await client.connect(
            url,
            user_credentials=RawCredentials(login.file),
            inbox_prefix=SHOP.inbox_prefix.encode(),
            allow_reconnect=False,
            error_cb=_ignored,
        )
        yield client
    finally:
        await client.close()


async def is_let_in(url: str, login: Login) -> bool:
    try:
        async with connected(url, login) as client:
            return client.is_connected
    except nats.errors.Error as error:
        assert "Authorization Violation" in str(error), error
        return False


async def look_up(url: str, source: Minting) -> str:
    assert source.revoking is not None
    async with connected(url, Login.read(source.revoking.system)) as client:
        answer = await client.request(f"$SYS.REQ.ACCOUNT.{source.account}.CLAIMS.LOOKUP", timeout=5)
    return answer.data.decode()


async def revoke_at(url: str, source: Minting, *logins: Login, keys: RevocationKeys | None = None, **more: Any) -> None:
    keys = keys or source.revoking
    assert keys is not None
    users = {each.user: each.expires_at or 0 for each in logins}
    await revoke(replace(keys, url=url), source.account, users=users, now=time.time(), **more)


async def test_who_is_revoked_is_cut_and_let_in_no_more_and_others_stay(
    bootstrapped: Bootstrapped, source: Minting
) -> None:
    # The clock of who made the login may have been ahead.
    gone, stays = login(source, now=time.time() + 30), login(source)
    async with connected(bootstrapped.url, gone) as cut, connected(bootstrapped.url, stays) as kept:
        await revoke_at(bootstrapped.url, source, gone)
        await until(lambda: not cut.is_connected)
        assert not await is_let_in(bootstrapped.url, gone)
        assert kept.is_connected
    before = await look_up(bootstrapped.url, source)
    await revoke_at(bootstrapped.url, source, gone)
    assert await look_up(bootstrapped.url, source) == before, "what is done is not done again"
    # What the server is configured with is older than what it has been told since.
    await bootstrapped.server.restart()
    assert not await is_let_in(bootstrapped.url, gone)
    assert await is_let_in(bootstrapped.url, stays)


async def test_who_need_not_be_remembered_is_forgotten(bootstrapped: Bootstrapped, source: Minting) -> None:
    first, second, by_hand = (login(source) for _ in range(3))
    await revoke_at(bootstrapped.url, source, first, by_hand)
    await revoke_at(bootstrapped.url, source, second, forget=[first.user])
    assert set(revocations_of(await look_up(bootstrapped.url, source))) == {second.user, by_hand.user}


async def test_a_key_of_another_operator_changes_nothing(bootstrapped: Bootstrapped, source: Minting) -> None:
    assert source.revoking is not None
    stranger = new_key_pair("operator", secrets.token_bytes(32))
    keys = replace(source.revoking, operator=stranger)
    before = await look_up(bootstrapped.url, source)
    with pytest.raises(RevocationError, match="does not trust the operator-signing-key"):
        await revoke_at(bootstrapped.url, source, login(source), keys=keys)
    assert await look_up(bootstrapped.url, source) == before
    assert await is_let_in(bootstrapped.url, login(source))


async def test_what_can_not_be_told_is_an_error_within_the_deadline(
    bootstrapped: Bootstrapped, source: Minting
) -> None:
    assert source.revoking is not None
    nobody = replace(source.revoking, system=login(source, ALL).file)
    with pytest.raises(RevocationError, match="could not be told"):
        await revoke_at(bootstrapped.url, source, login(source), keys=nobody)
    with pytest.raises(RevocationError, match="does not know the account"):
        await revoke_at(bootstrapped.url, made(), login(source), keys=source.revoking)
    with pytest.raises(RevocationError, match="could not be told"):
        await revoke_at(f"nats://127.0.0.1:{free_port()}", source, login(source))


async def test_keys_that_were_lost_and_made_anew_leave_the_streams_to_their_account(
    bootstrapped: Bootstrapped, source: Minting
) -> None:
    stream = {"name": "KEPT", "subjects": ["kept"]}
    async with connected(bootstrapped.url, login(source, ALL)) as client:
        await api(client, "STREAM.CREATE.KEPT", stream)
    await revoke_at(bootstrapped.url, source, login(source))
    anew = made(account=source.account, age_s=-1)
    bootstrapped.use(anew)
    await bootstrapped.server.restart()
    assert not await is_let_in(bootstrapped.url, login(source))
    async with connected(bootstrapped.url, login(anew, ALL)) as client:
        assert (await api(client, "STREAM.INFO.KEPT"))["config"]["name"] == "KEPT"


@pytest.mark.slow
async def test_three_servers_take_the_same_logins_and_hear_of_whom_is_revoked(tmp_path: Path, source: Minting) -> None:
    ports = [free_port() for _ in range(3)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = []
    async with AsyncExitStack() as stack:
        for number, port in enumerate(ports):
            directory = tmp_path / f"n{number}"
            (directory / "data").mkdir(parents=True)
            cluster = f"cluster {{ name: test, listen: '127.0.0.1:{port}', routes: [{routes}] }}"
            servers.append(Bootstrapped(directory, source, lines=f"server_name: n{number}\n{cluster}"))
        await asyncio.gather(*(stack.enter_async_context(each.server) for each in servers))
        root, gone = login(source, ALL), login(source)
        async with connected(servers[0].url, root) as client:
            created = await replicated(client)
            assert len(created["cluster"]["replicas"]) == 2
        clients = [await stack.enter_async_context(connected(each.url, gone)) for each in servers]
        await revoke_at(",".join(each.url for each in servers), source, gone)
        await until(lambda: not any(each.is_connected for each in clients))
        assert [await is_let_in(each.url, gone) for each in servers] == [False] * 3
        assert [await is_let_in(each.url, root) for each in servers] == [True] * 3


async def replicated(client: Client) -> dict[str, Any]:
    """Make a stream of three replicas as soon as the servers have found each other."""
    stream = {"name": "THREE", "subjects": ["three"], "num_replicas": 3}
    async with asyncio.timeout(30):
        while True:
            try:
                return await api(client, "STREAM.CREATE.THREE", stream)
            except (nats.errors.Error, AssertionError):
                await asyncio.sleep(0.1)


async def api(client: Client, operation: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    payload = b"" if body is None else json.dumps(body).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{operation}", payload, timeout=5)).data)
    assert "error" not in answer, answer
    return answer


async def _ignored(error: Exception) -> None:
    pass
