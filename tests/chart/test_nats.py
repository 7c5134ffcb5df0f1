"""The servers start as the chart configures them, with the keys that the bootstrap makes."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest

from chart.conftest import Manifest, Render
from documents import free_port
from hivewire.nats.embedded import server_binary
from hivewire_operator.bootstrap import SYSTEM_PERMISSIONS, new_keys, server_files
from hivewire_operator.credentials import new_login
from hivewire_operator.login_sources import Minting, login_source
from unit.operator.login_secrets import secret

DEADLINE_S = 20


class Servers:
    """The configuration of the chart, with addresses and folders of this machine."""

    def __init__(self, manifests: list[Manifest], directory: Path) -> None:
        (conf,) = [each["data"]["nats.conf"] for each in manifests if "nats.conf" in each.get("data", {})]
        (workload,) = [each for each in manifests if each["kind"] == "StatefulSet"]
        self._container: Manifest = workload["spec"]["template"]["spec"]["containers"][0]
        self._conf, self._directory = conf, directory
        self.nodes: int = workload["spec"]["replicas"]
        self.ports = [free_port() for _ in range(self.nodes)]
        self.route_ports = [free_port() for _ in range(self.nodes)]
        data = new_keys(account=None, now=time.time() - 60, entropy=lambda: secrets.token_bytes(32))
        data["url"] = "nats://hivewire-nats.agents.svc:4222"
        source = login_source(secret(data), name="default", namespace=None)
        assert isinstance(source, Minting), source
        self.source = source
        # Unless it is quoted, NATS reads a number.
        self.password = "1e5"

    def url(self, number: int) -> str:
        return f"nats://127.0.0.1:{self.ports[number]}"

    def login(self) -> str:
        minted = new_login(
            self.source.signer,
            name="test",
            permissions=SYSTEM_PERMISSIONS,
            now=time.time(),
            lives_s=600,
            entropy=secrets.token_bytes(32),
            account=self.source.account,
        )
        return minted.file

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for number in range(self.nodes):
                await stack.enter_async_context(self._server(number))
            yield

    @asynccontextmanager
    async def _server(self, number: int) -> AsyncIterator[None]:
        folder = self._directory / str(number)
        (folder / "data").mkdir(parents=True)
        (folder / "resolver.conf").write_text(server_files(self.source, login="default")["resolver.conf"])
        text = self._conf.replace("/data/", f"{folder}/data/").replace("/run/nats/", f"{folder}/")
        text = text.replace("/etc/nats-tls/", f"{self._directory}/tls/")
        text = text.replace("port: 4222", f'listen: "127.0.0.1:{self.ports[number]}"')
        text = text.replace("http_port: 8222", 'http: "127.0.0.1:-1"')
        text = text.replace("port: 6222", f'listen: "127.0.0.1:{self.route_ports[number]}"')
        (folder / "nats.conf").write_text(text)
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                server_binary(),
                *[each.replace("/etc/nats", str(folder)) for each in self._container["args"]],
                env=self._environment(number),
                stderr=log,
            )
        try:
            yield
        finally:
            process.kill()
            await process.wait()

    def _environment(self, number: int) -> dict[str, str]:
        """The variables of the container, as the kubelet would fill them in."""
        known = {"POD_NAME": f"hivewire-nats-{number}", "ROUTES_PASSWORD": self.password}
        for each in self._container["env"]:
            if "value" in each:
                known[each["name"]] = re.sub(r"\$\((\w+)\)", lambda found: known[found[1]], each["value"])
        if "ROUTES" in known:
            for other, port in enumerate(self.route_ports):
                name = f"hivewire-nats-{other}.hivewire-nats-headless.agents.svc:6222"
                assert name in known["ROUTES"]
                known["ROUTES"] = known["ROUTES"].replace(name, f"127.0.0.1:{port}")
        return known


async def client(url: str, **more: Any) -> nats.NATS:
    """Connect as soon as the server is there."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                return await nats.connect(url, allow_reconnect=False, error_cb=_ignored, **more)
            except (OSError, nats.errors.NoServersError):
                await asyncio.sleep(0.05)


async def test_one_server_starts_and_takes_minted_logins_alone(render: Render, tmp_path: Path) -> None:
    servers = Servers(render(), tmp_path)
    creds = tmp_path / "nats.creds"
    creds.write_text(servers.login())
    async with servers.run():
        connected = await client(servers.url(0), user_credentials=str(creds))
        await connected.jetstream().add_stream(name="S", subjects=["s"])
        ack = await connected.jetstream().publish("s", b"kept")
        assert ack.seq == 1
        await connected.close()
        with pytest.raises(nats.errors.Error, match="Authorization"):
            await client(servers.url(0))


@pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "TLS"])
async def test_three_servers_find_each_other_by_their_password_and_keep_each_stream(
    is_encrypted: bool, render: Render, tmp_path: Path
) -> None:
    values = {"nodes": 3, "tls": {"existingSecret": "nats-tls" if is_encrypted else ""}}
    servers = Servers(render({"nats": values}), tmp_path)
    creds = tmp_path / "nats.creds"
    creds.write_text(servers.login())
    options: dict[str, Any] = {"user_credentials": str(creds)}
    if is_encrypted:
        options["tls"] = ssl.create_default_context(cafile=certificate(tmp_path / "tls"))
    async with servers.run():
        connected = await client(servers.url(1), **options)
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    info = await connected.jetstream().add_stream(name="S", subjects=["s"], num_replicas=3)
                    break
                except nats.errors.Error:
                    await asyncio.sleep(0.2)
        assert info.cluster is not None and len(info.cluster.replicas or []) == 2
        await connected.close()
        if is_encrypted:
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", servers.route_ports[0])
        writer.write(b'CONNECT {"user":"routes","pass":"wrong","name":"X"}\r\nPING\r\n')
        async with asyncio.timeout(DEADLINE_S):
            assert b"Authorization Violation" in await reader.read()
        writer.close()


def certificate(folder: Path) -> Path:
    """Make the files of a Secret with a certificate that has signed itself, and return that of who signed."""
    if (openssl := shutil.which("openssl")) is None:
        pytest.skip("there is no openssl: apt-get install openssl")
    folder.mkdir()
    names = "subjectAltName=IP:127.0.0.1"
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nats", "-days", "1", "-addext", names]
    subprocess.run(
        [openssl, *made, "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True,
        capture_output=True,
        timeout=30,
    )
    shutil.copy(folder / "tls.crt", folder / "ca.crt")
    return folder / "ca.crt"


async def _ignored(error: Exception) -> None:
    pass
