"""The OpenAPI document of a gateway, its page, and requests that are made of it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from gateway.conftest import NewRuntime
from hivewire import MessageContext, RoutedAgent, TypeSubscription, event, message_handler
from hivewire_gateway import GatewayServer


@dataclass
class Address:
    street: str


@dataclass
class Order:
    item: str
    count: int
    to: Address | None = None


class Receipt(BaseModel):
    total: float


class Shop(RoutedAgent):
    """<script>alert(1)</script> Sells things."""

    @message_handler
    async def on_order(self, message: Order, ctx: MessageContext) -> Receipt:
        """Take an order."""
        return Receipt(total=1.5 * message.count)

    @message_handler
    async def on_text(self, message: str, ctx: MessageContext) -> None: ...

    @message_handler
    async def on_number(self, message: int, ctx: MessageContext) -> AsyncIterator[int]:
        for number in range(min(message, 5)):
            yield number

    @event
    async def on_closing(self, message: dict, ctx: MessageContext) -> None: ...  # type: ignore[type-arg]


@pytest.fixture
async def document(gateway: GatewayServer, http: httpx.AsyncClient, new_runtime: NewRuntime) -> dict[str, Any]:
    """The document of a gateway with agents."""
    runtime = new_runtime()
    await Shop.register(runtime, "shop", Shop)
    await runtime.add_subscription(TypeSubscription("orders", "shop"))
    await runtime.start()
    return await until_described(http, "shop")


async def until_described(http: httpx.AsyncClient, agent_type: str) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while True:
            document: dict[str, Any] = (await http.get("/openapi.json")).json()
            if "application/json; type=" in json.dumps(document["paths"].get(f"/v1/agents/{agent_type}/{{key}}", "")):
                return document
            await asyncio.sleep(0.02)


async def test_the_document_is_valid_and_has_the_messages(document: dict[str, Any]) -> None:
    errors = [
        f"{'/'.join(map(str, each.instance_path))}: {each.message}"
        for each in OPENAPI_31_VALIDATOR.iter_errors(document)
    ]
    assert errors == []
    call = document["paths"]["/v1/agents/shop/{key}"]["post"]
    content = call["requestBody"]["content"]
    assert list(content) == [
        'application/json; type="Order"',
        'application/json; type="int"',
        'application/json; type="str"',
        "application/json",
    ]
    order = followed(document, content['application/json; type="Order"']["schema"])
    assert order["required"] == ["item", "count"]
    street = followed(document, order["properties"]["to"]["anyOf"][0])
    assert list(street["properties"]) == ["street"]
    assert "Take an order." in call["description"]
    assert call["x-hivewire-subscriptions"] == ["exact:orders", "prefix:shop:"]
    topic = document["paths"]["/v1/topics/orders/{source}"]["post"]
    assert {"type": "object"} in topic["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    for path in ("/v1/events", "/v1/topics/{type}/{source}", "/v1/topics/{type}/events", "/v1/streams/{id}", "/docs"):
        assert path in document["paths"]
    references = set(re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(document)))
    assert references
    for kind, name in references:
        assert name in document["components"][kind]


async def test_the_document_follows_the_registry(http: httpx.AsyncClient, new_runtime: NewRuntime) -> None:
    first = await http.get("/openapi.json")
    assert "/v1/agents/shop/{key}" not in first.json()["paths"]
    same = await http.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    runtime = new_runtime()
    await runtime.connect()
    await Shop.register(runtime, "shop", Shop)
    await until_described(http, "shop")
    other = await http.get("/openapi.json", headers={"If-None-Match": first.headers["etag"]})
    assert other.status_code == 200


async def test_the_page_needs_nothing_from_elsewhere_and_runs_no_script_but_its_own(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in page.text
    assert re.search(r"<script(?! src=)|\son\w+=", page.text) is None
    for file, media_type in (("docs.js", "text/javascript"), ("docs.css", "text/css")):
        answer = await http.get(f"/docs/{file}")
        assert answer.headers["content-type"].startswith(media_type)
        assert "://" not in answer.text
        assert re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", answer.text) is None
    for file in ("index.html", "..%2Fdocuments.py", "x"):
        assert (await http.get(f"/docs/{file}")).status_code == 404


@pytest.mark.usefixtures("document")
# The gateway runs beside the strategies, and may use the module meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
async def test_requests_that_are_made_of_the_document_are_answered_as_it_says(gateway: GatewayServer) -> None:
    await asyncio.to_thread(_run_generated_requests, gateway.url)


def _run_generated_requests(url: str) -> None:
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    schema.config.output.sanitization.update(enabled=False)
    checks = [
        not_a_server_error_but_documented,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    answered: dict[str, set[int]] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        if (operation.method.upper(), operation.path) in ENDLESS:
            continue
        statuses = answered.setdefault(operation.path, set())
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):

            @seed(1)
            @given(case=operation.as_strategy(generation_mode=mode))
            @settings(
                max_examples=10,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def send(case: schemathesis.Case) -> None:
                response = case.call_and_validate(checks=checks, headers={"Hivewire-Timeout": "0.2"})
                statuses.add(response.status_code)

            try:
                send()
            except Unsatisfiable:
                # Of what takes nothing there is nothing that could be wrong.
                assert mode is schemathesis.GenerationMode.NEGATIVE
    # It reached the handlers, and what it made wrong was refused.
    assert answered["/v1/agents/shop/{key}"] >= {200, 204, 400, 422}
    assert 202 in answered["/v1/topics/orders/{source}"]


ENDLESS = {("GET", "/v1/topics/{type}/events"), ("GET", "/v1/workers")}
"""What does not end by itself."""


def not_a_server_error_but_documented(ctx: Any, response: Any, case: Any) -> bool | None:
    """Let a deadline pass: what is generated may wait for it."""
    return None if response.status_code in (504,) else not_a_server_error(ctx, response, case)


def followed(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        node: Any = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            node = node[name]
        schema = node
    return schema
