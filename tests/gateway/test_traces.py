"""Traces of messages that cross processes, as real collectors get them."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider

from broker.cli.commands import CommandLine, Started
from gateway.conftest import NewRuntime
from gateway.processes import GatewayProcess
from hivewire import AgentId
from otlp_receivers import Received, ReceivedSpan, grpc_receiver, http_receiver

pytestmark = pytest.mark.slow

SECRET = "attack at dawn"

AGENTS = '''
from dataclasses import dataclass

from hivewire import AgentId, MessageContext, RoutedAgent, TopicId, event, rpc, trace_tool_span, type_subscription


@dataclass
class Order:
    text: str


@dataclass
class Note:
    text: str


@type_subscription("orders")
class Desk(RoutedAgent):
    """Asks the clerk."""

    @rpc
    async def take(self, message: Order, ctx: MessageContext) -> str:
        await self.publish_message(Note(message.text), TopicId("notes", self.id.key))
        with trace_tool_span("post"):
            return await self.send_message(message, AgentId("clerk", self.id.key))

    @event
    async def note(self, message: Order, ctx: MessageContext) -> None:
        await self.send_message(message, AgentId("clerk", self.id.key))


class Clerk(RoutedAgent):
    """Does the work."""

    @rpc
    async def stamp(self, message: Order, ctx: MessageContext) -> str:
        if message.text == "refuse":
            raise ValueError("the clerk refuses")
        return f"stamped: {message.text}"


@type_subscription("notes")
class Cabinet(RoutedAgent):
    """Keeps things."""

    @event
    async def file(self, message: Note, ctx: MessageContext) -> None:
        pass


async def desks(runtime):
    await Desk.register(runtime, "desk", lambda: Desk("a desk"))


async def clerks(runtime):
    await Clerk.register(runtime, "clerk", lambda: Clerk("a clerk"))
    await Cabinet.register(runtime, "cabinet", lambda: Cabinet("a cabinet"))
'''


@dataclass
class Order:
    text: str


SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


def command_line(nats_url: str, directory: Path) -> CommandLine:
    (directory / "offices.py").write_text(AGENTS)
    cli = CommandLine(nats_url, f"t{secrets.token_hex(6)}", directory)
    for name in [name for name in cli.environment if name.startswith("OTEL_")]:
        del cli.environment[name]
    return cli


@dataclass
class System:
    """A gateway and two workers, which send their spans by different protocols."""

    gateway: GatewayProcess
    workers: list[Started]
    received: Received
    collectors: ExitStack

    def order(self, text: str, key: str, **headers: str) -> httpx.Response:
        return httpx.post(
            f"{self.gateway.url}/v1/agents/desk/{key}",
            json={"text": text},
            headers={"Hivewire-Message-Type": "Order", **headers},
            timeout=20,
        )


@pytest.fixture(scope="module")
def system(nats_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    cli = command_line(nats_url, tmp_path_factory.mktemp("traces"))
    received = Received()
    with ExitStack() as collectors:
        over_grpc = collectors.enter_context(grpc_receiver(received))
        over_http = collectors.enter_context(http_receiver(received))
        grpc = {**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": over_grpc, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
        http = {**SOON, "OTEL_EXPORTER_OTLP_ENDPOINT": over_http}
        workers = [
            cli.start("run", "offices:desks", "--deployment", "desks", "--instance-id", "desks-1", **grpc),
            cli.start("run", "offices:clerks", "--deployment", "clerks", "--instance-id", "clerks-1", **http),
        ]
        try:
            gateway = GatewayProcess(cli, **http)
            for worker in workers:
                worker.shows("is served")
            yield System(gateway, workers, received, collectors)
        finally:
            cli.kill_all()


def new_trace(flags: str = "01") -> tuple[str, str, str]:
    """Return the ids of a trace and of a client's span in it, and the header that names them."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-{flags}"


CALL = "POST /v1/agents/{type}/{key:path}"


