"""The command line with the administrator's rights, and no more."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from broker.cli.commands import CommandLine, Started, eventually
from broker.rights.conftest import SHARDED, STATELESS, OperatorMode
from hivewire.provisioning import ADMINISTRATOR, Subjects, Upkeep, admin_permissions, worker_permissions

pytestmark = pytest.mark.slow

AGENTS = """
from hivewire import MessageContext, RetryPolicy, RoutedAgent, event, rpc, stateless_worker, type_subscription

@type_subscription("people")
class Greeter(RoutedAgent):
    retry_policy = RetryPolicy(attempts=1)
    def __init__(self):
        super().__init__("Greets.")
        self.count = 0
    @rpc
    async def on_call(self, message: str, ctx: MessageContext) -> str:
        self.count += 1
        await self.schedule_message("later", self.id, after=3600, id="reminder")
        return f"Hello {message}"
    @event
    async def on_event(self, message: dict, ctx: MessageContext) -> None:
        raise ValueError("nobody to greet")
    async def save_state(self):
        return {"count": self.count}
    async def load_state(self, state):
        self.count = state["count"]

@stateless_worker
class Helper(RoutedAgent):
    @event
    async def on_event(self, message: dict, ctx: MessageContext) -> None:
        pass

async def setup(runtime):
    await Greeter.register(runtime, "greeter", Greeter)
    await Helper.register(runtime, "helper", lambda: Helper("Helps."))
"""


class Administrator:
    """Runs commands, of which none may meet a refusal."""

    def __init__(self, command_line: CommandLine) -> None:
        self._command_line = command_line

    def starts(self, *arguments: str) -> Started:
        return self._command_line.start(*arguments)

    def end(self) -> None:
        self._command_line.kill_all()

    def __call__(self, *arguments: str) -> str:
        done: CompletedProcess[str] = self._command_line.run(*arguments)
        assert done.returncode == 0, done.stderr
        assert "refused" not in done.stderr and "allow" not in done.stderr, done.stderr
        return done.stdout


@pytest.fixture
async def served(
    operator_mode: OperatorMode, subjects: Subjects, upkeep: Upkeep, tmp_path: Path
) -> AsyncIterator[Started]:
    worker = worker_permissions(subjects, deployment="shop", types={"greeter": SHARDED, "helper": STATELESS})
    commands = CommandLine(operator_mode.url, subjects.namespace, tmp_path)
    (tmp_path / "agents.py").write_text(AGENTS)
    commands.environment |= {
        "HIVEWIRE_PROVISION": "off",
        "HIVEWIRE_DEPLOYMENT": "shop",
        "NATS_CREDS": operator_mode.credentials(worker, name=f"{subjects.namespace}.shop"),
    }
    started = commands.start("run", "agents:setup")
    await asyncio.to_thread(started.shows, "is served")
    yield started
    commands.kill_all()


@pytest.fixture
def administrator(operator_mode: OperatorMode, subjects: Subjects, tmp_path: Path) -> Iterator[Administrator]:
    rights = admin_permissions(subjects, stateless=["helper"])
    commands = CommandLine(operator_mode.url, subjects.namespace, tmp_path)
    commands.environment |= {
        "HIVEWIRE_PROVISION": "off",
        "HIVEWIRE_DEPLOYMENT": ADMINISTRATOR,
        "NATS_CREDS": operator_mode.credentials(rights, name=f"{subjects.namespace}.admin"),
    }
    administrator = Administrator(commands)
    yield administrator
    administrator.end()


@pytest.mark.usefixtures("served")
async def test_every_command_works_with_it(administrator: Administrator) -> None:
    # What the operator does for it goes on meanwhile.
    await asyncio.to_thread(work, administrator)


def work(administrator: Administrator) -> None:
    assert "Hello Ada" in administrator("send", "greeter/ada", '"Ada"')
    administrator("publish", "people/ada", '{"name": "Ada"}')
    eventually(lambda: "greeter/ada" in administrator("dead", "ls"), "the event is given up")
    dead = json.loads(administrator("dead", "ls", "--json"))
    assert "nobody to greet" in administrator("dead", "show", "greeter/ada", str(dead["sequence"]))
    assert "nobody to greet" in administrator("trace", dead["id"])
    assert "replayed greeter/ada" in administrator("dead", "replay", "--type", "greeter")
    eventually(lambda: "greeter/ada" in administrator("dead", "ls"), "it is given up again")
    assert "removed greeter/ada" in administrator("dead", "rm", "--all")
    tailing = administrator.starts("tail", "people", "--from-start")
    assert "people/ada" in tailing.shows("people/ada")
    assert [each["type"] for each in json.loads(administrator("ps", "--json"))["types"]] == ["greeter", "helper"]
    assert "helper" in administrator("ps")
    assert "greeter" in administrator("top", "--once")
    assert "greeter/ada" in administrator("state", "ls")
    assert "count" in administrator("state", "get", "greeter/ada")
    assert "reminder" in administrator("schedules", "ls")
    assert "cancelled reminder" in administrator("schedules", "rm", "reminder")
    administrator("state", "rm", "greeter/ada")
    assert "no stored state" in administrator("state", "ls")
