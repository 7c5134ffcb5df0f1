"""Any JSON comes in as an event by `POST /v1/topics/{type}/{source}`."""

import json
from typing import Any

import httpx

from gateway.stored_events import stored_events


async def test_json_becomes_an_event_of_the_topic_in_the_path(
    http: httpx.AsyncClient, nats_url: str, namespace: str
) -> None:
    values: list[Any] = [{"a": "ä"}, [1], "text", 1.5, None]
    for value in values:
        answer = await http.post("/v1/topics/orders/shop/7", content=json.dumps(value))
        assert answer.status_code == 202
    events = await stored_events(nats_url, namespace)
    assert [event.data for event in events] == values
    assert len({event.id for event in events}) == len(values)
    assert [event.headers["ce-dataschema"] for event in events] == ["dict", "list", "str", "float", "NoneType"]
    for event in events:
        assert (event.headers["ce-type"], event.headers["ce-source"]) == ("orders", "shop/7")
    assert answer.json() == {"id": events[-1].id, "sequence": events[-1].sequence}


async def test_the_same_key_is_stored_once_for_a_topic(http: httpx.AsyncClient, nats_url: str, namespace: str) -> None:
    async def post(path: str, key: str) -> bool:
        answer = await http.post(f"/v1/topics/{path}", json={}, headers={"Idempotency-Key": key})
        assert answer.status_code == 202
        assert answer.json()["id"] == key.strip('"')
        return "x-duplicate" in answer.headers

    assert not await post("orders/shop", "k-1")
    assert await post("orders/shop", "k-1")
    assert await post("orders/shop", '"k-1"')
    assert not await post("orders/shop", "k-2")
    assert not await post("orders/other", "k-1")
    assert not await post("bills/shop", "k-1")
    assert len(await stored_events(nats_url, namespace)) == 4


async def test_a_key_is_not_mistaken_for_the_id_of_a_cloud_event(http: httpx.AsyncClient) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "k-1", "ce-type": "orders", "ce-source": "shop"}
    await http.post("/v1/events", json={}, headers=headers)
    answer = await http.post("/v1/topics/orders/shop", json={}, headers={"Idempotency-Key": "k-1"})
    assert "x-duplicate" not in answer.headers


async def test_a_key_that_is_none_is_refused(http: httpx.AsyncClient) -> None:
    for key in ["", '""', "a b", "x" * 256, '"open', "ä", 'a"b']:
        headers = [("Idempotency-Key", key.encode())]
        assert (await http.post("/v1/topics/orders/shop", json={}, headers=headers)).status_code == 400, key


async def test_two_keys_are_refused(http: httpx.AsyncClient) -> None:
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await http.post("/v1/topics/orders/shop", json={}, headers=headers)).status_code == 400


async def test_the_message_type_is_named_by_a_header(http: httpx.AsyncClient, nats_url: str, namespace: str) -> None:
    await http.post("/v1/topics/orders/shop", json={}, headers={"Hivewire-Message-Type": "Order"})
    (event,) = await stored_events(nats_url, namespace)
    assert event.headers["ce-dataschema"] == "Order"


async def test_any_source_can_be_named(http: httpx.AsyncClient, nats_url: str, namespace: str) -> None:
    for source in ("a%20b", "%C3%A4", "a%2Fb", "a//b/", "100%25", "a?x=y", "%F0%9F%98%80"):
        assert (await http.post(f"/v1/topics/orders/{source}", json={})).status_code == 202
    sources = [event.headers["ce-source"] for event in await stored_events(nats_url, namespace)]
    assert sources == ["a%20b", "%C3%A4", "a/b", "a//b/", "100%25", "a", "%F0%9F%98%80"]


async def test_a_topic_that_there_can_not_be_is_refused(http: httpx.AsyncClient) -> None:
    for path in [
        "orders/",
        "or%20ders/x",
        "orders/%FF",
        "%FF/x",
        "orders/%0A",
        "orders/%00",
        "a%2A/x",
    ]:
        assert (await http.post(f"/v1/topics/{path}", json={})).status_code == 400, path


async def test_a_body_that_is_not_json_is_refused(http: httpx.AsyncClient) -> None:
    for body in [b"", b"{", b"\xff", b"\xef\xbb\xbf{}", b"nothing"]:
        answer = await http.post("/v1/topics/orders/shop", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 400, body


async def test_json_needs_no_content_type(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/topics/orders/shop", content=b"{}")).status_code == 202


async def test_another_content_type_is_not_supported(http: httpx.AsyncClient) -> None:
    for content_type in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "nonsense",
        "application/json; charset=utf-16",
    ]:
        answer = await http.post("/v1/topics/orders/shop", content=b"{}", headers={"content-type": content_type})
        assert answer.status_code == 415, content_type


async def test_a_cloud_event_is_sent_where_its_attributes_count(http: httpx.AsyncClient) -> None:
    for status, headers in ((415, {"content-type": "application/cloudevents+json"}), (400, {"ce-id": "1"})):
        answer = await http.post("/v1/topics/orders/shop", content=b"{}", headers=headers)
        assert answer.status_code == status
        assert "/v1/events" in answer.json()["detail"]
