"""The commands as they are typed."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hivewire.cli.app import run

COMMANDS = ["demo", "dev", "run", "gateway", "send", "publish", "ps", "tail", "state", "dead"]


@pytest.fixture(autouse=True)
def no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BROKER_URL", raising=False)


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> str:
    assert run(list(arguments)) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("hivewire: ") and shown.err.count("\n") == 1, shown.err
    return shown.err


def test_the_help_comes_at_once_and_names_every_command() -> None:
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "hivewire", "--help"], capture_output=True, text=True, check=True)
    # It takes 0.15 s on an idle machine; the bound only notices when the runtimes are imported for it.
    assert time.perf_counter() - begun < 1 or _is_busy(), done.stdout
    assert all(f" {command} " in done.stdout for command in COMMANDS)


def test_the_help_imports_nothing_of_the_runtimes() -> None:
    program = (
        "import sys\nfrom hivewire.cli.app import run\nrun(['--help'])\n"
        "print([name for name in sys.modules if name.startswith(('nats', 'asyncio', 'pydantic', 'hivewire.nats'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    assert command in capsys.readouterr().out


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hivewire 0.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing"], "No such command 'nothing'. Try 'hivewire --help'"),
        (["send", "a/b"], "Missing argument 'message'. Try 'hivewire send --help'"),
        (["send", "a/b", "{}", "--nothing"], "No such option: --nothing"),
        (["send", "a/b", "{}", "--timeout", "soon"], "'--timeout'"),
        (["send", "a/b", "{}", "--timeout", "0"], "a call needs a time above zero"),
        (["send", "a", "{}"], "Invalid agent id 'a'"),
        (["send", "a b/c", "{}"], "Invalid agent type 'a b'"),
        (["send", "a/b", "hello"], "not JSON"),
        (["send", "a/b", "@nowhere.json"], "can't read nowhere.json: No such file"),
        (["send", "a/b", "{}"], "no broker address: use --broker"),
        (["send", "a/b", "{}", "--broker", "http://x"], "'http://x' is not a broker address"),
        (["send", "a/b", "{}", "--broker", "embedded"], "`hivewire dev`"),
        (["send", "a/b", "{}", "--broker", "nats://127.0.0.1", "--namespace", "A.B"], "'A.B' is not a namespace"),
        (["publish", "a", "{}"], "Invalid topic id 'a'"),
        (["publish", "a/b", "{"], "not JSON"),
        (["publish", "a/b", "{}"], "no broker address"),
        (["ps"], "no broker address"),
        (["tail", "a*b"], "a * may stand at its end only"),
        (["tail", ""], "Invalid topic type ''"),
        (["tail", "a"], "no broker address"),
        (["state", "nothing"], "No such command 'nothing'. Try 'hivewire state --help'"),
        (["state", "get", "a"], "Invalid agent id 'a'"),
        (["state", "get", "a/b"], "no broker address"),
        (["state", "ls", "a/b"], "Invalid agent type 'a/b'"),
        (["state", "ls"], "no broker address"),
        (["state", "rm", "a b/c"], "Invalid agent type 'a b'"),
        (["state", "rm", "a/b"], "no broker address"),
        (["dead", "ls", "--since", "soon"], "--since soon: neither a duration"),
        (["dead", "ls", "--type", "a/b"], "Invalid agent type 'a/b'"),
        (["dead", "ls"], "no broker address"),
        (["dead", "show", "a/b"], "Missing argument 'SEQUENCE'"),
        (["dead", "show", "a/b", "0"], "'SEQUENCE'"),
        (["dead", "show", "a", "1"], "Invalid agent id 'a'"),
        (["dead", "show", "a/b", "1"], "no broker address"),
        (["dead", "replay"], "or --all"),
        (["dead", "replay", "a/b"], "SEQUENCE"),
        (["dead", "replay", "a/b", "x"], "'SEQUENCE'"),
        (["dead", "replay", "a/b", "1", "--all"], "exclude each other"),
        (["dead", "replay", "--all"], "no broker address"),
        (["dead", "rm"], "or --all"),
        (["dead", "rm", "--all", "--key", "k"], "exclude each other"),
        (["dead", "rm", "--key", "k"], "no broker address"),
        (["run", "os:setup"], "no broker address"),
        (["run", "os:setup", "--broker", "nats://127.0.0.1", "--log-level", "loud"], "--log-level loud"),
        (["run", "os:setup", "--broker", "nats://127.0.0.1", "--log-format", "xml"], "'xml' is no log format"),
        (["gateway", "--broker", "nats://127.0.0.1", "--log-level", "loud"], "--log-level loud"),
        (["operator", "bootstrap"], "--namespaces"),
        (["operator", "bootstrap", "--namespaces", "*"], "no broker address"),
        (["operator", "bootstrap", "--namespaces", "a, B", "--broker", "nats://n"], "'B' is not a name in Kubernetes"),
        (["operator", "bootstrap", "--namespaces", "a,", "--broker", "nats://n"], "'' is not a name in Kubernetes"),
        (["trace", "m-1", "--broker", "nats://127.0.0.1", "--since", "soon"], "--since soon"),
        (["run", "os:setup", "--broker", "nats://127.0.0.1"], "os has no 'setup'"),
        (["dev", "nowhere.py"], "there is no file nowhere.py"),
        (["dev", "os", "--port", "0"], "'--port'"),
        (["demo", "nowhere"], "there is no file or folder nowhere"),
        (["demo", "--limit", "0"], "'--limit'"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in fails(capsys, *arguments, code=2)


def test_an_interrupted_command_has_the_exit_code_of_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hivewire.cli.ps.ps", interrupted)
    assert run(["ps"]) == 130


def test_the_broker_and_the_namespace_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROKER_URL", "nats://127.0.0.1")
    monkeypatch.setenv("HIVEWIRE_NAMESPACE", "No.Good")
    assert "'No.Good' is not a namespace" in fails(capsys, "ps", code=2)


def _is_busy() -> bool:
    """Tell whether so much else runs on this machine that a second is no bound."""
    load = Path("/proc/loadavg")
    return load.exists() and float(load.read_text().split()[0]) > 4
