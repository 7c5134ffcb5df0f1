"""Traces that pass a gateway, whether it records anything of them or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, format_span_id, format_trace_id

from gateway.conftest import DEADLINE_S, NewRuntime, until
from hivewire import HttpAgentRuntime, MessageContext, RoutedAgent, TopicId, TypeSubscription, event, rpc
from hivewire.relay import RelayRuntime
from hivewire_gateway import GatewayServer, Settings

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CLIENT}-01", "tracestate": "a=b"}


@dataclass
class Text:
    value: str


class Reader(RoutedAgent):
    """Publishes what it is asked to, and reads it."""

    @rpc
    async def ask(self, message: Text, ctx: MessageContext) -> str:
        if message.value == "fail":
            raise LookupError("boom")
        if message.value == "publish":
            await self.publish_message(Text("published"), TopicId("t", "k"))
        return message.value

    @event
    async def read(self, message: Text, ctx: MessageContext) -> None:
        pass


class Traced:
    """A provider whose finished spans can be read back."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    async def one(self, name: str) -> ReadableSpan:
        await until(lambda: any(span.name == name for span in self.spans))
        (span,) = [span for span in self.spans if span.name == name]
        return span


def came_from(span: ReadableSpan) -> tuple[str, str]:
    """Return the trace of a span and its parent."""
    assert span.parent is not None
    return format_trace_id(span.context.trace_id), format_span_id(span.parent.span_id)


@pytest.fixture
def traced() -> Traced:
    return Traced()


async def serve(runtime: Any, agent_type: str = "reader", topic: str = "t") -> None:
    await runtime.register_factory(agent_type, lambda: Reader("reads"), expected_class=Reader)
    await runtime.add_subscription(TypeSubscription(topic, agent_type))
    await runtime.start()


@pytest.fixture
async def recording(nats_url: str, namespace: str, traced: Traced) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a gateway that records."""
    async with RelayRuntime(nats_url, namespace=namespace, tracer_provider=traced.provider) as relay:
        settings = Settings(port=0, metrics_port=0, drain_timeout_s=2.0)
        async with (
            GatewayServer(relay, settings) as server,
            httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as http,
        ):
            yield http


async def ask(http: httpx.AsyncClient, value: str = "x", **headers: str) -> httpx.Response:
    headers = {"Hivewire-Message-Type": "Text", **headers}
    return await http.post("/v1/agents/reader/k", json={"value": value}, headers=headers)


async def test_a_gateway_that_records_nothing_passes_the_clients_trace_on(
    http: httpx.AsyncClient, new_runtime: NewRuntime, traced: Traced
) -> None:
    await serve(new_runtime(tracer_provider=traced.provider))
    assert (await ask(http, **HEADERS)).status_code == 200
    called = await traced.one("autogen process reader.(k)-A")
    assert came_from(called) == (TRACE, CLIENT)
    assert called.context.trace_state.to_header() == "a=b"

    body, headers = {"value": "x"}, {"Hivewire-Message-Type": "Text", **HEADERS}
    assert (await http.post("/v1/topics/t/other", json=body, headers=headers)).status_code == 202
    assert came_from(await traced.one("autogen process reader.(other)-A")) == (TRACE, CLIENT)

    answer = await http.post(
        "/v1/agents/reader/streamed", json=body, headers={**headers, "Accept": "text/event-stream"}
    )
    assert answer.status_code == 200
    assert came_from(await traced.one("autogen process reader.(streamed)-A")) == (TRACE, CLIENT)


@pytest.mark.parametrize("parent", ["", "nonsense", f"00-{'0' * 32}-{CLIENT}-01"])
async def test_a_trace_that_is_malformed_counts_as_not_sent(
    http: httpx.AsyncClient, new_runtime: NewRuntime, traced: Traced, parent: str
) -> None:
    await serve(new_runtime(tracer_provider=traced.provider))
    assert (await ask(http, traceparent=parent)).status_code == 200
    assert (await traced.one("autogen process reader.(k)-A")).parent is None


async def test_a_worker_over_http_that_traces_nothing_does_not_break_a_trace(
    gateway: GatewayServer, http: httpx.AsyncClient, new_runtime: NewRuntime, traced: Traced
) -> None:
    await serve(new_runtime(tracer_provider=traced.provider), "other")
    async with HttpAgentRuntime(gateway.url) as worker:
        await serve_started(worker)
        assert (await ask(http, "publish", **HEADERS)).status_code == 200
        assert came_from(await traced.one("autogen process other.(k)-A")) == (TRACE, CLIENT)


async def serve_started(runtime: HttpAgentRuntime) -> None:
    await runtime.register_factory("reader", lambda: Reader("reads"), expected_class=Reader)


async def test_a_worker_over_http_is_in_the_trace_of_a_gateway_that_records(
    recording: httpx.AsyncClient, traced: Traced
) -> None:
    workers = Traced()
    async with HttpAgentRuntime(str(recording.base_url).rstrip("/"), tracer_provider=workers.provider) as worker:
        await serve_started(worker)
        assert (await ask(recording, **HEADERS)).status_code == 200
    sent, called = await traced.one("autogen create reader.(k)-A"), await workers.one("autogen process reader.(k)-A")
    assert came_from(called) == (TRACE, format_span_id(sent.context.span_id))
    assert came_from(await workers.one("create_agent reader")) == came_from(called)
    assert [span.name for span in traced.spans if "process" in span.name] == []


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("GET", "/no/such", "GET", 404),
        ("BREW", "/v1/events", "HTTP /v1/events", 405),
        ("POST", "/v1/events?token=secret", "POST /v1/events", 415),
        ("GET", "/v1/topics/t", "GET", 404),
    ],
)
async def test_a_request_that_is_refused_has_a_span_without_anything_of_the_clients(
    recording: httpx.AsyncClient, traced: Traced, method: str, path: str, name: str, status: int
) -> None:
    assert (await recording.request(method, path, content=b"secret")).status_code == status
    span = await traced.one(name)
    expected = {
        "http.request.method": "_OTHER" if method == "BREW" else method,
        "http.response.status_code": status,
        "url.scheme": "http",
    }
    assert dict(span.attributes or {}) == expected | ({"http.route": name.split()[1]} if " " in name else {})
    assert span.status.status_code is StatusCode.UNSET
    assert "secret" not in span.to_json()


async def test_what_fails_behind_the_gateway_is_an_error_of_the_request(
    recording: httpx.AsyncClient, new_runtime: NewRuntime, traced: Traced
) -> None:
    await serve(new_runtime())
    assert (await ask(recording, "fail")).status_code == 500
    span = await traced.one("POST /v1/agents/{type}/{key:path}")
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "500"
    assert span.parent is None


async def test_each_event_of_a_batch_has_a_span_of_its_own(recording: httpx.AsyncClient, traced: Traced) -> None:
    events = [
        {"specversion": "1.0", "id": str(number), "type": "t", "source": f"s{number}", "data": {}}
        for number in range(3)
    ]
    answer = await recording.post(
        "/v1/events", json=events, headers={"Content-Type": "application/cloudevents-batch+json", **HEADERS}
    )
    assert answer.status_code == 202
    request = await traced.one("POST /v1/events")
    assert came_from(request) == (TRACE, CLIENT)
    for number in range(3):
        created = await traced.one(f"autogen create t.(s{number})-T")
        assert came_from(created) == (TRACE, format_span_id(request.context.span_id))
        assert (created.attributes or {})["messaging.message.id"] == str(number)
