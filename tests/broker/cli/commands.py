"""The command line in processes of its own, and agents that it serves."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from itertools import count
from pathlib import Path

from hivewire.cli.app import run

TIMEOUT_S = 60.0

AGENTS = '''
import asyncio
import os
from dataclasses import dataclass
from pathlib import Path

from hivewire import MessageContext, RoutedAgent, event, rpc, stateless_worker, type_subscription


@dataclass
class Greet:
    name: str


@dataclass
class Greeting:
    text: str


@dataclass
class Wait:
    seconds: float


@type_subscription("people")
class Greeter(RoutedAgent):
    """Greets."""

    @rpc
    async def greet(self, message: Greet, ctx: MessageContext) -> Greeting:
        if message.name == "cancel":
            raise asyncio.CancelledError
        if not message.name:
            raise ValueError("nobody\\nto greet")
        return Greeting(f"Hello {message.name}, I am {self.id}")

    @rpc
    async def shout(self, message: str, ctx: MessageContext) -> str:
        return message.upper()

    @rpc
    async def wait(self, message: Wait, ctx: MessageContext) -> str:
        Path("waiting").touch()
        await asyncio.sleep(message.seconds)
        return "done"

    @event
    async def seen(self, message: Greet, ctx: MessageContext) -> None:
        while message.name == "slow" and not Path("go").exists():
            await asyncio.sleep(0.02)
        Path(f"seen-{message.name}").touch()


@stateless_worker
@type_subscription("chores")
class Helper(RoutedAgent):
    """Has no key to keep."""

    @rpc
    async def help(self, message: dict, ctx: MessageContext) -> dict:
        return {**message, "helped": True}

    @event
    async def chore(self, message: dict, ctx: MessageContext) -> None:
        pass


async def setup(runtime):
    await Greeter.register(runtime, "greeter", Greeter)


async def helpers(runtime):
    await Helper.register(runtime, "helper", Helper)


async def fails(runtime):
    raise RuntimeError("the setup went wrong")


async def starts(runtime):
    await runtime.start()


not_a_function = 1
'''


class Started:
    """A command that runs until it is ended."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def output(self) -> str:
        return self._log.read_text()

    def shows(self, text: str, *, times: int = 1) -> str:
        """Return the output once it has the text so many times."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.output.count(text) < times:
            assert self._popen.poll() is None, f"ended with {self._popen.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"{text!r} does not come:\n{self.output}"
            time.sleep(0.01)
        return self.output

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def ends(self) -> int:
        """Wait for the end and return the exit code."""
        return self._popen.wait(TIMEOUT_S)

    def kill(self) -> None:
        self._popen.kill()
        self._popen.wait()


class CommandLine:
    """Runs commands in one directory, against one namespace of a broker."""

    def __init__(self, broker: str, namespace: str, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "BROKER_URL": broker,
            "HIVEWIRE_NAMESPACE": namespace,
            "COLUMNS": "120",
            "PYTHONUNBUFFERED": "1",
        }
        self._started: list[Started] = []
        self._logs = count()

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "hivewire", *arguments],
            cwd=self.directory,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )

    def prints(self, *arguments: str, stdin: str = "") -> str:
        """Run a command that must succeed and return what it prints."""
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def fails(self, *arguments: str, code: int) -> str:
        """Run a command that must fail with one line on standard error, and return the line."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (code, ""), done
        assert done.stderr.startswith("hivewire: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr.strip()

    def publish(self, topic: str, message: str, *arguments: str) -> None:
        """Publish from this process, which is quicker than from another one."""
        where = ["--broker", self.environment["BROKER_URL"], "--namespace", self.environment["HIVEWIRE_NAMESPACE"]]
        assert run(["publish", topic, message, *arguments, *where]) == 0

    def start(self, *arguments: str, **environment: str) -> Started:
        """Start a command that goes on until it is ended."""
        return self.start_program("-m", "hivewire", *arguments, **environment)

    def start_program(self, *arguments: str, **environment: str) -> Started:
        """Start Python with other arguments, in the same surroundings."""
        # Commands may be started in several threads at once.
        log = self.directory / f"{next(self._logs)}.log"
        command = [sys.executable, *arguments]
        started = Started(command, {**self.environment, **environment}, self.directory, log)
        self._started.append(started)
        return started

    def serve(self, setup: str = "setup", *arguments: str, **environment: str) -> Started:
        """Serve the agents of this file, and return when they are."""
        (self.directory / "agents.py").write_text(AGENTS)
        started = self.start("run", f"agents:{setup}", *arguments, **environment)
        started.shows("is served")
        return started

    def kill_all(self) -> None:
        for started in self._started:
            started.kill()


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition, which is called, holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def health_of(served: Started) -> str:
    """Return the address of a serving process's health."""
    found = re.search(r"/healthz, /readyz and /metrics are served on port (\d+)", served.output)
    assert found is not None, served.output
    return f"http://127.0.0.1:{found[1]}"


def get(url: str) -> tuple[int, str]:
    """Return the status and the body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
