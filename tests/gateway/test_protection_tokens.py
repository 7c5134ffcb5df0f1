"""Bearer tokens and what principals may do, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from gateway.conftest import DEADLINE_S
from gateway.raw_http import raw_client
from hivewire import (
    AccessDeniedError,
    AgentId,
    HttpAgentRuntime,
    MessageContext,
    RoutedAgent,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    message_handler,
)
from hivewire_gateway import ConfigurationError, GatewayServer, new_token, token_line

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "orders", "ce-source": "shop-1"}


@asynccontextmanager
async def client(server: GatewayServer, token: str = "") -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=DEADLINE_S) as made:
        yield made


async def post(server: GatewayServer, token: str = "", *, url: str = "/v1/events", **headers: str) -> httpx.Response:
    async with client(server, token) as http:
        return await http.post(url, json={}, headers={**EVENT, **headers})


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, str]:
    made = {name: new_token() for name in ("shop", "nobody")}
    lines = [token_line(name, token) for name, token in made.items()]
    (tmp_path / "tokens").write_text("# who may come in\n\n" + "\n".join(lines) + "   # the last one\n")
    return made


@pytest.fixture
def security(tmp_path: Path, tokens: dict[str, str]) -> dict[str, Any]:
    return {
        "tokens": {"file": tmp_path / "tokens"},
        "principals": {"shop": {"publish": ["orders/shop-*"], "send": ["greeter/shop"]}},
    }


@pytest.fixture
async def guarded(new_gateway: Callable[..., Any], security: dict[str, Any]) -> GatewayServer:
    server: GatewayServer = await new_gateway(security=security)
    return server


async def test_a_token_lets_its_principal_in(guarded: GatewayServer, tokens: dict[str, str]) -> None:
    assert (await post(guarded, tokens["shop"])).status_code == 202


async def test_without_a_token_there_is_a_challenge(guarded: GatewayServer) -> None:
    answer = await post(guarded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="hivewire"'
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"] == "A token is needed: send Authorization: Bearer."


@pytest.mark.parametrize("path", ["/v1/events", "/v1/agents/a/b", "/openapi.json", "/nowhere", "/"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_no_path_tells_strangers_anything(guarded: GatewayServer, method: str, path: str) -> None:
    async with client(guarded) as http:
        assert (await http.request(method, path)).status_code == 401


async def test_a_token_that_nobody_has_is_invalid(guarded: GatewayServer, tokens: dict[str, str]) -> None:
    for token in ("x", tokens["shop"][:-1], tokens["shop"] + "x", "a.b.c"):
        answer = await post(guarded, url="/v1/events", Authorization=f"Bearer {token}")
        assert answer.status_code == 401
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("header", ["Basic c2hvcDpzZXNhbWU=", "Bearer", "sesame", ""])
async def test_another_scheme_is_told_which_one(guarded: GatewayServer, header: str) -> None:
    answer = await post(guarded, Authorization=header)
    assert answer.status_code == 401
    assert 'error="invalid_request"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("header", ["Bearer ", "Bearer \xe4", "Bearer \xff.\xfe.\xfd", "\xe4", "Bearer " + "x" * 9000])
async def test_tokens_that_are_no_text_are_refused(guarded: GatewayServer, header: str) -> None:
    async with raw_client(guarded) as raw:
        await raw.send(f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {header}\r\n\r\n")
        assert (await raw.answer()).status == 401


async def test_several_tokens_are_none(guarded: GatewayServer, tokens: dict[str, str]) -> None:
    async with raw_client(guarded) as raw:
        line = f"Authorization: Bearer {tokens['shop']}\r\n"
        await raw.send(f"GET / HTTP/1.1\r\nHost: localhost\r\n{line}{line}\r\n")
        assert (await raw.answer()).status == 400


async def test_the_scheme_has_no_case(guarded: GatewayServer, tokens: dict[str, str]) -> None:
    assert (await post(guarded, Authorization=f"bEARER {tokens['shop']}")).status_code == 202


async def test_what_no_rule_allows_is_forbidden(guarded: GatewayServer, tokens: dict[str, str]) -> None:
    answer = await post(guarded, tokens["shop"], **{"ce-source": "store-1"})
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith("The principal 'shop' may not publish to orders/store-1")
    assert (await post(guarded, tokens["shop"], url="/v1/agents/greeter/else")).status_code == 403
    assert (await post(guarded, tokens["shop"], url="/v1/agents/greeter/shop")).status_code == 404
    assert (await post(guarded, tokens["nobody"])).status_code == 403


async def test_the_defaults_are_for_those_without_rules(
    new_gateway: Callable[..., Any], security: dict[str, Any], tokens: dict[str, str]
) -> None:
    server = await new_gateway(security={**security, "defaults": {"publish": ["orders/*"]}})
    assert (await post(server, tokens["nobody"])).status_code == 202
    assert (await post(server, tokens["shop"], **{"ce-source": "x"})).status_code == 403


async def test_a_token_in_the_query_is_not_taken_unless_that_is_set(
    new_gateway: Callable[..., Any], guarded: GatewayServer, security: dict[str, Any], tokens: dict[str, str]
) -> None:
    url = f"/v1/events?access_token={tokens['shop']}"
    refused = await post(guarded, url=url)
    assert refused.status_code == 401
    assert "query" in refused.json()["detail"]
    server = await new_gateway(security={**security, "query_tokens": True})
    assert (await post(server, url=url)).status_code == 202
    assert (await post(server, url=url.replace("access_token", "access%5ftoken"))).status_code == 202
    assert (await post(server, tokens["shop"], url=url)).status_code == 400
    assert (await post(server, url="/v1/events?access_token=x")).status_code == 401


async def test_tokens_change_while_the_gateway_runs(
    guarded: GatewayServer, tokens: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, file = tokens["shop"], new_token(), tmp_path / "tokens"
    both = token_line("shop", old) + "\n" + token_line("shop", new) + "\n"
    file.write_text(both)
    await until_status(guarded, new, 202)
    assert (await post(guarded, old)).status_code == 202

    file.write_text("this is no tokens file: sesame")
    async with asyncio.timeout(DEADLINE_S):
        while "so what it said before still holds" not in caplog.text:
            assert (await post(guarded, new)).status_code == 202
            await asyncio.sleep(0.05)
    assert "line 1 is not a name" in caplog.text and "sesame" not in caplog.text

    replacement = tmp_path / "replacement"
    replacement.write_text(token_line("shop", new))
    replacement.rename(file)
    await until_status(guarded, old, 401)
    assert (await post(guarded, new)).status_code == 202


async def until_status(server: GatewayServer, token: str, status: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await post(server, token)).status_code != status:
            await asyncio.sleep(0.05)


async def test_tokens_come_from_the_environment_too(
    new_gateway: Callable[..., Any], tokens: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_TOKENS", token_line("shop", tokens["shop"]))
    server = await new_gateway(security={"tokens": {"env": "GATEWAY_TOKENS"}, "defaults": {"publish": ["*"]}})
    assert (await post(server, tokens["shop"])).status_code == 202
    assert (await post(server, tokens["nobody"])).status_code == 401


async def test_strangers_come_in_beside_tokens_only_when_asked_for(
    new_gateway: Callable[..., Any], security: dict[str, Any], tokens: dict[str, str]
) -> None:
    rules = {**security["principals"], "anonymous": {"publish": ["orders/open"]}}
    server = await new_gateway(host="0.0.0.0", security={**security, "anonymous": True, "principals": rules})
    server_url = server.url.replace("0.0.0.0", "127.0.0.1")
    async with httpx.AsyncClient(base_url=server_url, timeout=DEADLINE_S) as http:
        for source, token, status in [("open", "", 202), ("shop-1", "", 403), ("shop-1", tokens["shop"], 202)]:
            headers = {**EVENT, "ce-source": source, **({"Authorization": f"Bearer {token}"} if token else {})}
            assert (await http.post("/v1/events", json={}, headers=headers)).status_code == status
        wrong = await http.post("/v1/events", json={}, headers={**EVENT, "Authorization": "Bearer x"})
        assert wrong.status_code == 401


async def test_a_gateway_that_others_reach_wants_to_be_told_who(new_gateway: Callable[..., Any]) -> None:
    with pytest.raises(ConfigurationError, match="--anonymous"):
        await new_gateway(host="0.0.0.0")


async def test_a_websocket_needs_a_token_too(guarded: GatewayServer, tokens: dict[str, str]) -> None:
    url = guarded.url.replace("http", "ws") + "/v1/anything"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url):
            pass
    assert caught.value.response.status_code == 401
    assert caught.value.response.headers["WWW-Authenticate"] == 'Bearer realm="hivewire"'
    assert b"A token is needed" in (caught.value.response.body or b"")
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, additional_headers={"Authorization": f"Bearer {tokens['shop']}"}):
            pass
    assert caught.value.response.status_code in (403, 404)  # there is nothing at this path


class Till(RoutedAgent):
    @message_handler
    async def on_text(self, message: str, ctx: MessageContext) -> str:
        return message.upper()


async def test_a_worker_may_do_what_its_principal_may(
    new_gateway: Callable[..., Any], security: dict[str, Any], tokens: dict[str, str]
) -> None:
    rules = {"serve": ["till"], "send": ["till/*"], "read": ["orders/*"], "publish": ["orders/shop-*"]}
    server = await new_gateway(security={**security, "principals": {"shop": rules}})
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as http:
        assert (await http.get("/v1/workers")).status_code == 401
    worker = HttpAgentRuntime(server.url, token=tokens["shop"])
    try:
        await Till.register(worker, "till", lambda: Till("sells"))
        await worker.start()
        assert await worker.send_message("tea", AgentId("till", "1")) == "TEA"
        await worker.add_subscription(TypeSubscription("orders", "till"))
        await worker.publish_message("tea", TopicId("orders", "shop-1"))
        for refused in (
            worker.add_subscription(TypePrefixSubscription("orders", "till")),
            worker.add_subscription(TypeSubscription("secrets", "till")),
            worker.send_message("tea", AgentId("greeter", "1")),
            worker.publish_message("tea", TopicId("orders", "store-1")),
            Till.register(worker, "greeter", lambda: Till("sells")),
        ):
            with pytest.raises(AccessDeniedError, match="'shop' may not"):
                await refused
    finally:
        await worker.stop()


async def test_those_who_ask_by_options_need_no_token(guarded: GatewayServer) -> None:
    async with client(guarded) as http:
        answer = await http.options("/v1/events", headers={"WebHook-Request-Origin": "events.example"})
    assert answer.status_code != 401


async def test_no_token_and_no_body_is_ever_logged(
    new_gateway: Callable[..., Any],
    security: dict[str, Any],
    tokens: dict[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("", "uvicorn", "uvicorn.error", "uvicorn.access", "hivewire", "websockets", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.DEBUG)
    server = await new_gateway(security={**security, "query_tokens": True}, access_log=True)
    token, wrong, secret = tokens["shop"], new_token(), "sesame"

    async def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError(f"could not store {secret}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hivewire_gateway.event_store.EventStore.store", fail)
        async with client(server, token) as http:
            failed = await http.post("/v1/events", json={"a": secret}, headers=EVENT)
    assert failed.status_code == 500
    assert secret not in failed.text
    async with client(server) as http:
        for query in (token, wrong):
            await http.post(f"/v1/events?access_token={query}", json={"a": secret}, headers=EVENT)
            await http.post("/v1/events", content=secret, headers={**EVENT, "Authorization": f"Bearer {query}"})
            await http.post("/v1/events", content=secret, headers={**EVENT, "Authorization": query})
            for path in (f"/v1/workers?access_token={query}", "/v1/workers"):
                with pytest.raises(InvalidStatus):
                    async with connect(
                        server.url.replace("http", "ws") + path, additional_headers={"Authorization": f"Bearer {query}"}
                    ):
                        pass
    ours = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("websockets.client")
    )
    assert "POST /v1/events 500 shop" in ours
    assert "POST /v1/events failed: RuntimeError" in ours
    assert "POST /v1/events 202 shop" in ours
    assert "POST /v1/events 401 -" in ours
    from_server = "\n".join(
        f"{record.getMessage()} {record.exc_text}"
        for record in caplog.records
        if record.name.split(".")[0] in ("hivewire", "uvicorn", "asyncio")
    )
    for hidden in (token, wrong, secret):
        assert hidden not in from_server
