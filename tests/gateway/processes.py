"""Gateways in processes of their own, as `hivewire gateway` runs them."""

from __future__ import annotations

import re
import urllib.error
import urllib.request

from broker.cli.commands import CommandLine, Started


class GatewayProcess:
    """A gateway that listens on free ports."""

    def __init__(self, cli: CommandLine, *arguments: str, **environment: str) -> None:
        self.started: Started = cli.start("gateway", "--port", "0", "--metrics-port", "0", *arguments, **environment)
        output = self.started.shows("the gateway listens at")
        found = re.search(r"the gateway listens at ([^\s;]+); health and metrics are at ([^\s\"]+)", output)
        assert found is not None, output
        self.url, self.health_url = found.groups()

    def readiness(self) -> tuple[int, str]:
        return get(f"{self.health_url}/readyz")

    def metrics(self) -> str:
        return get(f"{self.health_url}/metrics")[1]


def get(url: str) -> tuple[int, str]:
    """Return the status and the body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode().strip()