def parents(spans: dict[str, ReceivedSpan]) -> dict[str, str]:
    """Return the names of the spans' parents; the id of one that is not there."""
    names = {span.id: name for name, span in spans.items()}
    return {name: names.get(span.parent, span.parent) for name, span in spans.items()}


def test_a_request_is_one_trace_over_three_processes(system: System) -> None:
    trace, client, header = new_trace()
    assert system.order(SECRET, "one", traceparent=header).json() == f"stamped: {SECRET}"

    spans = system.received.of_trace(trace, 11)
    assert parents(spans) == {
        CALL: client,
        "autogen create desk.(one)-A": CALL,
        "create_agent desk": "autogen create desk.(one)-A",
        "autogen process desk.(one)-A": "autogen create desk.(one)-A",
        "autogen create notes.(one)-T": "autogen process desk.(one)-A",
        "create_agent cabinet": "autogen create notes.(one)-T",
        "autogen process cabinet.(one)-A": "autogen create notes.(one)-T",
        "execute_tool post": "autogen process desk.(one)-A",
        "autogen create clerk.(one)-A": "execute_tool post",
        "create_agent clerk": "autogen create clerk.(one)-A",
        "autogen process clerk.(one)-A": "autogen create clerk.(one)-A",
    }
    published, filed = spans["autogen create notes.(one)-T"], spans["autogen process cabinet.(one)-A"]
    assert filed.links == [published.id]
    assert {name: span.service for name, span in spans.items() if "create" not in name} == {
        CALL: "hivewire-gateway",
        "autogen process desk.(one)-A": "desks",
        "execute_tool post": "desks",
        "autogen process clerk.(one)-A": "clerks",
        "autogen process cabinet.(one)-A": "clerks",
    }
    assert [published.resource["service.instance.id"], filed.resource["service.instance.id"]] == ["desks-1", "clerks-1"]
    assert {kind: sum(span.kind == kind for span in spans.values()) for kind in ("SERVER", "PRODUCER", "CONSUMER")} == {
        "SERVER": 1,
        "PRODUCER": 3,
        "CONSUMER": 3,
    }
    assert not any(span.failed for span in spans.values())
    assert SECRET.encode() not in system.received.raw


def test_an_event_is_one_trace_over_three_processes(system: System) -> None:
    trace, client, header = new_trace()
    event = {"specversion": "1.0", "id": "e1", "type": "orders", "source": "two", "data": {"text": SECRET}}
    answer = httpx.post(
        f"{system.gateway.url}/v1/events",
        json={**event, "dataschema": "Order"},
        headers={"Content-Type": "application/cloudevents+json", "Hivewire-Message-Type": "Order"},
        params={"secret": "query"},
        timeout=20,
    )
    assert answer.status_code == 202
    # One that names its own trace, which began elsewhere.
    answer = httpx.post(
        f"{system.gateway.url}/v1/events",
        json={**event, "id": "e2", "source": "three", "traceparent": header},
        headers={"Content-Type": "application/cloudevents+json", "Hivewire-Message-Type": "Order"},
        timeout=20,
    )
    assert answer.status_code == 202

    spans = system.received.of_trace(trace, 6)
    assert parents(spans) == {
        "autogen create orders.(three)-T": client,
        "create_agent desk": "autogen create orders.(three)-T",
        "autogen process desk.(three)-A": "autogen create orders.(three)-T",
        "autogen create clerk.(three)-A": "autogen process desk.(three)-A",
        "create_agent clerk": "autogen create clerk.(three)-A",
        "autogen process clerk.(three)-A": "autogen create clerk.(three)-A",
    }
    (request,) = spans["autogen create orders.(three)-T"].links
    system.received.wait(lambda: any(span.id == request for span in system.received.spans))
    (served,) = [span for span in system.received.spans if span.id == request]
    assert served.name == "POST /v1/events"
    assert (served.kind, served.parent) == ("SERVER", "")
    assert served.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/events",
        "http.response.status_code": 202,
        "url.scheme": "http",
    }
    first = next(span for span in system.received.spans if span.name == "autogen create orders.(two)-T")
    assert parents(system.received.of_trace(first.trace, 7))[first.name] == "POST /v1/events"
    assert SECRET.encode() not in system.received.raw
    assert b"secret" not in system.received.raw


