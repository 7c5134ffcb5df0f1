"""The text that Prometheus reads, of several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hivewire.telemetry.exposition import metrics_text

PROGRAM = """
import os, sys
from hivewire.telemetry import RuntimeMetrics
metrics = RuntimeMetrics("shared", component="worker", version="0")
metrics.nats_connected.value = 1
for _ in range(int(sys.argv[1])):
    metrics.message("a", "direct", message_type="M", size_bytes=1).finished("ok")
metrics.tell()
os.write(1, b"told")
sys.stdin.read()
"""


@pytest.mark.parametrize("dead", [True, False])
def test_counters_of_the_dead_stay_and_their_gauges_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead: bool
) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, count], env=environment, stdin=pipe, stdout=pipe)
        for count in ("2", "3")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.read(4) == b"told"
        if dead:
            processes[0].kill()
            processes[0].wait()
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
        lines = metrics_text().decode().splitlines()
        processed = 'hivewire_messages_processed_total{agent_type="a",kind="direct",result="ok",system="shared"}'
        assert f"{processed} 5.0" in lines
        assert f'hivewire_nats_connected{{system="shared"}} {1.0 if dead else 2.0}' in lines
    finally:
        for process in processes:
            process.kill()
            process.communicate()
