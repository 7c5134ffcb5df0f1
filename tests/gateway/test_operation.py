"""Gateways as processes: how they start, what they tell a supervisor, and how they end."""

import signal
import urllib.error
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import httpx
import pytest

from broker.cli.commands import CommandLine, eventually
from gateway.conftest import DEADLINE_S
from gateway.processes import GatewayProcess, get
from hivewire.nats.embedded import EmbeddedServer

EVENT = {"ce-specversion": "1.0", "ce-type": "people", "ce-source": "here", "ce-dataschema": "Greet"}


@pytest.fixture
def cli(nats_url: str, namespace: str, tmp_path: Path) -> Iterator[CommandLine]:
    """Runs commands; those that still run are killed at the end."""
    line = CommandLine(nats_url, namespace, tmp_path)
    yield line
    line.kill_all()


def wait_call(url: str, seconds: float) -> httpx.Response:
    headers = {"Hivewire-Message-Type": "Wait"}
    return httpx.post(f"{url}/v1/agents/greeter/a", json={"seconds": seconds}, headers=headers, timeout=DEADLINE_S)


def publish(url: str, event_id: str, name: str) -> httpx.Response:
    headers = {**EVENT, "ce-id": event_id}
    return httpx.post(f"{url}/v1/events", json={"name": name}, headers=headers, timeout=DEADLINE_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_an_open_call_be_answered(cli: CommandLine, tmp_path: Path, number: signal.Signals) -> None:
    cli.serve()
    gateway = GatewayProcess(cli)
    assert gateway.readiness() == (200, "ok")
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(wait_call, gateway.url, 2)
        eventually((tmp_path / "waiting").exists, "the handler does not start")
        gateway.started.signal(number)
        eventually(lambda: gateway.readiness() == (503, "the gateway drains"), "it stays ready while it drains")
        assert get(f"{gateway.health_url}/healthz") == (200, "ok")
        with pytest.raises(httpx.ConnectError):
            publish(gateway.url, "1", "late")
        answer = calling.result(DEADLINE_S)
    assert (answer.status_code, answer.json(), answer.headers["connection"]) == (200, "done", "close")
    assert gateway.started.ends() == 0
    assert "Traceback" not in gateway.started.output and "Exception" not in gateway.started.output
    with pytest.raises(urllib.error.URLError):
        gateway.readiness()


def test_a_call_that_takes_longer_than_the_drain_timeout_is_told_so(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    gateway = GatewayProcess(cli, "--drain-timeout", "0.2")
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(wait_call, gateway.url, 60)
        eventually((tmp_path / "waiting").exists, "the handler does not start")
        gateway.started.signal(signal.SIGTERM)
        answer = calling.result(DEADLINE_S)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "may have taken effect or not" in answer.json()["detail"]
    assert gateway.started.ends() == 0
    assert "1 requests did not finish in time" in gateway.started.output
    assert "Traceback" not in gateway.started.output


def test_a_second_signal_ends_it_at_once(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    gateway = GatewayProcess(cli)
    with ThreadPoolExecutor() as threads:
        calling = threads.submit(wait_call, gateway.url, 60)
        eventually((tmp_path / "waiting").exists, "the handler does not start")
        gateway.started.signal(signal.SIGTERM)
        gateway.started.shows("the gateway drains")
        gateway.started.signal(signal.SIGTERM)
        assert gateway.started.ends() == -signal.SIGTERM
        with pytest.raises(httpx.RemoteProtocolError):
            calling.result(DEADLINE_S)


def test_a_stream_of_events_ends_with_the_gateway(cli: CommandLine) -> None:
    gateway = GatewayProcess(cli)
    with (
        httpx.Client(base_url=gateway.url, timeout=DEADLINE_S) as client,
        client.stream("GET", "/v1/topics/people/events") as stream,
    ):
        assert stream.status_code == 200
        gateway.started.signal(signal.SIGTERM)
        for _ in stream.iter_raw():
            pass
    assert gateway.started.ends() == 0
    assert "Traceback" not in gateway.started.output and "cut off" not in gateway.started.output


async def test_it_ends_without_a_broker_too(namespace: str, tmp_path: Path) -> None:
    async with EmbeddedServer() as server:
        cli = CommandLine(server.url, namespace, tmp_path)
        try:
            gateway = GatewayProcess(cli)
            server.kill()
            eventually(lambda: gateway.readiness()[0] == 503, "it is ready without a broker")
            gateway.started.signal(signal.SIGTERM)
            assert gateway.started.ends() == 0
        finally:
            cli.kill_all()


async def test_it_is_not_ready_without_a_broker_and_comes_back_with_it(namespace: str, tmp_path: Path) -> None:
    async with EmbeddedServer() as server:
        cli = CommandLine(server.url, namespace, tmp_path)
        try:
            gateway = GatewayProcess(cli)
            assert publish(gateway.url, "1", "first").status_code == 202
            connected = f'hivewire_nats_connected{{system="{namespace}"}}'
            assert f"{connected} 1.0" in gateway.metrics()
            server.kill()
            eventually(lambda: gateway.readiness()[0] == 503, "it is ready without a broker")
            assert "there is no connection to NATS" in gateway.readiness()[1]
            eventually(lambda: f"{connected} 0.0" in gateway.metrics(), "it counts as connected")
            assert get(f"{gateway.health_url}/healthz") == (200, "ok")
            await server.restart()
            eventually(lambda: gateway.readiness() == (200, "ok"), "it does not come back")
            assert publish(gateway.url, "2", "second").status_code == 202
        finally:
            cli.kill_all()


def test_two_replicas_are_one_gateway(cli: CommandLine, tmp_path: Path) -> None:
    cli.serve()
    first, second = GatewayProcess(cli), GatewayProcess(cli)
    assert publish(first.url, "1", "one").status_code == 202
    again = publish(second.url, "1", "one")
    assert (again.status_code, again.headers["x-duplicate"]) == (202, "true")
    first.started.kill()
    assert publish(second.url, "2", "two").status_code == 202
    eventually((tmp_path / "seen-one").exists, "the first event does not arrive")
    eventually((tmp_path / "seen-two").exists, "the second event does not arrive")
    assert wait_call(second.url, 0).json() == "done"


def test_a_hook_without_its_secret_is_one_line(cli: CommandLine) -> None:
    (cli.directory / "gateway.toml").write_text(
        '[hooks.forge]\nscheme = "github"\nsecrets = [{file = "forge.secret"}]\ntopic_type = "a"\nsource = "b"\n'
    )
    text = cli.fails("gateway", "--config", "gateway.toml", code=2)
    assert "hooks.forge.secrets: can't use the file forge.secret: " in text and "No such file" in text


def test_a_port_that_is_taken_is_one_line(cli: CommandLine) -> None:
    gateway = GatewayProcess(cli)
    port, metrics_port = (url.rpartition(":")[2] for url in (gateway.url, gateway.health_url))
    text = cli.fails("gateway", "--port", port, "--metrics-port", "0", code=1)
    assert f"can't listen at 127.0.0.1 port {port} (Address already in use)" in text and "--port" in text
    text = cli.fails("gateway", "--port", "0", "--metrics-port", metrics_port, code=1)
    assert f"can't be served at 127.0.0.1 port {metrics_port} (Address already in use)" in text
    assert "--metrics-port" in text


async def test_an_answer_does_not_wait_for_the_acknowledgement_of_its_first_part(http: httpx.AsyncClient) -> None:
    """A client that delays acknowledgements, as they do for 40 ms, is not a reason for a server to wait for them."""
    fastest_s = 1.0
    for _ in range(20):
        begun = perf_counter()
        assert (await http.get("/nowhere")).status_code == 404
        fastest_s = min(fastest_s, perf_counter() - begun)
    assert fastest_s < 0.03
