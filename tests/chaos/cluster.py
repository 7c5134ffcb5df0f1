"""Real brokers that a test may kill: a single node, or a cluster of three on the loopback interface.

Acknowledged writes are on the disk (`sync_interval: always`), so what is lost in a run is the runtime's fault. Every
server runs under the product's own supervisor process and ends with the test process, however that ends.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any, Self

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError

from hivewire.nats import server_supervisor
from hivewire.nats.embedded import server_binary
from hivewire.nats.subjects import Subjects
from hivewire.nats.topology import Topology, difference, plan

START_TIMEOUT_S = 20.0
HEALTHY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
LOOPBACK = "127.0.0.1"

_POLL_S = 0.05
_PORTS = range(20_000, 32_000)
"""Below the ports that the kernel gives to outgoing connections, so that a port stays free while its server is down."""


class Node:
    """One server. It keeps its address and its store over a restart.

    Args:
        directory: Its configuration, log and store.
        host: The one address that it listens on.
    """

    def __init__(self, name: str, directory: Path, *, host: str = LOOPBACK) -> None:
        self.name = name
        self.host = host
        self.port, self.route_port, self._monitor_port = _free_port(host), _free_port(LOOPBACK), _free_port(LOOPBACK)
        self._directory = directory
        self._supervisor: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)

    def __repr__(self) -> str:
        return f"<Node {self.name} at {self.url} {'running' if self.is_running else 'down'}>"

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def pid(self) -> int:
        return int((self._directory / "nats.pid").read_text())

    @property
    def log(self) -> str:
        return (self._directory / "nats.log").read_text(errors="replace")

    def start(self, routes: Sequence["Node"] = ()) -> None:
        """Start it, or start it again; `healthy` waits for it."""
        assert not self.is_running, f"{self!r} runs already"
        (self._directory / "nats.pid").unlink(missing_ok=True)
        config = self._directory / "nats.conf"
        config.write_text(self._config(routes))
        command = [sys.executable, "-I", "-S", server_supervisor.__file__, str(os.getpid()), ""]
        with (self._directory / "nats.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                [*command, str(server_binary()), "-c", str(config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def healthy(self) -> None:
        """Return once it takes connections and its share of every stream is up to date."""
        deadline = monotonic() + HEALTHY_TIMEOUT_S
        while not await self._answers("/healthz"):
            if not self.is_running or monotonic() > deadline:
                raise AssertionError(f"{self!r} is not healthy; the end of its log:\n{self.log[-3000:]}")
            await asyncio.sleep(_POLL_S)

    async def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> None:
        """End it by SIGTERM, as a rolling update would."""
        await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> None:
        if self._supervisor is None:
            return
        with suppress(ProcessLookupError, FileNotFoundError):
            os.kill(self.pid, number)
        deadline = monotonic() + STOP_TIMEOUT_S
        while self._supervisor.poll() is None and monotonic() < deadline:
            await asyncio.sleep(0.01)
        assert self._supervisor.stdin is not None
        self._supervisor.stdin.close()  # A supervisor whose owner lets go ends its server by force.
        await asyncio.to_thread(self._supervisor.wait, STOP_TIMEOUT_S)
        self._supervisor = None

    async def _answers(self, path: str) -> bool:
        try:
            async with asyncio.timeout(2.0):
                reader, writer = await asyncio.open_connection(LOOPBACK, self._monitor_port)
                try:
                    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except OSError:
            return False

    def _config(self, routes: Sequence["Node"]) -> str:
        others = ", ".join(f'"nats://{LOOPBACK}:{each.route_port}"' for each in routes)
        cluster = f"cluster {{ name: chaos, host: {LOOPBACK}, port: {self.route_port}, routes: [{others}] }}\n"
        return (
            f"server_name: {self.name}\n"
            f"host: {self.host}\n"
            f"port: {self.port}\n"
            f'http: "{LOOPBACK}:{self._monitor_port}"\n'
            f"pid_file: {json.dumps(str(self._directory / 'nats.pid'))}\n"
            f"jetstream {{ store_dir: {json.dumps(str(self._directory / 'store'))}, sync_interval: always }}\n"
            'ping_interval: "10s"\n'
            f"{cluster if routes else ''}"
        )


class Cluster:
    """One node or three: ``async with Cluster(3) as cluster: cluster.urls``."""

    def __init__(self, size: int = 3, *, host: str = LOOPBACK) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="hivewire-chaos-"))
        self.nodes = [Node(f"n{number}", self._directory / f"n{number}", host=host) for number in range(1, size + 1)]

    @property
    def urls(self) -> str:
        """The addresses of all nodes, as a runtime takes them."""
        return ",".join(node.url for node in self.nodes)

    @property
    def replicas(self) -> int:
        """How many replicas each stream has."""
        return len(self.nodes)

    async def __aenter__(self) -> Self:
        try:
            for node in self.nodes:
                self.start(node)
            for node in self.nodes:
                await node.healthy()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for node in self.nodes:
            await node.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self, node: Node) -> None:
        """Start one node, with routes to the others."""
        node.start([each for each in self.nodes if each is not node])

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """A raw client of whatever node answers."""
        client = await nats.connect(
            self.urls.split(","),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
            error_cb=_ignored,  # Some of the servers may be down: that is what it is about.
        )
        try:
            yield client
        finally:
            await client.close()

    async def leader_of(self, stream: str) -> Node:
        """Return the node that leads a stream, once there is one."""
        if len(self.nodes) == 1:
            return self.nodes[0]
        deadline = monotonic() + START_TIMEOUT_S
        async with self.client() as client:
            while monotonic() < deadline:
                info = await _api(client, f"STREAM.INFO.{stream}", deadline=deadline)
                leader = info.get("cluster", {}).get("leader")
                if leader:
                    return next(node for node in self.nodes if node.name == leader)
                await asyncio.sleep(_POLL_S)
        raise AssertionError(f"{stream} has no leader")

    async def provision(self, namespace: str) -> None:
        """Make the streams of a namespace with a replica on every node, before a runtime makes them with one.

        A runtime asks for one replica, and a topology plan never lowers what there is.
        """
        wanted = plan(Subjects(namespace), replicas=self.replicas)
        deadline = monotonic() + START_TIMEOUT_S
        async with self.client() as client:
            for change in difference(wanted, Topology(streams={}, consumers={})):
                subject, body = change.request()
                await _api(client, subject.removeprefix("$JS.API."), body, deadline=deadline)

    async def replicas_of(self, stream: str) -> int:
        async with self.client() as client:
            info = await _api(client, f"STREAM.INFO.{stream}", deadline=monotonic() + START_TIMEOUT_S)
        return int(info["config"]["num_replicas"])


async def _ignored(error: Exception) -> None:
    pass


async def _api(client: Client, operation: str, body: Any = None, *, deadline: float) -> dict[str, Any]:
    """Ask the JetStream API until it says something else than that it has no leader yet."""
    payload = b"" if body is None else json.dumps(body).encode()
    problem: object = "no answer"
    while monotonic() < deadline:
        try:
            answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{operation}", payload, timeout=5)).data)
        except (NatsError, TimeoutError) as error:
            problem = error
        else:
            problem = answer.get("error")
            if not problem:
                return answer
            if problem["code"] != 503:
                break
        await asyncio.sleep(_POLL_S)
    raise AssertionError(f"{operation} failed: {problem}")


_given: set[int] = set()


def _free_port(host: str) -> int:
    for port in random.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise AssertionError(f"no free port at {host}")
