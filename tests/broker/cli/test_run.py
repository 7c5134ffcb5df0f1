"""`hivewire run`: a process that serves agents, as a pod does."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from broker.cli.commands import AGENTS, CommandLine, Started, eventually, is_running
from hivewire.cli.lifeline import VARIABLE


def start(cli: CommandLine, setup: str, *arguments: str) -> Started:
    (cli.directory / "agents.py").write_text(AGENTS)
    return cli.start("run", setup, *arguments)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_it(cli: CommandLine, number: signal.Signals) -> None:
    served = cli.serve()
    served.signal(number)
    assert served.ends() == 0
    assert "agents:setup drains" in served.output
    assert "Traceback" not in served.output


def test_a_running_call_is_answered_before_it_ends(cli: CommandLine, tmp_path: Path) -> None:
    served = cli.serve()
    sending = cli.start("send", "greeter/a", '{"seconds": 1}', "--type", "Wait")
    eventually((tmp_path / "waiting").exists, "the handler does not start")
    served.signal(signal.SIGTERM)
    assert (sending.ends(), sending.output) == (0, '"done"\n')
    assert served.ends() == 0


def test_handlers_that_take_longer_than_the_drain_timeout_are_cancelled(cli: CommandLine, tmp_path: Path) -> None:
    served = cli.serve("setup", "--drain-timeout", "0.1")
    sending = cli.start("send", "greeter/a", '{"seconds": 60}', "--type", "Wait")
    eventually((tmp_path / "waiting").exists, "the handler does not start")
    served.signal(signal.SIGTERM)
    assert served.ends() == 0
    sending.kill()


def test_a_second_signal_ends_it_at_once(cli: CommandLine, tmp_path: Path) -> None:
    served = cli.serve()
    cli.start("send", "greeter/a", '{"seconds": 60}', "--type", "Wait")
    eventually((tmp_path / "waiting").exists, "the handler does not start")
    served.signal(signal.SIGTERM)
    served.shows("drains")
    served.signal(signal.SIGTERM)
    assert served.ends() == -signal.SIGTERM


def test_a_signal_during_the_setup_ends_it(cli: CommandLine) -> None:
    (cli.directory / "slow.py").write_text(
        textwrap.dedent(
            """
            import asyncio

            async def setup(runtime):
                print("setting up", flush=True)
                await asyncio.sleep(60)
            """
        )
    )
    started = cli.start("run", "slow:setup")
    started.shows("setting up")
    started.signal(signal.SIGTERM)
    assert started.ends() == 0
    assert "Traceback" not in started.output


def test_it_ends_when_an_agent_stops_the_runtime(cli: CommandLine) -> None:
    (cli.directory / "stops.py").write_text(
        textwrap.dedent(
            """
            from hivewire import ClosureAgent

            async def setup(runtime):
                async def stop(agent, message: str, ctx) -> None:
                    await runtime.stop()

                await ClosureAgent.register_closure(runtime, "stopper", stop)
            """
        )
    )
    started = cli.start("run", "stops:setup")
    started.shows("is served")
    cli.start("send", "stopper/a", '"now"')
    assert started.ends() == 0


def test_a_file_is_as_good_as_a_module(cli: CommandLine) -> None:
    served = start(cli, "agents.py")
    served.shows("agents.py:setup is served")


def test_an_embedded_broker_will_do(cli: CommandLine) -> None:
    started = start(cli, "agents:setup", "--broker", "embedded")
    started.shows("is served")
    started.signal(signal.SIGTERM)
    assert started.ends() == 0


def test_an_error_in_the_setup_shows_the_traceback_of_the_users_code(cli: CommandLine) -> None:
    started = start(cli, "agents:fails")
    assert started.ends() == 1
    assert started.output.endswith("hivewire: agents:fails raised RuntimeError: the setup went wrong\n")
    assert 'raise RuntimeError("the setup went wrong")' in started.output
    assert "hivewire/cli" not in started.output


def test_an_error_in_the_module_shows_the_traceback_of_the_users_code(cli: CommandLine) -> None:
    (cli.directory / "broken.py").write_text("import os\n1 / 0\n")
    started = cli.start("run", "broken:setup")
    assert started.ends() == 1
    assert "1 / 0" in started.output and "hivewire/cli" not in started.output
    assert started.output.endswith("hivewire: broken raised ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nowhere:setup", "no module 'nowhere'"),
        ("agents.nowhere:setup", "no module 'agents.nowhere'"),
        ("agents:absent", "agents has no 'absent': write `async def absent(runtime)`"),
        ("agents:not_a_function", "not a function"),
        ("nowhere.py", "no file nowhere.py"),
        ("a b:setup", "neither a module"),
        ("agents:a-b", "not the name of a function"),
    ],
)
def test_a_target_that_is_not_there_is_one_line(cli: CommandLine, target: str, says: str) -> None:
    started = start(cli, target)
    assert started.ends() == 2
    assert says in started.output and started.output.count("\n") == 1, started.output


def test_a_setup_that_starts_the_runtime_is_told_not_to(cli: CommandLine) -> None:
    started = start(cli, "agents:starts")
    assert started.ends() == 1
    assert "leave the start to `hivewire run`" in started.output and "Traceback" not in started.output


def test_a_child_ends_with_its_parent_and_leaves_ctrl_c_to_it(cli: CommandLine) -> None:
    (cli.directory / "agents.py").write_text(AGENTS)
    parent = textwrap.dedent(
        f"""
        import os, subprocess, sys
        reading, _ = os.pipe()
        environment = {{**os.environ, "{VARIABLE}": str(reading)}}
        command = [sys.executable, "-m", "hivewire", "run", "agents:setup"]
        child = subprocess.Popen(command, env=environment, pass_fds=[reading])
        print(child.pid, flush=True)
        child.wait()
        """
    )
    log = cli.directory / "child.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-c", parent],
            cwd=cli.directory,
            env=cli.environment,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        child = int(process.stdout.readline())
        eventually(lambda: "is served" in log.read_text(), "the child does not serve")
        subprocess.run(["kill", "-INT", str(child)], check=True)
        assert is_running(child)
        process.kill()
    eventually(lambda: not is_running(child), "the child outlives its parent")
    assert "drains" in log.read_text()
