"""Gateways in processes of their own, as `hivewire gateway` runs them."""

from __future__ import annotations

import re

from broker.cli.commands import CommandLine, Started, get

__all__ = ["GatewayProcess", "get"]


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
