"""`hivewire dev`: an embedded broker, and agents that are started again when their source changes."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

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


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_agents_are_served_and_reloaded_on_the_same_broker(cli: CommandLine) -> None:
    source = cli.directory / "parrot.py"
    write(source, ending="!")
    dev = cli.start("dev", "parrot.py")
    dev.shows("is served")
    broker = broker_of(dev)
    assert cli.prints("send", "parrot/a", '"hi"', "--broker", broker) == '"hi!"\n'

    write(source, ending="?")
    dev.shows("parrot.py changed: starting again")
    dev.shows("is served", times=2)
    assert cli.prints("send", "parrot/a", '"hi"', "--broker", broker) == '"hi?"\n'
    dev.signal(signal.SIGINT)
    assert dev.ends() == 0
    assert "Traceback" not in dev.output


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
