"""What a gateway does with what is open when it ends, and with what comes then."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.conftest import DEADLINE_S
from hivewire_gateway import GatewayServer, server
from hivewire_gateway.gateway import Gateway


class Routes:
    """Routes whose ends a test decides."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Event()
        self.gateway: Gateway

    def app(self, gateway: Gateway) -> Starlette:
        self.gateway = gateway
        return Starlette(
            routes=[
                Route("/wait", self.wait),
                Route("/stream", self.stream),
                WebSocketRoute("/socket", self.socket),
            ]
        )

    async def wait(self, request: Request) -> Response:
        self.begun.set()
        await self.go_on.wait()
        return PlainTextResponse("done")

    async def stream(self, request: Request) -> Response:
        async def events() -> Any:
            yield "data: first\n\n"
            self.begun.set()
            await self.gateway.draining.wait()
            yield "data: last\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        self.begun.set()
        await self.gateway.draining.wait()
        await socket.close(1001)


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Routes]:
    routes = Routes()
    monkeypatch.setattr(server, "create_app", routes.app)
    yield routes


async def test_a_request_on_an_open_connection_is_sent_elsewhere(
    new_gateway: Callable[..., Any], routes: Routes
) -> None:
    gateway: GatewayServer = await new_gateway(drain_timeout_s=DEADLINE_S)
    assert gateway.ready
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client:
        assert (await client.get("/nowhere")).status_code == 404
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            waiting = group.create_task(httpx.AsyncClient(timeout=DEADLINE_S).get(f"{gateway.url}/wait"))
            await routes.begun.wait()
            ending = group.create_task(gateway.__aexit__(None, None, None))
            await routes.gateway.draining.wait()
            assert gateway.ready.reason == "the gateway drains"
            refused = await client.get("/wait")
            assert not ending.done() and not waiting.done()
            routes.go_on.set()
    assert refused.status_code == 503
    assert (refused.headers["connection"], refused.headers["retry-after"]) == ("close", "1")
    assert refused.headers["content-type"] == "application/problem+json"
    assert waiting.result().text == "done"
    assert waiting.result().headers["connection"] == "close"


async def test_streams_and_sockets_end_themselves(new_gateway: Callable[..., Any], routes: Routes) -> None:
    gateway: GatewayServer = await new_gateway(drain_timeout_s=DEADLINE_S)
    async with (
        asyncio.timeout(DEADLINE_S),
        httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_S) as client,
        connect(f"{gateway.url.replace('http', 'ws')}/socket") as socket,
    ):
        async with client.stream("GET", "/stream") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "data: first"
            await gateway.__aexit__(None, None, None)
            assert [line async for line in lines if line] == ["data: last"]
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001


async def test_a_socket_that_comes_while_it_drains_is_refused(new_gateway: Callable[..., Any], routes: Routes) -> None:
    gateway: GatewayServer = await new_gateway(drain_timeout_s=DEADLINE_S)
    reader, writer = await opened(gateway)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
        group.create_task(httpx.AsyncClient(timeout=DEADLINE_S).get(f"{gateway.url}/wait"))
        await routes.begun.wait()
        group.create_task(gateway.__aexit__(None, None, None))
        await routes.gateway.draining.wait()
        writer.write(
            b"GET /socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        answer = await reader.read()
        routes.go_on.set()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 503 ") and b"about to stop" in answer


async def test_nothing_is_left_when_nothing_would_end(new_gateway: Callable[..., Any], routes: Routes) -> None:
    gateway: GatewayServer = await new_gateway(drain_timeout_s=0.1)
    reader, writer = await opened(gateway)
    async with asyncio.timeout(DEADLINE_S):
        writer.write(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /wait HTTP/1.1\r\nHost: x\r\n")
        await routes.begun.wait()
        await gateway.__aexit__(None, None, None)
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.count(b"HTTP/1.1") == 1


async def opened(gateway: GatewayServer) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = httpx.URL(gateway.url)
    return await asyncio.open_connection(url.host, url.port)
