"""Several processes of one pod: `hivewire run --processes`."""

import os
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from broker.cli.commands import CommandLine, Started, eventually, get, health_of, is_running
from hivewire.cli.app import run

pytestmark = pytest.mark.slow

PIDS = r"process (\d) has the id (\d+)"


def pids_of(served: Started) -> dict[str, int]:
    """Return the ids of the processes that run now, by their numbers."""
    return {number: int(pid) for number, pid in re.findall(PIDS, served.output)}


def value(health: str, start: str) -> float:
    """Return the sum of the samples whose lines begin so."""
    _, text = get(f"{health}/metrics")
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(start))


def greet(cli: CommandLine, count: int) -> None:
    for number in range(count):
        cli.publish(f"people/{number}", '{"name": "Ada"}', "--type", "Greet")


def test_processes_add_up_are_started_again_and_drain_together(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "gauge_livesum_1.db").write_bytes(b"of an earlier run")
    served = cli.serve(
        "setup", "--processes", "2", "--health-port", "0", PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics")
    )
    health = health_of(served)
    served.shows("2 processes take messages")
    assert get(f"{health}/readyz") == get(f"{health}/healthz") == (200, "ok")
    greet(cli, 10)
    done = 'hivewire_messages_processed_total{agent_type="greeter",kind="event",result="ok"'
    eventually(lambda: value(health, done) == 10, "not all messages are counted")
    assert value(health, "hivewire_shards_owned{") == 16
    assert value(health, "hivewire_nats_connected{") == 2
    assert value(health, "hivewire_build_info{") == 1

    first = pids_of(served)["1"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: get(f"{health}/readyz") == (503, "process 1 does not run"), "nobody notices")
    assert get(f"{health}/healthz") == (503, "process 1 does not run")
    assert value(health, "hivewire_nats_connected{") == 1
    assert value(health, done) == 10
    served.shows("process 1 ended with exit code -9, and is started again in 1 s")
    served.shows("2 processes take messages", times=2)
    assert get(f"{health}/readyz") == get(f"{health}/healthz") == (200, "ok")
    eventually(lambda: value(health, "hivewire_nats_connected{") == 2, "the new one is not counted")
    eventually(lambda: value(health, "hivewire_shards_owned{") == 16, "the shards have no owner")

    with ThreadPoolExecutor() as others:
        sent = others.submit(cli.prints, "send", "greeter/a", '{"seconds": 3}', "--type", "Wait")
        eventually((tmp_path / "waiting").exists, "the handler does not start")
        served.signal(signal.SIGTERM)
        eventually(lambda: get(f"{health}/readyz") == (503, "the processes drain"), "they stay ready")
        assert sent.result() == '"done"\n'
    assert served.ends() == 0
    assert not [pid for pid in pids_of(served).values() if is_running(pid)]


def test_what_can_not_start_ends_all_of_it(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("async def setup(runtime):\n    raise RuntimeError('the setup went wrong')\n")
    done = cli.run("run", "broken:setup", "--processes", "2")
    assert done.returncode == 1
    assert "the setup went wrong" in done.stderr
    assert re.search(r"hivewire: process \d ended with exit code 1 before it took messages", done.stderr)


def test_an_embedded_broker_is_of_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", "agents:setup", "--broker", "embedded", "--processes", "2"]) == 2
    assert "--processes needs a broker that all of them reach" in capsys.readouterr().err
