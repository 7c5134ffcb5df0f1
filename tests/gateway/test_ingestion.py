"""Events come in by `POST /v1/events`, are stored once, and reach agents."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from gateway.conftest import DEADLINE_S, NewRuntime
from gateway.stored_events import stored_events
from hivewire import MessageContext, RoutedAgent, TypeSubscription, UnknownPayload, message_handler
from hivewire_gateway import GatewayServer

BATCH = "application/cloudevents-batch+json"
EVENT = {"specversion": "1.0", "id": "1", "source": "/shop/7", "type": "order.placed"}
IN_HEADERS = {f"ce-{name}": value for name, value in EVENT.items()}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@dataclass
class Order:
    item: str


class Recorder(RoutedAgent):
    """Puts what it gets into a queue."""

    def __init__(self, seen: asyncio.Queue[Any]) -> None:
        super().__init__("records")
        self.seen = seen

    @message_handler
    async def on_anything(
        self, message: Order | dict | list | str | int | float | bool | UnknownPayload | None, ctx: MessageContext
    ) -> None:
        self.seen.put_nowait((self.id.key, message))


@pytest.fixture
async def seen(new_runtime: NewRuntime) -> asyncio.Queue[Any]:
    """What an agent gets that subscribes to the topic type of the events here."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    runtime = new_runtime()
    await Recorder.register(runtime, "recorder", lambda: Recorder(queue))
    await runtime.add_subscription(TypeSubscription("order.placed", "recorder"))
    await runtime.start()
    return queue


async def post(http: httpx.AsyncClient, event: Any, **headers: str) -> httpx.Response:
    """Post one event in structured mode."""
    headers = {"content-type": "application/cloudevents+json", **headers}
    return await http.post("/v1/events", content=json.dumps(event).encode(), headers=headers)


async def post_batch(http: httpx.AsyncClient, events: Any) -> httpx.Response:
    return await http.post("/v1/events", content=json.dumps(events).encode(), headers={"content-type": BATCH})


async def test_an_event_is_stored_as_it_was_meant_in_either_mode(
    http: httpx.AsyncClient, nats_url: str, namespace: str
) -> None:
    further = {"subject": "ä €", "time": "2018-04-05T17:31:00Z", "comexample": "x y", "number": 7, "yes": True}
    answer = await post(http, {**EVENT, **further, "dataschema": "Order", "data": {"item": "tea"}})
    assert (answer.status_code, answer.json()) == (202, {"id": "1", "sequence": 1})
    in_headers = {**IN_HEADERS, "ce-id": "2", "ce-subject": "%C3%A4%20%E2%82%AC", "ce-time": further["time"]}
    more = {"ce-comexample": '"x y"', "ce-number": "7", "ce-yes": "true", "ce-dataschema": "Order"}
    answer = await http.post("/v1/events", json={"item": "tea"}, headers={**in_headers, **more})
    assert (answer.status_code, answer.json()) == (202, {"id": "2", "sequence": 2})
    first, second = await stored_events(nats_url, namespace)
    for event in (first, second):
        assert event.headers.pop("ce-id") in "12"
        del event.headers["Nats-Msg-Id"]
        assert event.data == {"item": "tea"}
    assert first.headers == second.headers
    assert first.headers == {
        "ce-specversion": "1.0",
        "ce-source": "/shop/7",
        "ce-type": "order.placed",
        "ce-agmsgkind": "publish",
        "ce-dataschema": "Order",
        "ce-subject": "%C3%A4%20%E2%82%AC",
        "ce-time": "2018-04-05T17:31:00Z",
        "ce-comexample": "x%20y",
        "ce-number": "7",
        "ce-yes": "true",
        "content-type": "application/json",
    }


async def test_an_event_with_an_empty_extension_reaches_an_agent(
    http: httpx.AsyncClient, seen: asyncio.Queue[Any], nats_url: str, namespace: str
) -> None:
    await post(http, {**EVENT, "data": 1, "empty": ""})
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == ("/shop/7", 1)
    (event,) = await stored_events(nats_url, namespace)
    assert event.headers["ce-empty"] == ""


async def test_who_may_not_publish_to_a_topic_stores_nothing_there(
    new_gateway: Callable[..., Any], nats_url: str, namespace: str
) -> None:
    allowed = {"publish": ["orders/shop"]}
    gateway: GatewayServer = await new_gateway(security={"principals": {"anonymous": allowed}})
    mine, other = {**EVENT, "type": "orders", "source": "shop"}, {**EVENT, "type": "orders", "source": "shop/7"}
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        assert (await post(http, other)).status_code == 403
        assert (await http.post("/v1/topics/bills/shop", json={})).status_code == 403
        batch = await post_batch(http, [mine, other])
        assert (batch.status_code, batch.json()["index"]) == (403, 1)
        assert await stored_events(nats_url, namespace) == []
        assert (await post(http, mine)).status_code == 202
        assert (await http.post("/v1/topics/orders/shop", json={})).status_code == 202


