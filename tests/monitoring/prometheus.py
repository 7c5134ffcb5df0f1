"""A real Prometheus in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from documents import free_port

ROOT = Path(__file__).parents[2]
RULES = ROOT / "k8s/monitoring/rules.yaml"
DEADLINE_S = 30.0
_MISSING = "there is no {}: apt-get install prometheus"

needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason=_MISSING.format("prometheus"))
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason=_MISSING.format("promtool"))


class Prometheus:
    """Scrapes every second, with the rules loaded: `with Prometheus(directory, {"job": [port, ...]})`."""

    def __init__(self, directory: Path, jobs: Mapping[str, list[int]]) -> None:
        self._directory = directory
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [_job(name, ports) for name, ports in jobs.items()],
        }
        # A Prometheus reads YAML, of which JSON is a part.
        (directory / "prometheus.yaml").write_text(json.dumps(config))
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        with (self._directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._directory / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._becomes_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()

    def query(self, expr: str) -> list[Any]:
        """Return the series of an expression now."""
        return self.get("query", query=expr)["result"]

    def get(self, path: str, **parameters: str) -> Any:
        """Return what a page of the API says.

        Raises:
            AssertionError: The query is refused.
        """
        address = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(address, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def _becomes_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5):
                    return
            except OSError:
                log = (self._directory / "prometheus.log").read_text()
                assert self._process.poll() is None and time.monotonic() < deadline, log
                time.sleep(0.05)


def _job(name: str, ports: list[int]) -> dict[str, Any]:
    targets = [f"127.0.0.1:{port}" for port in ports]
    return {"job_name": name, "static_configs": [{"targets": targets}]}
