"""What a gateway counts, as Prometheus reads it."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from gateway.conftest import DEADLINE_S
from gateway.processes import get
from hivewire import (
    AgentId,
    HttpAgentRuntime,
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    TopicId,
    event,
    rpc,
    type_subscription,
)
from hivewire.health import HealthServer, metrics_page
from hivewire.nats.embedded import EmbeddedServer
from hivewire_gateway import GatewayServer, server
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.problems import Problem

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def text_of(gateway: GatewayServer) -> str:
    status, text = await asyncio.to_thread(get, f"{gateway.health_url}/metrics")
    assert status == 200
    return text


async def samples(gateway: GatewayServer) -> Samples:
    text = await text_of(gateway)
    return {
        (sample.name, frozenset(item for item in sample.labels.items() if not is_own(sample) or item[0] != "system")): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def is_own(sample: Sample) -> bool:
    """Tell whether a sample is of the gateway alone, so that its namespace goes without saying."""
    return sample.name.startswith("hivewire_gateway_")


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return f"hivewire_{name}", frozenset(labels.items())


async def requests_of(gateway: GatewayServer) -> dict[tuple[str, str, str], float]:
    return {
        (labels["route"], labels["code"], labels["mode"]): value
        for (name, pairs), value in (await samples(gateway)).items()
        if name == "hivewire_gateway_requests_total" and (labels := dict(pairs))
    }


async def test_requests_are_counted_by_route_never_by_path(
    gateway: GatewayServer, http: httpx.AsyncClient, namespace: str
) -> None:
    for number in range(3):
        assert (await http.get(f"/secret/{number}")).status_code == 404
        assert (await http.put(f"/v1/agents/a/{number}")).status_code == 405
        assert (await http.post(f"/v1/agents/no type/{number}", json={})).status_code == 404
    assert await requests_of(gateway) == {
        ("unmatched", "404", "plain"): 3,
        ("/v1/agents/{type}/{key:path}", "405", "plain"): 3,
        ("/v1/agents/{type}/{key:path}", "404", "plain"): 3,
    }
    found = await samples(gateway)
    assert found[key("gateway_request_duration_seconds_count", route="/v1/agents/{type}/{key:path}")] == 6
    assert found[key("gateway_requests_in_flight")] == 0
    assert found[key("nats_connected", system=namespace)] == 1
    assert [labels for name, labels in found if name == "hivewire_build_info" and ("system", namespace) in labels]
    assert not [name for name, labels in found if "secret" in repr(labels)]
    assert ("process_cpu_seconds_total", frozenset()) in found
    lines = (await text_of(gateway)).splitlines()
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert sorted(helps) == sorted(set(helps))
    assert len({line.rpartition(" ")[0] for line in lines}) == len(lines)


async def test_events_are_counted_by_what_became_of_them(new_gateway: Callable[..., Any], namespace: str) -> None:
    async with EmbeddedServer() as broker:
        gateway = await new_gateway(broker.url, store_timeout_s=0.2)
        headers = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "s", "content-type": "application/json"}
        async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S, headers=headers) as client:
            for event_id, status in (("1", 202), ("2", 202), ("2", 202), ("", 400)):
                answer = await client.post("/v1/events", content=b'"hello"', headers={"ce-id": event_id})
                assert answer.status_code == status
            broker.kill()
            assert (await client.post("/v1/events", json=1, headers={"ce-id": "3"})).status_code in (503, 504)
            found = await samples(gateway)
    results = {result: found[key("gateway_events_total", result=result)] for result in ("accepted", "duplicate")}
    assert results == {"accepted": 2, "duplicate": 1}
    assert found[key("gateway_events_total", result="rejected")] <= 1
    assert found[key("gateway_event_size_bytes_sum")] == 3 * len('"hello"')
    assert found[key("gateway_publish_ack_duration_seconds_count")] == 3


@pytest.mark.parametrize(
    ("mode", "headers"),
    [
        ("binary", {"ce-specversion": "1.0"}),
        ("structured", {"content-type": "Application/CloudEvents+json; charset=utf-8", "ce-specversion": "1.0"}),
        ("batch", {"content-type": "application/cloudevents-batch+json"}),
        ("plain", {"content-type": "application/json"}),
    ],
)
async def test_the_mode_is_that_of_the_request(
    gateway: GatewayServer, http: httpx.AsyncClient, mode: str, headers: dict[str, str]
) -> None:
    await http.post("/v1/events", content=b"?", headers=headers)
    ((route, _, counted),) = await requests_of(gateway)
    assert (route, counted) == ("/v1/events", mode)


async def test_gateways_of_one_process_count_apart(new_gateway: Callable[..., Any]) -> None:
    first, second = await new_gateway(), await new_gateway()
    async with httpx.AsyncClient(base_url=first.url) as client:
        await client.get("/")
    assert list((await requests_of(first)).values()) == [1]
    assert await requests_of(second) == {}


async def test_it_answers_while_the_event_loop_is_busy(gateway: GatewayServer) -> None:
    pages = [f"{gateway.health_url}/{page}" for page in ("metrics", "readyz", "healthz")]
    answered = asyncio.gather(*(asyncio.to_thread(get, page) for page in pages))
    await asyncio.sleep(0)
    time.sleep(0.5)  # that it blocks is the point
    for status, _ in await answered:
        assert status == 200


class Odd:
    """Routes that end in other ways than most."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    def app(self, gateway: Gateway) -> Starlette:
        async def problem(request: Request, error: Exception) -> Response:
            assert isinstance(error, Problem)
            return error.response()

        return Starlette(
            routes=[Route("/stream", self.stream), Route("/limited", self.limited), Route("/broken", self.broken)],
            exception_handlers={Problem: problem},
        )

    async def stream(self, request: Request) -> Response:
        async def events() -> Any:
            yield "data: 1\n\n"
            await self.go_on.wait()

        return StreamingResponse(events(), media_type="text/event-stream")

    async def limited(self, request: Request) -> Response:
        raise Problem(429, "Too many.", headers={"Retry-After": "1"})

    async def broken(self, request: Request) -> Response:
        raise RuntimeError("this is broken")


