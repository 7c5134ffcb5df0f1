"""A whole system under load, with everything that the dashboards look at."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Event, Thread

import httpx

from broker.cli.commands import CommandLine, Started
from documents import free_port
from gateway.processes import GatewayProcess
from hivewire.cli.app import run
from hivewire.nats.embedded import EmbeddedServer
from monitoring.nats_exporter import NatsExporter

PROGRAMS = Path(__file__).parent / "programs"
SYSTEM = "shop"
KEYS = 24
GATEWAY = """
[security]
anonymous = true
[security.principals.anonymous]
publish = ["*"]
send = ["*"]
[security.principals.anonymous.rates]
other = { per_s = 0.1, burst = 1 }
"""
"""Who asks for the description of the agents again and again is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """Where the parts of the system tell what they measure: ports of `/metrics` by scrape jobs."""

    jobs: dict[str, list[int]]
    workers: list[Started]
    gateway_url: str
    cli: CommandLine


@contextmanager
def serving_shop(directory: Path) -> Iterator[Shop]:
    """Run three workers, a gateway, and what stands in for an operator and for the exporter of NATS."""
    monitoring_port = free_port()
    server = EmbeddedServer(config_lines=f"http: 127.0.0.1:{monitoring_port}")
    asyncio.run(server.start())
    with ExitStack() as stack:
        stack.callback(lambda: asyncio.run(server.stop()))
        exporter = stack.enter_context(NatsExporter(f"http://127.0.0.1:{monitoring_port}"))
        cli = CommandLine(server.url, SYSTEM, directory)
        stack.callback(cli.kill_all)
        workers = [cli.start("run", f"{PROGRAMS / 'shop.py'}:setup", "--health-port", "0") for _ in range(2)]
        little = cli.start_program(str(PROGRAMS / "shop.py"))
        operator = cli.start_program(str(PROGRAMS / "operator_metrics.py"), SYSTEM)
        (directory / "gateway.toml").write_text(GATEWAY)
        gateway = GatewayProcess(cli, "--config", "gateway.toml")
        for worker in workers:
            worker.shows("is served:")
        yield Shop(
            jobs={
                "hivewire-workers": [metrics_port(worker) for worker in [*workers, little]],
                "hivewire-gateway": [int(gateway.health_url.rpartition(":")[2])],
                "hivewire-operator": [metrics_port(operator)],
                "nats": [exporter.port],
            },
            workers=workers,
            gateway_url=gateway.url,
            cli=cli,
        )


def metrics_port(started: Started) -> int:
    found = re.search(r"/metrics (?:is|are) served on port (\d+)", started.shows("served on port"))
    assert found is not None, started.output
    return int(found[1])


class Load:
    """Sends messages of all kinds through the gateway until the end: `with Load(shop)`."""

    def __init__(self, shop: Shop, *, pause_s: float = 0.02) -> None:
        self._shop = shop
        self._pause_s = pause_s
        self._ends = Event()
        self._threads = [Thread(target=self._send), Thread(target=self._conflict)]
        self.errors: list[Exception] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        try:
            with httpx.Client(base_url=self._shop.gateway_url, timeout=20) as http:
                for number in count():
                    if self._ends.wait(self._pause_s):
                        return
                    self._send_one(http, number)
        except Exception as error:
            self.errors.append(error)

    def _send_one(self, http: httpx.Client, number: int) -> None:
        key = f"k{number % KEYS}"
        item = {0: "poison", 5: "luck", 10: "luck"}.get(number % 50, "tea")
        order = {"hivewire-message-type": "Order", "idempotency-key": f"{id(self)}-{number}"}
        for _ in range(2 if number % 20 == 1 else 1):
            http.post(f"/v1/topics/orders/{key}", json={"item": item}, headers=order)
        if number % 5 == 0:
            price = {"hivewire-message-type": "Price"}
            http.post(f"/v1/agents/till/{key}", json={"item": "soap" if number % 100 == 0 else "tea"}, headers=price)
        if number % 20 == 0:
            http.get("/openapi.json")
            watch = {"hivewire-message-type": "Watch", "accept": "text/event-stream"}
            http.post(f"/v1/agents/till/{key}", json={"steps": 5}, headers=watch)

    def _conflict(self) -> None:
        """Remove states of agents that have them in memory, whose next writes conflict."""
        while not self._ends.wait(1.0):
            where = ["--broker", self._shop.cli.environment["BROKER_URL"], "--namespace", SYSTEM]
            key = int(time.monotonic()) % KEYS
            run(["state", "rm", f"cart/k{key}", *where])
