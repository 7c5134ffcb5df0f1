"""What a start says when there is no broker to work with: within seconds, and what to do about it."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from broker.bare_server import bare_server
from broker.scripted import until
from hivewire import BrokerUnavailableError, NatsAgentRuntime, RuntimeStateError, create_distributed_runtime
from hivewire.nats.embedded import EmbeddedServer, server_binary

OLD_SERVER = Path(__file__).parents[2] / ".tools/nats-2.12/bin/nats-server"
A_FEW_SECONDS = 7.0

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def in_a_few_seconds() -> Iterator[None]:
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < A_FEW_SECONDS + 2


async def error_of(url: str) -> str:
    """Return the text of the error that a start ends with. Nothing is left behind."""
    tasks = asyncio.all_tasks()
    runtime = NatsAgentRuntime(url)
    begun = time.monotonic()
    with pytest.raises(BrokerUnavailableError) as caught:
        await runtime.start()
    assert time.monotonic() - begun < A_FEW_SECONDS
    await until(lambda: asyncio.all_tasks() <= tasks)
    with pytest.raises(RuntimeStateError):
        await runtime.send_message("hello", None)  # type: ignore[arg-type]
    await runtime.stop()
    return str(caught.value)


@asynccontextmanager
async def something_else(serve: Serve) -> AsyncIterator[str]:
    """A TCP server that is no nats-server, at this address."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"nats://{host}:{port}"


async def test_a_server_without_jetstream_is_told_how_to_have_it(tmp_path: Path) -> None:
    async with bare_server(server_binary(), tmp_path) as url:
        text = await error_of(url)
    assert "has no JetStream" in text
    assert "start it with -js" in text
    assert url in text


async def test_an_account_without_jetstream_is_told_so() -> None:
    accounts = "accounts { A { users: [ { user: a, password: b } ] } }"
    async with EmbeddedServer(config_lines=accounts) as server:
        text = await error_of(server.url.replace("//", "//a:b@"))
    assert "has no JetStream for this account" in text


@pytest.mark.skipif(not OLD_SERVER.exists(), reason="needs an old nats-server: run `make old-server`")
async def test_a_server_that_is_too_old_is_told_the_version_that_it_takes(tmp_path: Path) -> None:
    jetstream = f'jetstream {{ store_dir: "{tmp_path}" }}'
    async with bare_server(OLD_SERVER, tmp_path, config=jetstream) as url:
        text = await error_of(url)
    assert "is version 2.12.8" in text
    assert "needs 2.14.4 or later: upgrade the server" in text


async def test_an_address_where_nothing_listens_is_named() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    text = await error_of(f"nats://127.0.0.1:{port}")
    assert f"Can't connect to NATS at nats://127.0.0.1:{port}" in text
    assert "check the address and credentials" in text
    assert "nats-server -js" in text


async def test_a_host_that_does_not_exist_is_named() -> None:
    assert "no-such-host.invalid" in await error_of("nats://no-such-host.invalid:4222")


async def test_several_addresses_are_all_tried(nats_url: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as unused:
        port = unused.getsockname()[1]
    async with NatsAgentRuntime(f"nats://127.0.0.1:{port},{nats_url}", namespace="several-addresses") as runtime:
        assert nats_url in runtime.broker_url


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    async with something_else(silent) as url:
        assert f"Can't connect to NATS at {url}" in await error_of(url)


async def test_a_server_that_speaks_something_else_is_given_up() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with something_else(http) as url:
        assert f"Can't connect to NATS at {url}" in await error_of(url)


@pytest.mark.parametrize("credentials", ["", "u:wrong@", "nobody:p@"])
async def test_a_refused_login_is_told_without_the_password(credentials: str) -> None:
    users = "authorization { users = [ { user: u, password: p } ] }"
    async with EmbeddedServer(config_lines=users) as server:
        text = await error_of(server.url.replace("//", f"//{credentials}"))
    assert "authorization violation" in text.lower()
    assert server.url in text
    assert "wrong" not in text


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for this machine that has signed itself, and its key beside it."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("there is no openssl: apt-get install openssl")
    folder = tmp_path_factory.mktemp("tls")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nats", "-days", "1"]
    made += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(folder / "tls.key")]
    subprocess.run([openssl, *made, "-out", str(folder / "tls.crt")], check=True, capture_output=True, timeout=30)
    return folder / "tls.crt"


async def test_a_server_whose_certificate_nobody_knows_is_trusted_when_the_environment_names_it(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = f'tls {{ cert_file: "{certificate}", key_file: "{certificate.with_name("tls.key")}" }}'
    async with EmbeddedServer(config_lines=tls) as server:
        url = server.url.replace("nats:", "tls:")
        assert "CERTIFICATE_VERIFY_FAILED" in await error_of(url)
        monkeypatch.setenv("NATS_CA", str(certificate))
        runtime = await create_distributed_runtime(url)
        await runtime.stop()


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("nonsense", "no certificate")])
async def test_certificates_that_can_not_be_read_are_told(
    nats_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, reason: str
) -> None:
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("NATS_CA", str(path))
    text = await error_of(nats_url)
    assert f"The certificates in {path} can't be read" in text
    assert reason.lower() in text.lower()
    assert "NATS_CA names a file" in text


async def test_tls_to_a_server_without_it_is_an_error(nats_url: str) -> None:
    assert "does not ask for TLS" in await error_of(nats_url.replace("nats:", "tls:"))


@pytest.mark.parametrize("url", ["http://127.0.0.1:4222", "127.0.0.1:4222", "amqp://host", "nats://", "Embedded"])
async def test_an_unknown_scheme_is_told_which_there_are(url: str) -> None:
    for start in (NatsAgentRuntime(url).start, lambda: create_distributed_runtime(url)):
        with pytest.raises(ValueError, match=r"is not a broker address: use nats://host:4222"):
            await start()


async def test_an_unknown_scheme_does_not_show_the_password() -> None:
    with pytest.raises(ValueError, match="is not a broker address") as caught:
        await create_distributed_runtime("http://user:secret@host:4222")
    assert "secret" not in str(caught.value)
    assert "host:4222" in str(caught.value)


async def test_no_address_at_all_is_told_where_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROKER_URL", raising=False)
    with pytest.raises(ValueError, match=r"No broker address: pass broker_url=.*set BROKER_URL.*'embedded'"):
        await create_distributed_runtime()


async def test_the_address_of_a_grpc_host_is_taken_with_a_warning(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = await create_distributed_runtime(nats_url.replace("nats:", "grpc:"), namespace=namespace)
    assert runtime.broker_url == nats_url
    assert any("is taken as the address of a NATS server" in record.getMessage() for record in caplog.records)
    await runtime.stop()