@pytest.mark.parametrize("value", [{"item": "tea"}, [1, "x"], "text", 1, 1.5, True, None])
async def test_an_agent_gets_bare_json_as_its_value(
    http: httpx.AsyncClient, seen: asyncio.Queue[Any], value: Any
) -> None:
    assert (await post(http, {**EVENT, "data": value})).status_code == 202
    async with asyncio.timeout(DEADLINE_S):
        key, message = await seen.get()
    assert key == "/shop/7"
    assert (message, type(message)) == (value, type(value))


async def test_an_agent_gets_the_class_that_the_schema_names(http: httpx.AsyncClient, seen: asyncio.Queue[Any]) -> None:
    await post(http, {**EVENT, "data": {"item": "tea"}, "dataschema": "Order"})
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == ("/shop/7", Order("tea"))


async def test_the_header_for_the_message_type_wins_over_the_schema(
    http: httpx.AsyncClient, seen: asyncio.Queue[Any]
) -> None:
    event = {**EVENT, "data": {"item": "tea"}, "dataschema": "https://example.com/order.json"}
    await post(http, event, **{"Hivewire-Message-Type": "Order"})
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == ("/shop/7", Order("tea"))


async def test_json_of_a_vendor_s_own_content_type_is_json_for_an_agent(
    http: httpx.AsyncClient, seen: asyncio.Queue[Any]
) -> None:
    await post(http, {**EVENT, "data": {"a": 1}, "datacontenttype": "application/vnd.example+json; v=1"})
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == ("/shop/7", {"a": 1})


@pytest.mark.filterwarnings("ignore:No serializer can decode")
async def test_an_agent_gets_other_data_as_an_unknown_payload(
    http: httpx.AsyncClient, seen: asyncio.Queue[Any]
) -> None:
    await http.post("/v1/events", content=b"\x00\xff", headers={**IN_HEADERS, "content-type": "image/png"})
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == ("/shop/7", UnknownPayload("", "image/png", b"\x00\xff"))


async def test_the_same_source_and_id_is_stored_once(http: httpx.AsyncClient, nats_url: str, namespace: str) -> None:
    first = await post(http, {**EVENT, "data": 1})
    again = await post(http, {**EVENT, "data": 2, "type": "other"})
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert "x-duplicate" not in first.headers
    assert again.headers["x-duplicate"] == "true"
    # Source and id are told apart, whatever is in them.
    await post(http, {**EVENT, "source": "/shop/71", "id": "1"})
    await post(http, {**EVENT, "source": "/shop/7", "id": "11"})
    await post(http, {**EVENT, "source": "/shop", "id": "/71"})
    assert len(await stored_events(nats_url, namespace)) == 4


