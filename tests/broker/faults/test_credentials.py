"""Logins that expire, with and without somebody who renews them in time."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from broker.conftest import NewRuntime
from broker.jwt_accounts import JwtAccounts, replace
from broker.scripted import Scripted, agent_at, serve, until
from hivewire import (
    AccessDeniedError,
    AgentId,
    BrokerUnavailableError,
    MessageContext,
    NatsAgentRuntime,
    TopicId,
    TypeSubscription,
    stateless_worker,
)
from hivewire.nats.embedded import EmbeddedServer

LIFE_S = 4.0
KEYS = 8
ANYONE = AgentId("agent", "k")


@pytest.fixture
def accounts() -> JwtAccounts:
    return JwtAccounts()


@pytest.fixture
async def server(accounts: JwtAccounts) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(config_lines=accounts.config_lines) as server:
        yield server


@pytest.fixture
def file(accounts: JwtAccounts, tmp_path: Path) -> Path:
    path = tmp_path / "nats.creds"
    replace(path, accounts.credentials())
    return path


async def started(new_runtime: NewRuntime, server: EmbeddedServer, file: Path) -> NatsAgentRuntime:
    runtime = new_runtime(server.url, credentials=str(file))
    await serve(runtime, "agent")
    await runtime.start()
    return runtime


async def test_nothing_is_lost_or_doubled_while_logins_are_renewed_before_they_expire(
    server: EmbeddedServer, new_runtime: NewRuntime, accounts: JwtAccounts, file: Path
) -> None:
    replace(file, accounts.credentials(lives_s=LIFE_S))
    worker = await started(new_runtime, server, file)
    caller = await new_runtime(server.url, credentials=str(file)).connect()
    numbers = iter(range(1_000_000))
    sent: list[int] = []
    renewing = True

    async def call_on() -> None:
        while renewing:
            number = next(numbers)
            assert await caller.send_message(number, AgentId("agent", f"k{number % KEYS}")) == number
            sent.append(number)

    async def publish_on() -> None:
        while renewing:
            number = next(numbers)
            await caller.publish_message(number, TopicId("t", f"k{number % KEYS}"))
            sent.append(number)

    session = worker._serving._keeper.id
    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(call_on())
            group.create_task(publish_on())
        while time.monotonic() - begun < 2.5 * LIFE_S:
            before = [each._broker._client for each in (worker, caller)]
            replace(file, accounts.credentials(lives_s=LIFE_S))
            await until(lambda: all(a is not b._broker._client for a, b in zip(before, (worker, caller), strict=True)))
        renewing = False
    agents = [await agent_at(worker, "agent", f"k{key}") for key in range(KEYS)]
    await until(lambda: sum(len(agent.seen) for agent in agents) >= len(sent))
    assert sorted(number for agent in agents for number in agent.seen) == sorted(sent)
    assert worker._broker.reconnects == caller._broker.reconnects == 0
    assert worker._serving._keeper.id == session
    assert worker.ready


async def test_events_of_a_stateless_type_are_neither_lost_nor_doubled_when_logins_are_renewed(
    server: EmbeddedServer, new_runtime: NewRuntime, accounts: JwtAccounts, file: Path
) -> None:
    @stateless_worker
    class Anybody(Scripted):
        pass

    seen: list[int] = []

    async def note(agent: Scripted, message: int, ctx: MessageContext) -> None:
        seen.append(message)
        await asyncio.sleep(0.001)

    worker = new_runtime(server.url, credentials=str(file))
    await Anybody.register(worker, "anybody", lambda: Anybody(note))
    await worker.add_subscription(TypeSubscription("t", "anybody"))
    await worker.start()
    publisher = await new_runtime(server.url, credentials=str(file)).connect()
    published = 0
    for _ in range(3):
        client = worker._broker._client
        replace(file, accounts.credentials())
        while not client.is_closed:
            await publisher.publish_message(published, TopicId("t", "k"))
            published += 1
    await until(lambda: len(seen) >= published)
    assert sorted(seen) == list(range(published))


async def test_a_login_that_nobody_renews_is_told_and_a_new_file_is_enough_to_go_on(
    server: EmbeddedServer,
    new_runtime: NewRuntime,
    accounts: JwtAccounts,
    file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    replace(file, accounts.credentials(lives_s=2))
    worker = await started(new_runtime, server, file)
    assert worker.ready
    caplog.set_level(logging.WARNING)
    await until(lambda: not worker.ready)
    assert "there is no connection to NATS" in worker.ready.reason
    await until(lambda: f"the login in {file} expired at" in worker.ready.reason)
    await until(lambda: "user authentication expired" in caplog.text)
    await until(lambda: f"the login in {file} expired at" in caplog.text)
    with pytest.raises(BrokerUnavailableError):
        await worker.send_message("hello", ANYONE, timeout=0.1)
    # Longer than the session lives.
    await until(lambda: not worker._serving.has_session())
    replace(file, accounts.credentials())
    await until(lambda: worker.ready)
    assert await worker.send_message("hello", ANYONE) == "hello"
    await worker.publish_message("event", TopicId("t", "k"))
    agent = await agent_at(worker, "agent")
    await until(lambda: agent.seen == ["hello", "event"])


async def test_credentials_that_the_server_refuses_leave_the_old_connection_until_good_ones_come(
    server: EmbeddedServer,
    new_runtime: NewRuntime,
    accounts: JwtAccounts,
    file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = await started(new_runtime, server, file)
    client = worker._broker._client
    replace(file, JwtAccounts().credentials())
    await until(lambda: "The new credentials don't work, so the old connection stays" in caplog.text)
    assert worker.ready
    assert await worker.send_message("hello", ANYONE) == "hello"
    assert worker._broker._client is client
    replace(file, accounts.credentials())
    await until(lambda: worker._broker._client is not client)
    assert await worker.send_message("hello", ANYONE) == "hello"
    assert worker._broker.reconnects == 0
    await until(lambda: client.is_closed)


async def test_a_file_that_is_half_written_or_gone_changes_nothing(
    server: EmbeddedServer, new_runtime: NewRuntime, accounts: JwtAccounts, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await started(new_runtime, server, file)
    client = worker._broker._client
    replace(file, accounts.credentials()[:200])
    await until(lambda: "is no NATS credentials file" in caplog.text)
    file.unlink()
    await until(lambda: "can't be read" in caplog.text)
    assert worker.ready
    assert worker._broker._client is client


async def test_a_call_that_is_under_way_is_answered_over_the_new_connection(
    server: EmbeddedServer, new_runtime: NewRuntime, accounts: JwtAccounts, file: Path
) -> None:
    worker = await started(new_runtime, server, file)
    caller = await new_runtime(server.url, credentials=str(file)).connect()
    gate = asyncio.Event()

    async def wait(agent: object, message: object, ctx: object) -> object:
        await gate.wait()
        return message

    await serve(worker, "slow", wait)
    calling = asyncio.create_task(caller.send_message("hello", AgentId("slow", "k")))
    clients = [each._broker._client for each in (worker, caller)]
    replace(file, accounts.credentials())
    await until(lambda: all(client.is_closed for client in clients))
    gate.set()
    assert await calling == "hello"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, r"can't be read \(No such file or directory\): check the path"),
        ("", "there is no user JWT"),
        ("-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n", "there is no seed of a user"),
        (
            "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n"
            "-----BEGIN USER NKEY SEED-----\nSUABC\n------END USER NKEY SEED------\n",
            "JWT or seed is damaged",
        ),
    ],
)
async def test_a_file_that_is_no_login_is_told_at_once(
    nats_url: str, tmp_path: Path, text: str | None, says: str
) -> None:
    path = tmp_path / "nats.creds"
    if text is not None:
        path.write_text(text)
    begun = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match=says) as caught:
        await NatsAgentRuntime(nats_url, credentials=str(path)).connect()
    assert str(path) in str(caught.value)
    assert time.monotonic() - begun < 1


async def test_a_start_with_a_login_that_has_expired_says_so(
    server: EmbeddedServer, accounts: JwtAccounts, file: Path
) -> None:
    replace(file, accounts.credentials(lives_s=-10))
    with pytest.raises(BrokerUnavailableError, match=f"the login in {file} expired at .*: replace the file"):
        await NatsAgentRuntime(server.url, credentials=str(file)).connect()


async def test_the_environment_names_the_file(
    server: EmbeddedServer, file: Path, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    monkeypatch.setenv("NATS_CREDS", str(file))
    async with NatsAgentRuntime(server.url, namespace=namespace) as runtime:
        assert runtime.ready


async def test_credentials_that_allow_less_do_not_take_over(
    server: EmbeddedServer, new_runtime: NewRuntime, accounts: JwtAccounts, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await started(new_runtime, server, file)
    client = worker._broker._client
    replace(file, accounts.credentials(sub={"deny": ["*.rpc.agent.>"]}))
    await until(lambda: "NATS refuses them a subscription to" in caplog.text)
    assert worker._broker._client is client
    assert await worker.send_message("hello", ANYONE) == "hello"


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"sub": {"deny": ["_INBOX.>"]}}, r"refused a subscription to _inbox\..*docs/guides/connections.md"),
        ({"pub": {"deny": ["$KV.*.default.>"]}}, r"refused to publish to \$KV\..*_leases\.default\."),
    ],
)
async def test_a_start_without_a_right_that_it_needs_says_at_once_which(
    server: EmbeddedServer,
    new_runtime: NewRuntime,
    accounts: JwtAccounts,
    file: Path,
    claims: dict[str, object],
    says: str,
) -> None:
    replace(file, accounts.credentials(**claims))
    begun = time.monotonic()
    with pytest.raises(AccessDeniedError, match=says):
        await started(new_runtime, server, file)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("count", [110, 1_000])
async def test_a_login_that_is_longer_than_the_server_takes_says_what_to_raise(
    server: EmbeddedServer, accounts: JwtAccounts, file: Path, count: int
) -> None:
    replace(
        file, accounts.credentials(pub={"allow": [f"$JS.API.STREAM.INFO.STREAM_{number}" for number in range(count)]})
    )
    with pytest.raises(BrokerUnavailableError, match=r"with a max_control_line above the \d+ bytes of the login"):
        await NatsAgentRuntime(server.url, credentials=str(file)).connect()
