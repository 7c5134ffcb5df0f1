"""Direct messages through a gateway: what comes back, and what each error is over HTTP."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from gateway.conftest import DEADLINE_S, NewGateway, NewRuntime, until
from hivewire import (
    AgentId,
    CantHandleException,
    MessageContext,
    MessageDroppedException,
    RoutedAgent,
    StateConflictError,
    message_handler,
)
from hivewire.nats.embedded import EmbeddedServer


@dataclass
class Order:
    item: str
    count: int = 1


@dataclass
class Wait:
    seconds: float


@dataclass
class Failure:
    kind: str


class OutOfStock(Exception):
    pass


class Shop(RoutedAgent):
    def __init__(self, log: list[str]) -> None:
        super().__init__("a shop")
        self.log = log

    @message_handler
    async def on_order(self, message: Order, ctx: MessageContext) -> Order:
        return Order(f"{self.id.key}: {message.item}", message.count + 1)

    @message_handler
    async def on_text(self, message: str, ctx: MessageContext) -> None:
        self.log.append(message)

    @message_handler
    async def on_any(self, message: dict, ctx: MessageContext) -> dict:  # type: ignore[type-arg]
        return message

    @message_handler
    async def on_number(self, message: int, ctx: MessageContext) -> AsyncIterator[int]:
        for number in range(message):
            yield number

    @message_handler
    async def on_protobuf(self, message: StringValue, ctx: MessageContext) -> StringValue:
        return StringValue(value=message.value.upper())

    @message_handler
    async def on_wait(self, message: Wait, ctx: MessageContext) -> str:
        self.log.append("begun")
        waiting = asyncio.ensure_future(asyncio.sleep(message.seconds))
        ctx.cancellation_token.link_future(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
        return "done"

    @message_handler
    async def on_failure(self, message: Failure, ctx: MessageContext) -> str:
        match message.kind:
            case "value":
                raise ValueError("not so")
            case "own":
                raise OutOfStock("no tea")
            case "refused":
                raise CantHandleException("not today")
            case "dropped":
                raise MessageDroppedException
            case "conflict":
                raise StateConflictError("somebody else wrote")
            case "cancelled":
                raise asyncio.CancelledError
            case "nested":
                return str(await self.send_message("hello", AgentId("nobody", "k"), timeout=0.2))
            case _:
                raise ValueError


@pytest.fixture
async def log(new_runtime: NewRuntime) -> list[str]:
    """What the shop has noted. The shop is served."""
    noted: list[str] = []
    runtime = new_runtime()
    await Shop.register(runtime, "shop", lambda: Shop(noted))
    await runtime.start()
    return noted


def typed(name: str, **headers: str) -> dict[str, str]:
    return {"Hivewire-Message-Type": name, **headers}


@pytest.mark.usefixtures("log")
async def test_the_type_of_a_message_is_named_by_a_header_or_by_the_content_type(http: httpx.AsyncClient) -> None:
    by_header = await http.post("/v1/agents/shop/paris", json={"item": "tea"}, headers=typed("Order"))
    content_type = {"Content-Type": 'application/json; charset=utf-8; type="Order"'}
    by_parameter = await http.post("/v1/agents/shop/paris", content=b'{"item": "tea"}', headers=content_type)

    assert by_header.status_code == 200
    assert by_header.json() == {"item": "paris: tea", "count": 2}
    assert by_header.headers["hivewire-message-type"] == "Order"
    assert by_header.headers["content-type"] == "application/json"
    assert by_parameter.json() == by_header.json()


async def test_json_without_a_type_is_of_the_type_of_its_value(http: httpx.AsyncClient, log: list[str]) -> None:
    nothing = await http.post("/v1/agents/shop/k", json="a text")
    assert (nothing.status_code, nothing.content) == (204, b"")
    assert nothing.headers["hivewire-message-type"] == "NoneType"
    assert log == ["a text"]
    same = await http.post("/v1/agents/shop/k", json={"a": [1, None]})
    assert (same.status_code, same.json()) == (200, {"a": [1, None]})


@pytest.mark.usefixtures("log")
async def test_a_streamed_answer_is_an_array_for_who_does_not_ask_for_a_stream(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/agents/shop/k", json=3)
    assert (answer.status_code, answer.json()) == (200, [0, 1, 2])
    assert answer.headers["hivewire-message-type"] == "list"


@pytest.mark.usefixtures("log")
async def test_messages_that_are_not_json_pass_as_they_are(http: httpx.AsyncClient) -> None:
    message = AnyMessage()
    message.Pack(StringValue(value="tea"))
    headers = typed("google.protobuf.StringValue", **{"Content-Type": "application/x-protobuf"})
    answer = await http.post("/v1/agents/shop/k", content=message.SerializeToString(), headers=headers)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert answer.headers["hivewire-message-type"] == "google.protobuf.StringValue"
    message.ParseFromString(answer.content)
    text = StringValue()
    assert message.Unpack(text)
    assert text.value == "TEA"


@pytest.mark.usefixtures("log")
async def test_any_text_may_be_a_key(http: httpx.AsyncClient) -> None:
    for path, key in (("", ""), ("a/b", "a/b"), ("a%2Fb", "a/b"), ("%C3%A9%20%3F", "é ?"), ("k" * 500, "k" * 500)):
        answer = await http.post(f"/v1/agents/shop/{path}", json={"item": ""}, headers=typed("Order"))
        assert answer.json()["item"] == f"{key}: "


@pytest.mark.usefixtures("log")
async def test_what_a_handler_raises_is_told_with_its_type(http: httpx.AsyncClient) -> None:
    for kind, status, error_type in (
        ("value", 500, "ValueError"),
        ("own", 500, f"{OutOfStock.__module__}.OutOfStock"),
        ("refused", 422, "CantHandleException"),
        ("dropped", 403, "MessageDroppedException"),
        ("conflict", 409, "StateConflictError"),
        ("cancelled", 500, "CancelledError"),
        ("nested", 500, "AgentNotFoundError"),
        ("empty", 500, "ValueError"),
    ):
        answer = await http.post("/v1/agents/shop/k", json={"kind": kind}, headers=typed("Failure"))
        assert answer.status_code == status, kind
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["error_type"] == error_type
        assert problem["status"] == status
        assert problem["detail"]
        assert "Traceback" not in answer.text


@pytest.mark.usefixtures("log")
async def test_a_message_that_its_agent_can_not_read_is_the_mistake_of_its_client(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/agents/shop/k", json={"count": "many"}, headers=typed("Order"))
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "SerializationError"
    assert "item" in answer.json()["detail"]
    assert "many" not in answer.text


async def test_a_message_that_its_agent_would_pass_over_is_refused(http: httpx.AsyncClient, log: list[str]) -> None:
    answer = await http.post("/v1/agents/shop/k", json=[1])
    assert answer.status_code == 422
    assert "no direct messages of type list" in answer.json()["detail"]
    assert "Order" in answer.json()["detail"]
    assert log == []


async def test_a_type_that_nobody_registered_is_not_found(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/agents/nobody/k", json="x")
    assert answer.status_code == 404
    assert "nobody/k" in answer.json()["detail"]
    assert (await http.post("/v1/agents/no%20type/k", json="x")).status_code == 404


async def test_a_deadline_ends_the_call_and_its_handler(http: httpx.AsyncClient, log: list[str]) -> None:
    headers = typed("Wait", **{"Hivewire-Timeout": "0.5"})
    answer = await http.post("/v1/agents/shop/k", json={"seconds": 30}, headers=headers)
    assert answer.status_code == 504
    assert "may have been handled" in answer.json()["detail"]
    await until(lambda: "cancelled" in log)


@pytest.mark.usefixtures("log")
async def test_a_deadline_is_capped(new_gateway: NewGateway) -> None:
    gateway = await new_gateway(calls={"max_timeout_s": 0.5})
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        headers = typed("Wait", **{"Hivewire-Timeout": "1000"})
        answer = await http.post("/v1/agents/shop/k", json={"seconds": 30}, headers=headers)
    assert answer.status_code == 504


async def test_a_client_that_leaves_cancels_the_handler(http: httpx.AsyncClient, log: list[str]) -> None:
    posting = asyncio.create_task(http.post("/v1/agents/shop/k", json={"seconds": 30}, headers=typed("Wait")))
    await until(lambda: log == ["begun"])
    posting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await posting
    await until(lambda: "cancelled" in log)


async def test_what_is_no_message_is_refused(http: httpx.AsyncClient) -> None:
    for headers, body, status in (
        ({"Content-Type": "application/json"}, b"{", 400),
        ({"Content-Type": "application/json"}, b"", 400),
        ({"Content-Type": "application/json"}, b"\xff", 400),
        ({"Content-Type": "application/json; charset=utf-16"}, b"{}", 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=b", 415),
        ({"Content-Type": "application/x-protobuf"}, b"", 400),
        ({"Content-Type": ";;"}, b"{}", 400),
        ({"Content-Type": "json"}, b"{}", 400),
        ({"Hivewire-Message-Type": "a%00b"}, b"{}", 400),
        ({"Hivewire-Message-Type": "x" * 1000}, b"{}", 400),
        ({"Hivewire-Timeout": "soon"}, b"{}", 400),
        ({"Hivewire-Timeout": "0"}, b"{}", 400),
        ({"Hivewire-Timeout": "-1"}, b"{}", 400),
        ({"Hivewire-Timeout": "inf"}, b"{}", 400),
        ({"Hivewire-Timeout": "1e400"}, b"{}", 400),
    ):
        answer = await http.post("/v1/agents/shop/k", content=body, headers=headers)
        assert answer.status_code == status, (headers, body, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_message_that_the_broker_does_not_take_is_too_large(new_gateway: NewGateway, log: list[str]) -> None:
    gateway = await new_gateway(max_body_bytes=4_000_000)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
        answer = await http.post("/v1/agents/shop/k", json="x" * 2_000_000)
    assert answer.status_code == 413
    assert log == []


async def test_other_methods_are_not_allowed(http: httpx.AsyncClient) -> None:
    answer = await http.get("/v1/agents/shop/k")
    assert answer.status_code == 405
    assert json.loads(answer.content)["status"] == 405


async def test_without_a_broker_a_message_is_certainly_not_handled(new_gateway: NewGateway) -> None:
    async with EmbeddedServer() as server:
        gateway = await new_gateway(server.url)
        server.kill()
        async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as http:
            await until(lambda: not gateway.ready)
            headers = {"Hivewire-Timeout": "0.3"}
            answer = await http.post("/v1/agents/shop/k", json="x", headers=headers)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert "was not handled" in answer.json()["detail"]
            assert server.url not in answer.text
            read = await http.get("/v1/topics/a/events")
            assert read.status_code == 503
        await server.restart()