async def test_a_hundred_repetitions_at_once_are_stored_once(
    http: httpx.AsyncClient, nats_url: str, namespace: str
) -> None:
    answers = await asyncio.gather(*(post(http, {**EVENT, "data": 1}) for _ in range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert [answer.headers.get("x-duplicate") for answer in answers].count(None) == 1
    assert len(await stored_events(nats_url, namespace)) == 1


async def test_a_batch_is_answered_event_by_event(http: httpx.AsyncClient, nats_url: str, namespace: str) -> None:
    events = [{**EVENT, "id": str(number), "data": number} for number in range(100)]
    answer = await post_batch(http, events)
    assert answer.status_code == 202
    assert [result["id"] for result in answer.json()] == [event["id"] for event in events]
    stored = await stored_events(nats_url, namespace)
    assert {event.sequence: event.id for event in stored} == {
        result["sequence"]: result["id"] for result in answer.json()
    }
    again = await post_batch(http, [*events[:2], {**EVENT, "id": "new"}])
    assert [result.get("duplicate") for result in again.json()] == [True, True, None]
    assert len(await stored_events(nats_url, namespace)) == 101


async def test_an_empty_batch_is_accepted(http: httpx.AsyncClient) -> None:
    answer = await post_batch(http, [])
    assert (answer.status_code, answer.json()) == (202, [])


@pytest.mark.parametrize("bad", [{"id": "x"}, {**EVENT, "type": "a b"}, {**EVENT, "specversion": "0.3"}])
async def test_of_a_batch_with_an_event_that_is_refused_nothing_is_stored(
    http: httpx.AsyncClient, nats_url: str, namespace: str, bad: Any
) -> None:
    answer = await post_batch(http, [EVENT, bad])
    assert answer.status_code == 400
    assert answer.json()["index"] == 1
    assert await stored_events(nats_url, namespace) == []


async def test_a_batch_of_too_many_events_is_refused(new_gateway: Callable[..., Any], nats_url: str) -> None:
    gateway: GatewayServer = await new_gateway(ingestion={"max_batch_events": 2})
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        assert (await post_batch(http, [EVENT, EVENT])).status_code == 202
        assert (await post_batch(http, [EVENT, EVENT, EVENT])).status_code == 413


async def test_the_trace_that_an_event_names_goes_along_else_that_of_its_request(
    http: httpx.AsyncClient, nats_url: str, namespace: str
) -> None:
    other, begun = TRACE.replace("0af", "1bf"), TRACE.replace("b7a", "c8b")
    await post(http, {**EVENT, "id": "1", "traceparent": other}, traceparent=TRACE, tracestate="a=b")
    await post(http, {**EVENT, "id": "2", "traceparent": other, "tracestate": "c=d"})
    await post(http, {**EVENT, "id": "3", "traceparent": "00-0-ä-01"}, traceparent="nonsense")
    await post(http, {**EVENT, "id": "4"}, traceparent=TRACE, tracestate="a=b")
    await post(http, {**EVENT, "id": "5", "traceparent": begun}, traceparent=TRACE)
    first, second, third, fourth, fifth = (event.headers for event in await stored_events(nats_url, namespace))
    assert (first["traceparent"], first["ce-traceparent"]) == (other, other)
    assert "tracestate" not in first
    assert (second["traceparent"], second["tracestate"]) == (other, "c=d")
    assert "traceparent" not in third
    assert third["ce-traceparent"] == "00-0-%C3%A4-01"
    assert (fourth["traceparent"], fourth["tracestate"]) == (TRACE, "a=b")
    # The same trace: then the request says where in it.
    assert (fifth["traceparent"], fifth["ce-traceparent"]) == (TRACE, begun)


async def test_an_event_whose_type_can_be_no_topic_type_is_refused_and_says_which_characters_can(
    http: httpx.AsyncClient,
) -> None:
    for event_type in ["a b", "a/b", "a*", "a>", "orders\u2028", "https://example.com/type"]:
        answer = await post(http, {**EVENT, "type": event_type})
        assert answer.status_code == 400, event_type
        assert "_ - . : =" in answer.json()["detail"]


async def test_an_event_that_the_broker_does_not_take_is_too_large(new_gateway: Callable[..., Any]) -> None:
    gateway: GatewayServer = await new_gateway(max_body_bytes=3_000_000)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        assert (await post(http, {**EVENT, "data": "x" * 900_000})).status_code == 202
        answer = await post(http, {**EVENT, "id": "2", "data": "x" * 1_048_000})
        assert answer.status_code == 413, answer.json()
        answer = await post_batch(http, [{**EVENT, "id": "3"}, {**EVENT, "id": "4", "data": "x" * 1_048_000}])
        assert (answer.status_code, answer.json()["index"]) == (413, 1)
        assert (await post(http, {**EVENT, "id": "3"})).headers.get("x-duplicate") is None


async def test_an_event_that_the_gateway_does_not_take_is_too_large(new_gateway: Callable[..., Any]) -> None:
    gateway: GatewayServer = await new_gateway(max_body_bytes=1_000)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        assert (await post(http, {**EVENT, "data": "x" * 800})).status_code == 202
        assert (await post(http, {**EVENT, "id": "2", "data": "x" * 1_000})).status_code == 413
        answer = await http.post("/v1/topics/orders/shop", content=b'"' + b"x" * 999 + b'"')
        assert answer.status_code == 413


async def test_events_of_64_kib_are_taken(http: httpx.AsyncClient) -> None:
    assert (await post(http, {**EVENT, "data": "x" * 65_536, "subject": "y" * 4_000})).status_code == 202


async def test_what_is_no_event_is_refused_as_a_problem_document(http: httpx.AsyncClient) -> None:
    for status, headers in ((400, {"ce-id": "1"}), (415, {}), (415, {"content-type": "application/cloudevents+avro"})):
        answer = await http.post("/v1/events", content=b"{}", headers=headers)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert {"type", "title", "status", "detail"} <= answer.json().keys()


@pytest.mark.parametrize("path", ["/v1/events", "/v1/topics/orders/shop"])
async def test_other_methods_are_not_allowed(http: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE", "QUERY"):
        answer = await http.request(method, path)
        assert answer.status_code == 405, method
        assert {"POST", "OPTIONS"} <= set(answer.headers["allow"].split(", "))


async def test_no_request_is_redirected(http: httpx.AsyncClient) -> None:
    for path in ("/v1/events/", "/v1/event", "/v1/topics/orders", "/", "//v1/events", "/v1/events/x"):
        answer = await http.post(path, json={}, headers=IN_HEADERS, follow_redirects=False)
        assert answer.status_code == 404, path


async def test_a_message_type_that_can_be_none_is_refused(http: httpx.AsyncClient) -> None:
    for name in (b"%FF", b"a%0Ab", "ä".encode(), b"x" * 600):
        headers = [*IN_HEADERS.items(), ("hivewire-message-type", name)]
        assert (await http.post("/v1/events", json={}, headers=headers)).status_code == 400