async def test_streams_are_not_requests_in_flight_and_have_no_duration(
    new_gateway: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Odd()
    monkeypatch.setattr(server, "create_app", odd.app)
    gateway = await new_gateway()
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client,
        client.stream("GET", "/stream") as stream,
    ):
        assert stream.status_code == 200
        during = await samples(gateway)
        odd.go_on.set()
        assert await stream.aread() == b"data: 1\n\n"
    assert during[key("gateway_streams_open")] == 1
    assert during[key("gateway_requests_in_flight")] == 0
    after = await samples(gateway)
    assert after[key("gateway_streams_open")] == 0
    assert after[key("gateway_requests_total", route="/stream", code="200", mode="stream")] == 1
    assert key("gateway_request_duration_seconds_count", route="/stream") not in after


async def test_refusals_and_failures_are_counted(
    new_gateway: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "create_app", Odd().app)
    gateway = await new_gateway()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client:
        assert (await client.get("/limited")).status_code == 429
        assert (await client.get("/broken")).status_code == 500
    found = await samples(gateway)
    assert found[key("gateway_rate_limited_total", route="/limited")] == 1
    assert found[key("gateway_requests_total", route="/broken", code="500", mode="plain")] == 1


@type_subscription("notes")
class Reader(RoutedAgent):
    @rpc
    async def answer(self, message: str, ctx: MessageContext) -> str:
        return message

    @event
    async def read(self, message: str, ctx: MessageContext) -> None:
        pass


async def test_what_it_passes_on_and_what_its_workers_handle_is_counted_here(
    gateway: GatewayServer, http: httpx.AsyncClient, namespace: str
) -> None:
    async with HttpAgentRuntime(gateway.url, drain_timeout=2.0) as worker:
        await Reader.register(worker, "reader", lambda: Reader("reads"))
        assert (await http.post("/v1/agents/reader/a", json="hello")).status_code == 200
        assert (await http.post("/v1/agents/nobody/a?timeout=0.1", json="hello")).status_code in (404, 504)
        headers = {"ce-specversion": "1.0", "ce-type": "notes", "ce-source": "a", "ce-id": "1"}
        assert (await http.post("/v1/events", json="hello", headers=headers)).status_code == 202
        reader = {"system": namespace, "agent_type": "reader"}
        expected = {
            key("messages_published_total", system=namespace, topic="notes", result="ok"): 1,
            key("rpc_duration_seconds_count", **reader, result="ok"): 1,
            key("messages_processed_total", **reader, kind="direct", result="ok"): 1,
            key("messages_processed_total", **reader, kind="event", result="ok"): 1,
            key("message_process_duration_seconds_count", **reader): 2,
            key("agents_active", **reader): 1,
            key("shards_owned", **reader): 16,
        }
        # What the call found out first need not be what its caller was told.
        of_nobody = [
            key("rpc_duration_seconds_count", **{**reader, "agent_type": "other"}, result=result)
            for result in ("not_found", "deadline", "cancelled")
        ]
        deadline = time.monotonic() + DEADLINE_S
        while True:
            found = await samples(gateway)
            seen = {each: found.get(each) for each in expected}
            if seen == expected and sum(found.get(each, 0) for each in of_nobody) == 1:
                return
            assert time.monotonic() < deadline, (seen, {each: found.get(each) for each in of_nobody})
            await asyncio.sleep(0.05)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool: apt-get install prometheus")
async def test_promtool_finds_nothing_to_say_about_what_a_worker_and_a_gateway_show(
    gateway: GatewayServer, http: httpx.AsyncClient, new_runtime: Callable[..., NatsAgentRuntime], namespace: str
) -> None:
    worker = new_runtime()
    await Reader.register(worker, "reader", lambda: Reader("reads"))
    await worker.start()
    assert (await http.post("/v1/agents/reader/a", json="hello")).status_code == 200
    await worker.publish_message("hello", TopicId("notes", "a"))
    await worker.send_message("hello", AgentId("reader", "b"))
    with HealthServer("127.0.0.1", 0, readiness=lambda: worker.ready, pages={"/metrics": metrics_page}) as health:
        pages = [f"{gateway.health_url}/metrics", f"http://127.0.0.1:{health.port}/metrics"]
        published = f'hivewire_messages_published_total{{result="ok",system="{namespace}",topic="notes"}} 1.0'
        async with asyncio.timeout(DEADLINE_S):
            while published not in (await asyncio.to_thread(get, pages[1]))[1]:
                await asyncio.sleep(0.05)
        for page in pages:
            _, text = await asyncio.to_thread(get, page)
            checked = await asyncio.to_thread(
                subprocess.run, ["promtool", "check", "metrics"], input=f"{text}\n", capture_output=True, text=True
            )
            assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
