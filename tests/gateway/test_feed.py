"""Events out: server-sent events of topics, without gap or duplicate."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import nats
import pytest

from gateway.conftest import DEADLINE_S, NewGateway, NewRuntime, until
from gateway.sse_client import Seen, events_of
from hivewire import ClosureAgent, ClosureContext, NatsAgentRuntime, TopicId
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.subjects import Subjects
from hivewire_gateway import GatewayServer
from hivewire_gateway.out_settings import EventStreamSettings


@pytest.fixture
async def publisher(new_runtime: NewRuntime) -> NatsAgentRuntime:
    """A runtime to publish with."""
    runtime = new_runtime()
    await runtime.connect()
    return runtime


@asynccontextmanager
async def reading(http: httpx.AsyncClient, path: str, **headers: str) -> AsyncIterator[AsyncIterator[Seen]]:
    """Open a stream of events and take its begin."""
    async with http.stream("GET", f"/v1/topics/{path}", headers=headers) as response:
        if response.status_code != 200:
            await response.aread()
            raise AssertionError(response.text)
        events = events_of(response)
        assert (await anext(events)).event == "begin"
        yield events


async def texts(events: AsyncIterator[Seen], number: int) -> list[Any]:
    async with asyncio.timeout(DEADLINE_S):
        return [json.loads((await anext(events)).data)["data"] for _ in range(number)]


async def test_an_event_comes_as_a_cloud_event(http: httpx.AsyncClient, publisher: NatsAgentRuntime) -> None:
    async with reading(http, "orders/events") as events:
        await publisher.publish_message({"item": "tea"}, TopicId("orders", "paris shop"), message_id="m 1")
        seen = await anext(events)
    event = json.loads(seen.data)
    assert seen.event == "message"
    assert {name: event[name] for name in ("specversion", "id", "type", "source", "dataschema", "datacontenttype")} == {
        "specversion": "1.0",
        "id": "m 1",
        "type": "orders",
        "source": "paris shop",
        "dataschema": "dict",
        "datacontenttype": "application/json",
    }
    assert event["data"] == {"item": "tea"}
    assert event["time"].endswith("Z")


async def test_what_json_can_not_hold_comes_as_base64_with_all_attributes(
    http: httpx.AsyncClient, nats_url: str, namespace: str
) -> None:
    client = await nats.connect(nats_url)
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "a.b", "ce-source": "s", "ce-comexampleflag": "x%20y"}
    try:
        async with reading(http, "a.*/events") as events:
            for content_type, data in (
                ("application/json", b'{"a": NaN}'),
                ("image/png", b"\xff"),
                ("text/plain", "é".encode()),
                ("application/json", b"[1,\n 2]"),
            ):
                subject = Subjects(namespace).event("s", "a.b")
                await client.jetstream().publish(subject, data, headers={**headers, "content-type": content_type})
            found = [json.loads((await anext(events)).data) for _ in range(4)]
    finally:
        await client.close()
    assert found[0]["data_base64"] == "eyJhIjogTmFOfQ=="
    assert found[1]["data_base64"] == "/w=="
    assert found[2]["data"] == "é"
    assert found[3]["data"] == [1, 2]
    assert found[0]["comexampleflag"] == "x y"


async def test_topics_are_chosen_by_type_prefix_and_source(
    http: httpx.AsyncClient, publisher: NatsAgentRuntime
) -> None:
    async with (
        reading(http, "a/events") as exact,
        reading(http, "a*/events?source=x&source=y") as prefix,
        reading(http, "*/events") as everything,
    ):
        for topic_type, source in (("ab", "z"), ("ab", "x"), ("b", "x"), ("a", "y"), ("a", "z")):
            await publisher.publish_message(f"{topic_type}/{source}", TopicId(topic_type, source))
        assert await texts(exact, 2) == ["a/y", "a/z"]
        assert await texts(prefix, 2) == ["ab/x", "a/y"]
        assert await texts(everything, 5) == ["ab/z", "ab/x", "b/x", "a/y", "a/z"]


async def test_a_client_that_comes_back_gets_what_it_missed_and_nothing_twice(
    http: httpx.AsyncClient, publisher: NatsAgentRuntime, new_gateway: NewGateway
) -> None:
    async with reading(http, "n/events") as events:
        for number in range(10):
            await publisher.publish_message(number, TopicId("n", "s"))
        seen = [await anext(events) for _ in range(4)]
    for number in range(10, 400):
        await publisher.publish_message(number, TopicId("n", "s"))
        if number % 10 == 0:
            await publisher.publish_message("other", TopicId("other", "s"))

    async def rest(base_url: str) -> list[Any]:
        async with (
            httpx.AsyncClient(base_url=base_url, timeout=DEADLINE_S) as other,
            reading(other, "n/events", **{"Last-Event-ID": seen[-1].id}) as events,
        ):
            return await texts(events, 396)

    assert await rest(str(http.base_url)) == list(range(4, 400))
    # Any gateway will do.
    assert await rest((await new_gateway()).url) == list(range(4, 400))


async def test_catching_up_while_events_come_leaves_nothing_out(
    gateway: GatewayServer, publisher: NatsAgentRuntime
) -> None:
    total = 1_500

    async def publish() -> None:
        for number in range(0, total, 10):
            await asyncio.gather(
                *(publisher.publish_message(each, TopicId("n", "s")) for each in range(number, number + 10))
            )

    async def read(http: httpx.AsyncClient, after: str) -> list[int]:
        async with reading(http, f"n/events?from=start&last_event_id={after}") as events:
            return await texts(events, total)

    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        publishing = asyncio.create_task(publish())
        readers = []
        for _ in range(8):
            readers.append(asyncio.create_task(read(http, "")))
            await asyncio.sleep(0.05)
        await publishing
        for reader in readers:
            assert sorted(await reader) == list(range(total))


async def test_clients_that_come_and_go_with_other_topics_cost_the_others_nothing(
    gateway: GatewayServer, publisher: NatsAgentRuntime
) -> None:
    total, changes = 1_000, 0

    async def publish() -> None:
        for number in range(total):
            await publisher.publish_message(number, TopicId("n", "s"))
            if number % 5 == 0:
                await publisher.publish_message(number, TopicId(f"t{number % 7}", "s"))

    async def come_and_go(http: httpx.AsyncClient, worker: int) -> None:
        nonlocal changes
        for number in range(1_000_000):
            async with reading(http, f"t{(worker + number) % 7}/events") as events:
                first, second = await texts(events, 2)
                assert second - first == 35
            changes += 1

    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http,
        reading(http, "n/events") as events,
    ):
        others = [asyncio.create_task(come_and_go(http, worker)) for worker in range(3)]
        publishing = asyncio.create_task(publish())
        assert await texts(events, total) == list(range(total))
        await publishing
        for other in others:
            other.cancel()
        ended = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
    assert changes > 10


async def test_a_client_that_got_nothing_yet_comes_back_to_where_it_began(
    http: httpx.AsyncClient, publisher: NatsAgentRuntime
) -> None:
    async with http.stream("GET", "/v1/topics/a/events") as response:
        begin = await anext(events_of(response))
    assert begin.event == "begin"
    await publisher.publish_message("missed", TopicId("a", "s"))
    async with reading(http, "a/events", **{"Last-Event-ID": begin.id}) as events:
        assert await texts(events, 1) == ["missed"]


async def test_subscriptions_and_replays_are_not_shown(
    http: httpx.AsyncClient, new_runtime: NewRuntime, publisher: NatsAgentRuntime
) -> None:
    async def note(ctx: ClosureContext, message: str) -> None: ...

    async with reading(http, "*/events") as events:
        runtime = new_runtime()
        await ClosureAgent.register_closure(runtime, "closure", note)
        await runtime.start()
        await publisher.publish_message("shown", TopicId("a", "s"))
        assert await texts(events, 1) == ["shown"]


async def test_one_reader_serves_all_clients_and_none_is_left(
    gateway: GatewayServer, publisher: NatsAgentRuntime, nats_url: str, namespace: str
) -> None:
    client = await nats.connect(nats_url)
    stream = Subjects(namespace).events_stream

    async def consumers() -> int:
        return (await client.jetstream().stream_info(stream)).state.consumer_count

    async def count_is(number: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while await consumers() != number:
                await asyncio.sleep(0.02)

    before = await consumers()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S, limits=limits) as http:
        opened = [reading(http, f"t{number}/events") for number in range(40)]
        streams = [await each.__aenter__() for each in opened]
        await count_is(before + 1)
        await publisher.publish_message("last", TopicId("t39", "s"))
        await publisher.publish_message("first", TopicId("t0", "s"))
        assert await texts(streams[39], 1) == ["last"]
        assert await texts(streams[0], 1) == ["first"]
        for each in opened:
            await each.__aexit__(None, None, None)
    await count_is(before)
    await client.close()


async def test_many_that_come_back_at_once_are_served_a_few_at_a_time(
    gateway: GatewayServer, publisher: NatsAgentRuntime, nats_url: str, namespace: str
) -> None:
    client = await nats.connect(nats_url)
    stream = Subjects(namespace).events_stream
    before = (await client.jetstream().stream_info(stream)).state.consumer_count
    total, most, served = 250, 0, asyncio.Event()
    for number in range(total):
        await publisher.publish_message(number, TopicId("n", "s"))

    async def watch() -> None:
        nonlocal most
        # Not cancelled: requests of this client may swallow that.
        while not served.is_set():
            most = max(most, (await client.jetstream().stream_info(stream)).state.consumer_count - before)

    async def read(http: httpx.AsyncClient) -> None:
        async with reading(http, "n/events?from=start") as events:
            assert await texts(events, total) == list(range(total))

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S, limits=limits) as http:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(read(http) for _ in range(60)))
    served.set()
    await watching
    await client.close()
    # The tap, those that read the past, and a few whose deletion is under way.
    assert 2 <= most <= 1 + 2 * EventStreamSettings().catch_ups_at_once


async def test_another_stream_is_read_from_its_begin_and_clients_are_told(
    http: httpx.AsyncClient, publisher: NatsAgentRuntime, nats_url: str, namespace: str
) -> None:
    client = await nats.connect(nats_url)
    async with reading(http, "a/events") as events:
        await publisher.publish_message("old", TopicId("a", "s"))
        old = await anext(events)
        await client.jetstream().delete_stream(Subjects(namespace).events_stream)
        async with asyncio.timeout(30):
            reset = await anext(events)
            assert reset.event == "reset"
            assert json.loads(reset.data)["reason"] == "other-stream"
            await publisher.publish_message("new", TopicId("a", "s"))
            assert await texts(events, 1) == ["new"]
    await client.close()
    async with http.stream("GET", "/v1/topics/a/events", headers={"Last-Event-ID": old.id}) as response:
        events = events_of(response)
        reset = await anext(events)
        assert (reset.event, json.loads(reset.data)["reason"]) == ("reset", "other-stream")
        assert await texts(events, 1) == ["new"]


async def test_places_that_are_gone_or_were_never_there_are_told(
    http: httpx.AsyncClient, publisher: NatsAgentRuntime, nats_url: str, namespace: str
) -> None:
    async with http.stream("GET", "/v1/topics/a/events") as response:
        begin = await anext(events_of(response))
    stream, _, sequence = begin.id.partition("-")
    for number in range(3):
        await publisher.publish_message(number, TopicId("a", "s"))
    client = await nats.connect(nats_url)
    await client.jetstream().purge_stream(Subjects(namespace).events_stream, keep=1)
    await client.close()
    for id, reason in ((begin.id, "expired"), (f"{stream}-{int(sequence) + 100}", "unknown-position")):
        async with http.stream("GET", "/v1/topics/a/events", headers={"Last-Event-ID": id}) as response:
            reset = await anext(events_of(response))
            assert (reset.event, json.loads(reset.data)["reason"]) == ("reset", reason)


async def test_clients_stay_while_the_broker_is_away(new_gateway: NewGateway, namespace: str) -> None:
    async with EmbeddedServer() as server:
        gateway = await new_gateway(server.url)
        runtime = NatsAgentRuntime(server.url, namespace=namespace)
        await runtime.connect()
        async with (
            httpx.AsyncClient(base_url=gateway.url, timeout=30) as http,
            reading(http, "a/events") as events,
        ):
            await runtime.publish_message(1, TopicId("a", "s"))
            assert await texts(events, 1) == [1]
            server.kill()
            await server.restart()
            for number in (2, 3):
                await runtime.publish_message(number, TopicId("a", "s"))
            assert await texts(events, 2) == [2, 3]
        await runtime.stop()


async def test_what_can_not_be_read_is_refused(http: httpx.AsyncClient) -> None:
    for path, headers, status in (
        ("a%20b/events", {}, 400),
        ("a*b/events", {}, 400),
        ("a/events?from=yesterday", {}, 400),
        ("a/events", {"Last-Event-ID": "7"}, 400),
        ("a/events?last_event_id=x", {}, 400),
        (f"a/events?{'&'.join(f'source={number}' for number in range(65))}", {}, 400),
    ):
        answer = await http.get(f"/v1/topics/{path}", headers=headers)
        assert (path, answer.status_code) == (path, status)
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await http.head("/v1/topics/a/events")).status_code == 200


async def test_a_draining_gateway_ends_its_streams_with_a_hint(
    new_gateway: NewGateway, publisher: NatsAgentRuntime
) -> None:
    gateway = await new_gateway(drain_timeout_s=10)
    async with (
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http,
        http.stream("GET", "/v1/topics/a/events") as response,
    ):
        lines = response.aiter_lines()
        while await anext(lines) != "event: begin":
            pass
        async with asyncio.timeout(5):
            await gateway.__aexit__(None, None, None)
            rest = [line async for line in lines]
    assert rest[-1].startswith("retry: ")


async def test_a_client_that_takes_nothing_is_cut_off_and_the_others_are_not_held_up(
    new_gateway: NewGateway, publisher: NatsAgentRuntime
) -> None:
    gateway = await new_gateway(limits={"write_timeout_s": 1.0})
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=DEADLINE_S) as stalled:
        stalled.sendall(f"GET /v1/topics/a/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert b"200" in await asyncio.to_thread(stalled.recv, 100)
        async with (
            httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http,
            reading(http, "a/events") as events,
        ):
            for _ in range(60):
                # One by one: a machine under load must not make the other client a slow one too.
                await publisher.publish_message("x" * 500_000, TopicId("a", "s"))
                assert len(await texts(events, 1)) == 1
            await until(lambda: _is_closed(stalled))


def _is_closed(connection: socket.socket) -> bool:
    """Tell whether the other side has reset a connection, without reading from it."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE


_TCP_CLOSE = 7
