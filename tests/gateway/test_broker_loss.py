"""What a client is told when the broker is away tells whether to send again, and sending again does no harm."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import nats
import pytest

from gateway.conftest import DEADLINE_S
from gateway.stored_events import stored_events
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.subjects import Subjects
from hivewire_gateway import GatewayServer

BATCH = {"content-type": "application/cloudevents-batch+json"}
EVENTS = 400
PRODUCERS = 16


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    """A server that a test may break."""
    async with EmbeddedServer() as server:
        yield server


def headers_of(event_id: str) -> dict[str, str]:
    return {"ce-specversion": "1.0", "ce-id": event_id, "ce-source": "/shop", "ce-type": "orders"}


async def post(http: httpx.AsyncClient, event_id: str) -> httpx.Response:
    return await http.post("/v1/events", json={"id": event_id}, headers=headers_of(event_id))


async def post_batch(http: httpx.AsyncClient, *ids: str) -> httpx.Response:
    events = [{"specversion": "1.0", "id": event_id, "source": "/shop", "type": "orders"} for event_id in ids]
    return await http.post("/v1/events", content=json.dumps(events), headers=BATCH)


async def test_without_a_broker_an_event_is_certainly_not_stored(
    server: EmbeddedServer, new_gateway: Callable[..., Any]
) -> None:
    gateway: GatewayServer = await new_gateway(server.url, store_timeout_s=0.5)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        assert (await post(http, "1")).status_code == 202
        server.kill()
        # The first may still find the connection open that has just broken.
        await post(http, "2")
        answer = await post(http, "3")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "not stored" in answer.json()["detail"]
        batch = await post_batch(http, "4", "5")
        assert batch.status_code == 503
        assert [result["status"] for result in batch.json()["results"]] == [503, 503]
        assert int(batch.headers["retry-after"]) > 0
        await server.restart()
        async with asyncio.timeout(DEADLINE_S):
            while (again := await post(http, "3")).status_code != 202:
                assert again.status_code in (503, 504)
        assert "x-duplicate" not in again.headers


async def test_an_event_that_was_not_acknowledged_in_time_may_be_stored_and_is_stored_once(
    server: EmbeddedServer, new_gateway: Callable[..., Any], namespace: str
) -> None:
    gateway: GatewayServer = await new_gateway(server.url, store_timeout_s=0.5)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        assert (await post(http, "1")).status_code == 202
        server.pause()
        answer = await post(http, "2")
        batch = await post_batch(http, "2", "3")
        server.resume()
        assert answer.status_code == 504
        assert "same id" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) > 0
        assert batch.status_code == 503
        assert [result["status"] for result in batch.json()["results"]] == [504, 504]
        async with asyncio.timeout(DEADLINE_S):
            while (batch := await post_batch(http, "2", "3")).status_code != 202:
                assert batch.status_code == 503
    assert Counter(event.id for event in await stored_events(server.url, namespace)) == Counter("123")


async def test_a_full_stream_takes_no_event_and_says_so(nats_url: str, namespace: str, http: httpx.AsyncClient) -> None:
    assert (await post(http, "1")).status_code == 202
    client = await nats.connect(nats_url)
    js = client.jetstream()
    config = (await js.stream_info(Subjects(namespace).events_stream)).config
    config.max_msgs = 1
    request = json.dumps(config.as_dict()).encode()
    await client.request(f"$JS.API.STREAM.UPDATE.{config.name}", request)
    answer = await post(http, "2")
    assert answer.status_code == 503
    assert "full" in answer.json()["detail"]
    assert int(answer.headers["retry-after"]) > 0
    batch = await post_batch(http, "1", "2")
    assert batch.status_code == 503
    assert [result["status"] for result in batch.json()["results"]] == [202, 503]
    await client.close()


async def test_no_event_is_acknowledged_and_lost_or_stored_twice_while_the_broker_is_killed(
    server: EmbeddedServer, new_gateway: Callable[..., Any], namespace: str
) -> None:
    gateway: GatewayServer = await new_gateway(server.url, store_timeout_s=1.0)
    accepted: dict[str, int] = {}
    answers: Counter[int] = Counter()
    todo = [str(number) for number in range(EVENTS)]

    async def produce(http: httpx.AsyncClient) -> None:
        while todo:
            event_id, doubtful = todo.pop(), False
            while (answer := await post(http, event_id)).status_code != 202:
                assert answer.status_code in (503, 504), answer.text
                answers[answer.status_code] += 1
                doubtful = doubtful or answer.status_code == 504
            # What was answered with 503 was not stored.
            assert doubtful or "x-duplicate" not in answer.headers
            accepted[event_id] = answer.json()["sequence"]

    async def disturb() -> None:
        for threshold in (100, 250):
            while len(accepted) < threshold:
                await asyncio.sleep(0.001)
            server.kill()
            while not answers[503]:
                await asyncio.sleep(0.01)
            answers[503] = 0
            await server.restart()

    async with (
        asyncio.timeout(60),
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(disturb())
        for _ in range(PRODUCERS):
            group.create_task(produce(http))
    stored = await stored_events(server.url, namespace)
    assert {event.id: event.sequence for event in stored} == accepted
    assert len(stored) == EVENTS
    assert all(event.data == {"id": event.id} for event in stored)
