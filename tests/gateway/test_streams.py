"""Streamed answers as server-sent events."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from gateway.conftest import DEADLINE_S, NewGateway, NewRuntime, until
from gateway.sse_client import Seen, collected, events_of
from hivewire import MessageContext, RoutedAgent, message_handler

SSE = {"Accept": "text/event-stream"}


@dataclass
class Count:
    to: int
    fails: bool = False
    pause: float = 0.0


@dataclass
class Number:
    value: int
    text: str = "line\nline"


class Counter(RoutedAgent):
    def __init__(self, log: list[str]) -> None:
        super().__init__("counts")
        self.log = log

    @message_handler
    async def on_count(self, message: Count, ctx: MessageContext) -> AsyncIterator[Number]:
        self.log.append("begun")
        try:
            for value in range(1, message.to + 1):
                yield Number(value)
                await asyncio.sleep(message.pause)
            if message.fails:
                raise ValueError("no more numbers")
            self.log.append("done")
        finally:
            self.log.append("closed")

    @message_handler
    async def on_text(self, message: str, ctx: MessageContext) -> AsyncIterator[StringValue | None]:
        yield StringValue(value=message)
        yield None

    @message_handler
    async def on_number(self, message: int, ctx: MessageContext) -> int:
        return message


@pytest.fixture
async def log(new_runtime: NewRuntime) -> list[str]:
    """What the counter has noted. The counter is served."""
    noted: list[str] = []
    runtime = new_runtime()
    await Counter.register(runtime, "counter", lambda: Counter(noted))
    await runtime.start()
    return noted


def count(to: int, **options: object) -> dict[str, object]:
    headers = {**SSE, "Hivewire-Message-Type": "Count"}
    return {"json": {"to": to, **options}, "headers": headers}


async def test_chunks_are_numbered_events_and_the_end_is_told(http: httpx.AsyncClient, log: list[str]) -> None:
    seen = await collected(http, "POST", "/v1/agents/counter/k", **count(3))
    assert [(each.event, each.id) for each in seen] == [
        ("message", "1"),
        ("message", "2"),
        ("message", "3"),
        ("end", "3.end"),
    ]
    assert json.loads(seen[1].data) == {"value": 2, "text": "line\nline"}
    assert seen[1].fields == {"type": "Number"}
    assert json.loads(seen[3].data) == {"chunks": 3}


@pytest.mark.usefixtures("log")
async def test_what_is_not_json_comes_as_base64_and_a_plain_answer_as_one_chunk(http: httpx.AsyncClient) -> None:
    binary, nothing, _ = await collected(http, "POST", "/v1/agents/counter/k", json="tea", headers=SSE)
    document = json.loads(binary.data)
    assert document["type"] == "google.protobuf.StringValue"
    assert document["content_type"] == "application/x-protobuf"
    assert b"tea" in base64.b64decode(document["data_base64"])
    assert nothing.data == "null"
    only, end = await collected(http, "POST", "/v1/agents/counter/k", json=7, headers=SSE)
    assert (only.data, end.event) == ("7", "end")


@pytest.mark.usefixtures("log")
async def test_an_error_is_an_event_after_chunks_and_a_plain_problem_before_the_first(http: httpx.AsyncClient) -> None:
    chunk, error = await collected(http, "POST", "/v1/agents/counter/k", **count(1, fails=True))
    assert (chunk.event, error.event, error.id) == ("message", "error", "1.end")
    assert json.loads(error.data)["error_type"] == "ValueError"
    assert json.loads(error.data)["detail"] == "no more numbers"

    for options, status in (
        (count(0, fails=True), 500),
        ({"json": {"to": "many"}, "headers": count(0)["headers"]}, 422),
    ):
        answer = await http.post("/v1/agents/counter/k", **options)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await http.post("/v1/agents/nobody/k", json="x", headers=SSE)).status_code == 404


async def test_a_client_that_leaves_closes_the_handler(http: httpx.AsyncClient, log: list[str]) -> None:
    async with http.stream("POST", "/v1/agents/counter/k", **count(10_000, pause=0.01)) as response:
        events = events_of(response)
        assert (await anext(events)).id == "1"
    await until(lambda: log[-1] == "closed")
    assert "done" not in log


async def test_a_handler_is_never_far_ahead_of_its_reader(http: httpx.AsyncClient, log: list[str]) -> None:
    text = {"json": {"to": 100_000}, "headers": count(0)["headers"]}
    async with http.stream("POST", "/v1/agents/counter/k", **text) as response:
        # What the kernel and the client keep is far less than all of it.
        await asyncio.sleep(1)
        assert "done" not in log
        first = [each async for each in _first(events_of(response), 5)]
    assert [each.id for each in first] == ["1", "2", "3", "4", "5"]
    await until(lambda: log[-1] == "closed")
    assert "done" not in log


async def test_silence_is_filled_with_comments_and_errors_after_them_are_events(
    new_gateway: NewGateway, log: list[str]
) -> None:
    gateway = await new_gateway(event_streams={"heartbeat_s": 0.1})
    slow = count(1, fails=True, pause=0.5)
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http,
        http.stream("POST", "/v1/agents/counter/k", **slow) as response,
    ):
        lines = [line async for line in response.aiter_lines()]
    assert lines[0] == "retry: 2000"
    assert lines.count(":") + lines.count(": ") >= 3
    assert "event: error" in lines


@pytest.mark.usefixtures("log")
async def test_a_stream_is_resumed_after_its_last_chunk(http: httpx.AsyncClient, new_gateway: NewGateway) -> None:
    url = "/v1/agents/counter/k?resumable=true"
    async with http.stream("POST", url, **count(50, pause=0.01)) as response:
        stream_id = response.headers["hivewire-stream-id"]
        assert response.headers["content-location"] == f"/v1/streams/{stream_id}"
        seen = [each async for each in _first(events_of(response), 3)]

    other = await new_gateway()
    async with httpx.AsyncClient(base_url=other.url, timeout=DEADLINE_S) as elsewhere:
        seen += await collected(elsewhere, "GET", f"/v1/streams/{stream_id}", headers={"Last-Event-ID": "3"})
        assert [each.id for each in seen] == [*map(str, range(1, 51)), "50.end"]
        again = await collected(elsewhere, "GET", f"/v1/streams/{stream_id}?last_event_id=49")
        assert [each.id for each in again] == ["50", "50.end"]
        # Now a browser stays away.
        ended = await elsewhere.get(f"/v1/streams/{stream_id}", headers={"Last-Event-ID": "50.end"})
        assert ended.status_code == 204


async def test_a_resumable_stream_goes_on_without_its_reader_and_is_cancelled_by_name(
    http: httpx.AsyncClient, log: list[str]
) -> None:
    url = "/v1/agents/counter/k?resumable=true"
    async with http.stream("POST", url, **count(10_000, pause=0.01)) as response:
        stream_id = response.headers["hivewire-stream-id"]
        await anext(events_of(response))
    async with http.stream("GET", f"/v1/streams/{stream_id}", headers={"Last-Event-ID": "1"}) as response:
        assert (await anext(events_of(response))).id == "2"
    assert "closed" not in log
    assert (await http.delete(f"/v1/streams/{stream_id}")).status_code == 204
    await until(lambda: log[-1] == "closed")
    assert "done" not in log


async def test_what_names_no_stream_is_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/streams/0123456789abcdef")).status_code == 404
    assert (await http.get("/v1/streams/a%20b")).status_code == 404
    assert (await http.get("/v1/streams/abc", headers={"Last-Event-ID": "x"})).status_code == 400
    assert (await http.post("/v1/agents/counter/k?resumable=maybe", json="x", headers=SSE)).status_code == 400


@pytest.mark.usefixtures("log")
async def test_streams_that_can_be_resumed_end_when_their_gateway_drains(new_gateway: NewGateway) -> None:
    gateway = await new_gateway()
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        url = "/v1/agents/counter/k?resumable=true"
        async with http.stream("POST", url, **count(10_000, pause=0.01)) as response:
            stream_id = response.headers["hivewire-stream-id"]
            events = events_of(response)
            first = await anext(events)
            stopping = asyncio.create_task(gateway.__aexit__(None, None, None))
            seen = [first, *[each async for each in events]]
            await stopping
    assert seen[-1].event == "message"
    async with httpx.AsyncClient(base_url=(await new_gateway()).url, timeout=DEADLINE_S) as elsewhere:
        headers = {"Last-Event-ID": seen[-1].id}
        async with elsewhere.stream("GET", f"/v1/streams/{stream_id}", headers=headers) as response:
            assert (await anext(events_of(response))).id == str(int(seen[-1].id) + 1)
        await elsewhere.delete(f"/v1/streams/{stream_id}")


async def _first(events: AsyncIterator[Seen], number: int) -> AsyncIterator[Seen]:
    for _ in range(number):
        yield await anext(events)
