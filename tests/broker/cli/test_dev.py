"""`hivewire dev`: an embedded broker, and agents that are started again when their source changes."""

import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from broker.cli.commands import TIMEOUT_S, CommandLine, Started, eventually, is_running

AGENT = """
from hivewire import MessageContext, RoutedAgent, rpc


class Parrot(RoutedAgent):
    @rpc
    async def repeat(self, message: str, ctx: MessageContext) -> str:
        return message + "{ending}"


async def setup(runtime):
    await Parrot.register(runtime, "parrot", lambda: Parrot("Repeats"))
"""


def write(path: Path, *, ending: str) -> None:
    path.write_text(AGENT.replace("{ending}", ending))


def broker_of(dev: Started) -> str:
    found = re.search(r"export BROKER_URL=(\S+)", dev.output)
    assert found is not None
    return found[1]


def http_of(dev: Started) -> tuple[str, str]:
    """Return the address for HTTP, and the line to try it."""
    found = re.search(r"HTTP comes in at (http://127\.0\.0\.1:\d+)\. .*\n  (curl .*)\n", dev.output)
    assert found is not None, dev.output
    return found[1], found[2]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_agents_are_served_and_reloaded_on_the_same_broker(cli: CommandLine) -> None:
    source = cli.directory / "parrot.py"
    write(source, ending="!")
    dev = cli.start("dev", "parrot.py")
    dev.shows("is served")
    broker = broker_of(dev)
    assert cli.prints("send", "parrot/a", '"hi"', "--broker", broker) == '"hi!"\n'

    url, _ = http_of(dev)
    assert ask(url, "hi") == "hi!"

    write(source, ending="?")
    dev.shows("parrot.py changed: starting again")
    dev.shows("is served", times=2)
    assert cli.prints("send", "parrot/a", '"hi"', "--broker", broker) == '"hi?"\n'
    assert ask(url, "hi") == "hi?"
    dev.signal(signal.SIGINT)
    assert dev.ends() == 0
    assert "Traceback" not in dev.output


def ask(url: str, message: str) -> Any:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/agents/parrot/a", json.dumps(message).encode(), headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
        return json.load(answer)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_line_that_it_shows_works(cli: CommandLine) -> None:
    write(cli.directory / "parrot.py", ending="!")
    dev = cli.start("dev", "parrot.py", "--gateway-port", "0")
    dev.shows("is served")
    _, line = http_of(dev)
    done = subprocess.run(["sh", "-c", f"{line} -sf"], capture_output=True, text=True, check=True, timeout=TIMEOUT_S)
    assert json.loads(done.stdout)["sequence"] > 0
    tail = cli.start("tail", "greetings", "--from-start", "--broker", broker_of(dev))
    tail.shows('"hello"')


def test_http_is_served_where_it_is_wanted_or_not_at_all(cli: CommandLine, unused_port: int) -> None:
    write(cli.directory / "parrot.py", ending="!")
    first = cli.start("dev", "parrot.py", "--gateway-port", str(unused_port))
    without = cli.start("dev", "parrot.py", "--no-gateway")
    first.shows("is served")
    assert http_of(first)[0] == f"http://127.0.0.1:{unused_port}"
    refused = cli.start("dev", "parrot.py", "--gateway-port", str(unused_port))
    assert refused.ends() == 1
    assert f"port {unused_port} (Address already in use): choose another --host or --gateway-port" in refused.output
    without.shows("is served:")
    assert "HTTP" not in without.output


def test_without_the_extra_it_is_said_how_to_get_it(cli: CommandLine) -> None:
    write(cli.directory / "parrot.py", ending="!")
    program = "import sys; sys.modules['uvicorn'] = None; from hivewire.cli import main; main()"
    (cli.directory / "without.py").write_text(program)
    with subprocess.Popen(
        [sys.executable, "without.py", "dev", "parrot.py"],
        cwd=cli.directory,
        env=cli.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next(line for line in lines if "HTTP" in line).endswith("pip install 'hivewire[gateway]'\n")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0


def test_an_error_in_the_file_is_shown_and_the_next_change_waited_for(cli: CommandLine) -> None:
    source = cli.directory / "parrot.py"
    source.write_text("this is no python\n")
    dev = cli.start("dev", "parrot.py")
    dev.shows("starts again when a file in")
    assert "SyntaxError" in dev.output and "parrot.py" in dev.output
    write(source, ending="!")
    dev.shows("is served")
    source.write_text("async def setup(runtime):\n    raise RuntimeError('not today')\n")
    dev.shows("RuntimeError: not today", times=2)
    dev.shows("starts again when a file in", times=2)
    dev.signal(signal.SIGTERM)
    assert dev.ends() == 0


def test_a_module_is_watched_with_all_that_lies_beside_it(cli: CommandLine) -> None:
    package = cli.directory / "birds"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("ENDING = '!'\n")
    write(package / "parrot.py", ending="")
    with (package / "parrot.py").open("a") as file:
        file.write("\nfrom birds.words import ENDING\n\nasync def other(runtime):\n    print('ends with', ENDING)\n")
    dev = cli.start("dev", "birds.parrot:other")
    dev.shows("ends with !")
    dev.shows("is served")
    (package / "words.py").write_text("ENDING = '?'\n")
    dev.shows("ends with ?")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running_however_it_ends(cli: CommandLine, number: signal.Signals) -> None:
    write(cli.directory / "parrot.py", ending="!")
    dev = cli.start("dev", "parrot.py")
    dev.shows("is served")
    processes = children_of(dev.pid)
    processes += [grandchild for child in processes for grandchild in children_of(child)]
    assert len(processes) >= 3
    dev.signal(number)
    assert dev.ends() == (-number if number is signal.SIGKILL else 0)
    eventually(lambda: not any(map(is_running, processes)), "processes are left running")


def test_a_file_that_does_not_exist_is_one_line(cli: CommandLine) -> None:
    assert "there is no file nowhere.py" in cli.fails("dev", "nowhere.py", code=2)


def test_a_fixed_port_is_used(cli: CommandLine, unused_port: int) -> None:
    write(cli.directory / "parrot.py", ending="!")
    dev = cli.start("dev", "parrot.py", "--port", str(unused_port))
    dev.shows("is served")
    assert broker_of(dev) == f"nats://127.0.0.1:{unused_port}"


def test_without_watchfiles_the_missing_extra_is_named(cli: CommandLine) -> None:
    write(cli.directory / "parrot.py", ending="!")
    program = (
        "import sys; sys.modules['watchfiles'] = None; "
        "from hivewire.cli import main; sys.argv = ['hivewire', 'dev', 'parrot.py']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=cli.directory,
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 1
    assert done.stderr == "hivewire: `hivewire dev` needs watchfiles: pip install 'hivewire[local]'\n"


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