def test_a_failure_is_recorded_wherever_it_passes(system: System) -> None:
    trace, _, header = new_trace()
    assert system.order("refuse", "four", traceparent=header).status_code == 500

    spans = system.received.of_trace(trace, 11)
    for name in ("process clerk.(four)-A", "create clerk.(four)-A", "process desk.(four)-A", "create desk.(four)-A"):
        span = spans[f"autogen {name}"]
        assert span.failed
        assert span.attributes["error.type"] == "ValueError"
        assert span.events == ["exception"]
    assert spans["execute_tool post"].failed
    assert (spans[CALL].failed, spans[CALL].attributes["error.type"]) == (True, "500")
    assert not spans["autogen create notes.(four)-T"].failed


def test_what_the_client_does_not_sample_is_not_sent(system: System) -> None:
    trace, _, header = new_trace(flags="00")
    assert system.order(SECRET, "five", traceparent=header).status_code == 200
    later, _, header = new_trace()
    assert system.order(SECRET, "five", traceparent=header).status_code == 200
    # What the workers sent since then would have come with this.
    system.received.of_trace(later, 8)
    assert not any(span.trace == trace for span in system.received.spans)


async def test_of_traces_that_the_sampler_leaves_out_nothing_is_sent(
    nats_url: str, tmp_path: Path, new_runtime: NewRuntime
) -> None:
    cli = command_line(nats_url, tmp_path)
    received = Received()
    try:
        with http_receiver(received) as address:
            worker = cli.start(
                "run",
                "offices:clerks",
                OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{address}/v1/traces",
                OTEL_TRACES_SAMPLER="parentbased_traceidratio",
                OTEL_TRACES_SAMPLER_ARG="0",
                OTEL_EXPORTER_OTLP_HEADERS="x-token=abc%20d",
                OTEL_RESOURCE_ATTRIBUTES="service.name=mine,team=blue",
            )
            await asyncio.to_thread(worker.shows, "is served")
            where = cli.environment["HIVEWIRE_NAMESPACE"]
            plain, tracing = (
                new_runtime(namespace=where),
                new_runtime(namespace=where, tracer_provider=TracerProvider()),
            )
            for client in (plain, tracing):
                await client.connect()
                assert await client.send_message(Order("x"), AgentId("clerk", "a")) == "stamped: x"
            worker.signal(SIGTERM)
            assert await asyncio.to_thread(worker.ends) == 0
        # The last spans were sent at the end, and only those of the client that samples.
        assert [span.name for span in received.spans] == ["autogen process clerk.(a)-A"]
        (span,) = received.spans
        assert (span.service, span.resource["team"]) == ("mine", "blue")
        assert received.headers["x-token"] == "abc d"
    finally:
        cli.kill_all()


def test_a_variable_that_can_not_be_followed_is_one_line(nats_url: str, tmp_path: Path) -> None:
    cli = command_line(nats_url, tmp_path)
    cli.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_SAMPLER": "some"}
    refused = cli.fails("gateway", "--port", "0", "--metrics-port", "0", code=2)
    assert "OTEL_TRACES_SAMPLER=some: there are only always_on" in refused


# The last one, as it ends what the others use.
def test_without_collectors_messages_go_on_and_processes_end_in_time(system: System) -> None:
    system.collectors.close()
    for _ in range(3):
        begun = time.monotonic()
        assert system.order("x", "six").status_code == 200
        assert time.monotonic() - begun < 5
    processes = [*system.workers, system.gateway.started]
    for process in processes:
        process.shows("the export of spans has trouble")
    begun = time.monotonic()
    for process in processes:
        process.signal(SIGTERM)
    assert [process.ends() for process in processes] == [0, 0, 0]
    assert time.monotonic() - begun < 15
    for process in processes:
        assert process.output.count("the export of spans has trouble") == 1
        assert "Traceback" not in process.output
