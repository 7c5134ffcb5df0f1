"""Senders of WebHooks get consent by headers, if their origin is allowed."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

PATHS = ["/v1/events", "/v1/topics/orders/shop"]


async def ask(gateway: Any, path: str, **headers: str) -> httpx.Response:
    names = {f"WebHook-Request-{name.title()}": value for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        return await http.options(path, headers=names, follow_redirects=False)


def consent(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["allow"] == "POST, OPTIONS"
    return {name: value for name, value in answer.headers.items() if name.startswith("webhook-")}


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_gets_consent_unless_it_is_set(new_gateway: Callable[..., Any], path: str) -> None:
    gateway = await new_gateway()
    assert consent(await ask(gateway, path, origin="events.example.com", rate="120")) == {}
    assert consent(await ask(gateway, path)) == {}


@pytest.mark.parametrize("path", PATHS)
async def test_an_origin_that_is_allowed_gets_consent_and_a_rate(new_gateway: Callable[..., Any], path: str) -> None:
    settings = {"webhook_origins": ["events.example.com"], "webhook_rate": 100}
    gateway = await new_gateway(ingestion=settings)
    granted = {"webhook-allowed-origin": "events.example.com", "webhook-allowed-rate": "100"}
    assert consent(await ask(gateway, path, origin="events.example.com", rate="120")) == granted
    assert consent(await ask(gateway, path, origin="Events.Example.com")) == granted
    for other in ("example.com", "evil.events.example.com", "events.example.com.evil", ""):
        assert consent(await ask(gateway, path, origin=other)) == {}


async def test_all_origins_and_any_rate_may_be_allowed(new_gateway: Callable[..., Any]) -> None:
    gateway = await new_gateway(ingestion={"webhook_origins": ["*"]})
    granted = {"webhook-allowed-origin": "*", "webhook-allowed-rate": "*"}
    assert consent(await ask(gateway, PATHS[0], origin="eventgrid.azure.net", rate="120")) == granted
    assert consent(await ask(gateway, PATHS[0])) == {}


async def test_a_rate_that_is_none_is_refused(new_gateway: Callable[..., Any]) -> None:
    gateway = await new_gateway(ingestion={"webhook_origins": ["*"]})
    for rate in ("0", "-1", "1.5", "many", "", "9" * 30):
        assert (await ask(gateway, PATHS[0], origin="events.example.com", rate=rate)).status_code == 400, rate


async def test_a_callback_is_never_called(new_gateway: Callable[..., Any]) -> None:
    called = asyncio.Event()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        called.set()
        writer.close()

    gateway = await new_gateway(ingestion={"webhook_origins": ["*"]})
    async with await asyncio.start_server(on_connection, "127.0.0.1", 0) as server:
        url = "http://{}:{}/confirm?id=1".format(*server.sockets[0].getsockname())
        answer = await ask(gateway, PATHS[0], origin="events.example.com", callback=url)
        assert consent(answer)["webhook-allowed-origin"] == "*"
        # By now a call after the answer would have come, too.
        await ask(gateway, PATHS[0], origin="events.example.com")
        assert not called.is_set()
