"""What web pages can do to a gateway on the machine where they are looked at, over real sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.conftest import DEADLINE_S
from gateway.raw_http import raw_client
from hivewire_gateway import GatewayServer, new_token, token_line

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "orders", "ce-source": "shop"}
APP = "https://app.example"


async def test_a_name_that_was_made_to_point_here_is_refused(http: httpx.AsyncClient) -> None:
    refused = await http.post("/v1/events", json={}, headers={**EVENT, "Host": "evil.example:8080"})
    assert refused.status_code == 403
    assert "'evil.example:8080' is not a name of this gateway" in refused.json()["detail"]
    assert (await http.post("/v1/events", json={}, headers={**EVENT, "Host": "localhost:1"})).status_code == 202


async def test_a_request_without_a_host_is_refused(gateway: GatewayServer) -> None:
    async with raw_client(gateway) as raw:
        await raw.send("GET /v1/events HTTP/1.0\r\n\r\n")
        assert (await raw.answer()).status == 403
    async with raw_client(gateway) as raw:
        await raw.send("GET /v1/events HTTP/1.1\r\n\r\n")
        assert (await raw.answer()).status == 400


async def test_an_address_in_place_of_the_path_does_not_replace_the_host(gateway: GatewayServer) -> None:
    async with raw_client(gateway) as raw:
        await raw.send("GET http://localhost/v1/events HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        assert (await raw.answer()).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
async def test_a_page_of_somebody_else_posts_nothing(http: httpx.AsyncClient, origin: str) -> None:
    refused = await http.post("/v1/events", json={}, headers={**EVENT, "Origin": origin})
    assert refused.status_code == 403
    assert origin in refused.json()["detail"]
    assert "access-control-allow-origin" not in refused.headers


async def test_a_form_posts_nothing_even_without_an_origin(http: httpx.AsyncClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refused = await http.post("/v1/agents/a/b", content=b"{}", headers={"Content-Type": content_type})
        assert refused.status_code == 415


async def test_the_gateways_own_pages_may_use_it(gateway: GatewayServer, http: httpx.AsyncClient) -> None:
    headers = {**EVENT, "Origin": gateway.url, "Sec-Fetch-Site": "same-origin"}
    assert (await http.post("/v1/events", json={}, headers=headers)).status_code == 202


async def test_a_request_of_another_site_needs_no_origin_to_be_refused(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/topics/orders/events", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403


@pytest.mark.parametrize(
    ("headers", "says"),
    [({"Origin": "https://evil.example"}, "evil.example"), ({"Host": "evil.example"}, "not a name of this gateway")],
)
async def test_a_websocket_of_another_site_is_refused(
    gateway: GatewayServer, headers: dict[str, str], says: str
) -> None:
    async with raw_client(gateway) as raw:
        merged = {"Host": "localhost", **headers}
        lines = "".join(f"{name}: {value}\r\n" for name, value in merged.items())
        await raw.send(
            f"GET /v1/workers HTTP/1.1\r\n{lines}Connection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        answer = await raw.answer()
    assert answer.status == 403
    assert says in answer.json()["detail"]


async def test_without_cors_no_page_may_ask(http: httpx.AsyncClient) -> None:
    asked = await http.options("/v1/events", headers={"Origin": APP, "Access-Control-Request-Method": "POST"})
    assert not [name for name in asked.headers if name.startswith("access-control-")]


@pytest.fixture
async def open_to_app(new_gateway: Callable[..., Any]) -> GatewayServer:
    server: GatewayServer = await new_gateway(security={"cors_origins": [APP]})
    return server


async def test_pages_of_allowed_origins_may_use_it(open_to_app: GatewayServer) -> None:
    async with httpx.AsyncClient(base_url=open_to_app.url, timeout=DEADLINE_S) as http:
        preflight = {"Origin": APP, "Access-Control-Request-Method": "POST"}
        asked = await http.options("/v1/events", headers={**preflight, "Access-Control-Request-Headers": "ce-id"})
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == APP
        assert "ce-id" in asked.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in asked.headers

        sent = await http.post("/v1/events", json={}, headers={**EVENT, "Origin": APP, "Sec-Fetch-Site": "cross-site"})
        assert sent.status_code == 202
        assert sent.headers["access-control-allow-origin"] == APP

        for origin in ("https://evil.example", APP + ".evil.example", "null"):
            asked = await http.options("/v1/events", headers={**preflight, "Origin": origin})
            assert "access-control-allow-origin" not in asked.headers
            assert (await http.post("/v1/events", json={}, headers={**EVENT, "Origin": origin})).status_code == 403


async def test_a_page_may_read_why_it_was_refused(new_gateway: Callable[..., Any], tmp_path: Any) -> None:
    (tmp_path / "tokens").write_text(token_line("shop", new_token()))
    server = await new_gateway(security={"cors_origins": [APP], "tokens": {"file": tmp_path / "tokens"}})
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as http:
        refused = await http.get("/v1/topics/orders/events", headers={"Origin": APP})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == APP
    assert "Retry-After" in refused.headers["access-control-expose-headers"]


async def test_the_consent_for_webhooks_is_no_business_of_cors(
    open_to_app: GatewayServer, http: httpx.AsyncClient
) -> None:
    handshake = {"WebHook-Request-Origin": "events.example"}
    async with httpx.AsyncClient(base_url=open_to_app.url, timeout=DEADLINE_S) as with_cors:
        one = await http.options("/v1/events", headers=handshake)
        other = await with_cors.options("/v1/events", headers=handshake)
        third = await with_cors.options("/v1/events", headers={**handshake, "Origin": "https://events.example"})
    assert one.status_code == other.status_code == third.status_code
    assert one.headers.get("webhook-allowed-origin") == other.headers.get("webhook-allowed-origin")
    assert third.headers.get("webhook-allowed-origin") == other.headers.get("webhook-allowed-origin")


async def test_a_websocket_of_an_allowed_origin_passes(open_to_app: GatewayServer) -> None:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(open_to_app.url.replace("http", "ws") + "/nowhere", origin=APP):  # type: ignore[arg-type]
            pass
    assert b"cors_origins" not in (caught.value.response.body or b"")


async def test_when_everybody_was_asked_for_the_hosts_may_be_named(new_gateway: Callable[..., Any]) -> None:
    for hosts, status in [([], 202), (["gateway.example"], 403)]:
        server = await new_gateway(host="0.0.0.0", security={"anonymous": True, "hosts": hosts})
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        async with httpx.AsyncClient(base_url=url, timeout=DEADLINE_S) as http:
            sent = await http.post("/v1/events", json={}, headers={**EVENT, "Host": "elsewhere.example"})
            assert sent.status_code == status
            named = await http.post("/v1/events", json={}, headers={**EVENT, "Host": "gateway.example"})
            assert named.status_code == 202
            other = await http.post("/v1/events", json={}, headers={**EVENT, "Origin": "https://evil.example"})
            assert other.status_code == 403
