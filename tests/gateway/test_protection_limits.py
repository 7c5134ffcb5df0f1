"""Too much, too deep, too many and too slow, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import select
import socket
import time
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.conftest import DEADLINE_S, NewRuntime
from gateway.raw_http import Answer, RawClient, raw_client
from hivewire import MessageContext, RoutedAgent, message_handler
from hivewire_gateway import GatewayServer

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "orders", "ce-source": "shop"}
HEAD = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" + "".join(
    f"{name}: {value}\r\n" for name, value in EVENT.items()
)
GIB = 1 << 30


def resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def send_until_answered(raw: RawClient, part: bytes, total: int) -> tuple[Answer, int]:
    """Send a body until the answer is there; return it and how much was sent."""
    sent = 0

    async def send() -> None:
        nonlocal sent
        try:
            while sent < total:
                await raw.send(part)
                sent += len(part)
        except ConnectionError:
            pass

    async with asyncio.TaskGroup() as group:
        sending = group.create_task(send())
        answer = await raw.answer()
        sending.cancel()
    return answer, sent


# Size


async def test_a_gibibyte_that_is_announced_is_refused_before_it_is_sent(gateway: GatewayServer) -> None:
    async with raw_client(gateway) as raw:
        await raw.send(f"{HEAD}Content-Length: {GIB}\r\nExpect: 100-continue\r\n\r\n")
        answer = await raw.answer()
        assert answer.status == 413
        assert answer.headers["connection"] == "close"
        assert await raw.wait_closed() == b""


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_gibibyte_is_neither_read_nor_held(gateway: GatewayServer, chunked: bool) -> None:
    data = b"x" * 65536
    before = resident_bytes()
    async with raw_client(gateway) as raw:
        await raw.send(HEAD + ("Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIB}") + "\r\n\r\n")
        answer, sent = await send_until_answered(raw, b"10000\r\n" + data + b"\r\n" if chunked else data, GIB)
        await raw.wait_closed()
    assert answer.status == 413
    assert answer.headers["connection"] == "close"
    # Beside what the gateway has read there is what the kernel holds for both of them.
    assert sent < 64_000_000
    assert resident_bytes() - before < 100_000_000


async def test_a_client_that_only_reads_at_the_end_gets_its_answer(gateway: GatewayServer) -> None:
    part = b"x" * 100_000

    def send_all_then_read() -> bytes:
        address = urlsplit(gateway.url)
        with socket.create_connection((address.hostname, address.port), timeout=DEADLINE_S) as connection:
            connection.sendall(f"{HEAD}Content-Length: {10 * len(part) + 500_000}\r\n\r\n".encode())
            # The answer is there, and the client goes on as if it were not.
            select.select([connection], [], [], DEADLINE_S)
            for _ in range(9):
                connection.sendall(part)
                time.sleep(0.01)  # so that a reset would be seen by the next one
            return connection.recv(65536)

    assert (await asyncio.to_thread(send_all_then_read)).startswith(b"HTTP/1.1 413 ")


async def test_the_next_request_is_not_taken_for_the_rest_of_a_body(gateway: GatewayServer) -> None:
    async with raw_client(gateway) as raw:
        await raw.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nabcde")
        assert (await raw.answer()).status == 404
        await raw.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.answer()).status == 404


# Compression


async def test_compressed_bodies_are_refused(http: httpx.AsyncClient) -> None:
    for encoding in ("gzip", "deflate", "br", "gzip, gzip"):
        refused = await http.post(
            "/v1/events", content=gzip.compress(b"{}", mtime=0), headers={**EVENT, "Content-Encoding": encoding}
        )
        assert refused.status_code == 415
        assert refused.headers["accept-encoding"] == "identity"
    assert (
        await http.post("/v1/events", json={}, headers={**EVENT, "Content-Encoding": "identity"})
    ).status_code == 202


@pytest.fixture
async def unpacking(new_gateway: Callable[..., Any]) -> AsyncIterator[httpx.AsyncClient]:
    server = await new_gateway(limits={"accept_gzip": True})
    headers = {**EVENT, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S, headers=headers) as http:
        yield http


async def test_a_gzip_bomb_does_not_go_off(unpacking: httpx.AsyncClient) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    bomb = b"".join(packer.compress(b" " * 1_000_000) for _ in range(200)) + packer.flush()
    assert len(bomb) < 250_000
    before = resident_bytes()
    assert (await unpacking.post("/v1/events", content=bomb)).status_code == 413
    assert resident_bytes() - before < 50_000_000


async def test_a_packed_body_is_what_it_was(unpacking: httpx.AsyncClient) -> None:
    value = {"text": "Hällo " * 50_000}
    sent = await unpacking.post("/v1/events", content=gzip.compress(json.dumps(value).encode()))
    assert sent.status_code == 202


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"{}", "is not gzip"),
        (gzip.compress(b'{"a": 1}', mtime=0)[:-6], "ends before"),
        (gzip.compress(b"{}", mtime=0) + b"x", "goes on after"),
        (gzip.compress(b"{}", mtime=0) + gzip.compress(b"{}", mtime=0), "goes on after"),
        (gzip.compress(b"{}", mtime=0)[:-8] + bytes(8), "is not gzip"),
    ],
)
async def test_what_is_no_gzip_is_refused(unpacking: httpx.AsyncClient, body: bytes, says: str) -> None:
    refused = await unpacking.post("/v1/events", content=body)
    assert refused.status_code == 400
    assert says in refused.json()["detail"]


# JSON


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 1000 + b"1" + b"}" * 1000, b"NaN", b"9" * 10_000, b'"\\ud800"', b"\xff", b"{"]
)
async def test_json_that_breaks_parsers_is_a_bad_request(http: httpx.AsyncClient, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    refused = await http.post("/v1/agents/nobody/x", content=body, headers=headers)
    assert refused.status_code == 400


# Headers


async def test_too_many_headers_are_refused(gateway: GatewayServer, http: httpx.AsyncClient) -> None:
    refused = await http.post("/v1/events", json={}, headers={**EVENT, **{f"x-{number}": "1" for number in range(200)}})
    assert refused.status_code == 431
    async with raw_client(gateway) as raw:
        await raw.send("GET / HTTP/1.1\r\nHost: localhost\r\nx: " + "y" * 20_000)
        answer = await raw.answer()
        assert answer.status == 431
        assert answer.headers["content-type"] == "application/problem+json"
        await raw.wait_closed()


async def test_large_headers_are_refused_also_when_they_come_at_once(gateway: GatewayServer) -> None:
    async with raw_client(gateway) as raw:
        await raw.send("GET / HTTP/1.1\r\nHost: localhost\r\nx: " + "y" * 20_000 + "\r\n\r\n")
        assert (await raw.answer()).status == 431


@pytest.mark.parametrize(
    "request_text",
    [
        "this is no HTTP\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_a_problem_and_no_second_chance(
    gateway: GatewayServer, request_text: str
) -> None:
    async with raw_client(gateway) as raw:
        await raw.send(request_text)
        answer = await raw.answer()
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 400
        await raw.wait_closed()


HEADER_NAMES = st.sampled_from(
    [
        "host",
        "origin",
        "authorization",
        "content-type",
        "content-encoding",
        "content-length",
        "transfer-encoding",
        "accept",
        "expect",
        "upgrade",
        "connection",
        "te",
        "ce-id",
        "ce-type",
        "ce-source",
        "ce-time",
        "ce-specversion",
        "hivewire-message-type",
        "hivewire-timeout",
        "sec-fetch-site",
        "access-control-request-method",
        "webhook-request-origin",
        "last-event-id",
        "traceparent",
        "x-any",
    ]
)
HEADER_VALUES = st.one_of(
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30),
    st.sampled_from(
        ["localhost", "application/json", "gzip", "chunked", "websocket", "upgrade", "1", "1.0", "Bearer x", "%ff"]
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "POST", "OPTIONS", "PUT", "HEAD", "TRACE", "X"]),
    path=st.sampled_from(
        ["/", "/v1/events", "/v1/agents/%2e%2e/x", "/v1/topics/a/b", "/v1/topics/a/events", "//", "/%ff?%ff"]
    ),
    headers=st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=8),
    body=st.binary(max_size=40),
)
async def test_no_headers_make_the_gateway_fail(
    gateway: GatewayServer, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    async with raw_client(gateway) as raw:
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        await raw.send(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}Connection: close\r\n{lines}\r\n".encode("latin-1")
            + body
        )
        raw.writer.write_eof()
        async with asyncio.timeout(DEADLINE_S):
            line = await raw.reader.readline()
    # 501 is for a Transfer-Encoding that nobody knows (RFC 9112, 6.1).
    assert line == b"" or int(line.split()[1]) < 500 or line.split()[1] == b"501", line


# Slow clients


async def test_a_slow_loris_is_cut_off(new_gateway: Callable[..., Any]) -> None:
    server = await new_gateway(limits={"header_timeout_s": 0.5})
    loop = asyncio.get_running_loop()
    async with raw_client(server) as raw:
        begun = loop.time()
        await raw.send("GET / HTTP/1.1\r\nHost: localhost\r\n")
        answered = asyncio.create_task(raw.answer())
        while not answered.done():
            await raw.send("x: y\r\n")
            await asyncio.sleep(0.05)
        assert answered.result().status == 408
        assert loop.time() - begun < 5
        await raw.wait_closed()


async def test_a_connection_that_says_nothing_is_closed(new_gateway: Callable[..., Any]) -> None:
    server = await new_gateway(limits={"header_timeout_s": 0.3, "idle_timeout_s": 1})
    async with raw_client(server) as silent, raw_client(server) as idle:
        await idle.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await idle.answer()).status == 404
        # An answer would be taken for that to its first request.
        assert await silent.wait_closed() == b""
        # Not the time for headers: nothing of a request has come.
        assert await idle.wait_closed() == b""


async def test_a_slow_request_on_a_used_connection_is_cut_off(new_gateway: Callable[..., Any]) -> None:
    server = await new_gateway(limits={"header_timeout_s": 0.3})
    async with raw_client(server) as raw:
        await raw.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.answer()).status == 404
        await raw.send("GET /now")
        assert (await raw.answer()).status == 408


async def test_the_rest_of_a_body_that_nobody_wants_does_not_trickle_in_forever(
    new_gateway: Callable[..., Any],
) -> None:
    server = await new_gateway(limits={"header_timeout_s": 0.3})
    async with raw_client(server) as raw:
        await raw.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nab")
        assert (await raw.answer()).status == 404
        closed = asyncio.create_task(raw.wait_closed())
        while not closed.done():
            try:
                await raw.send("c")
            except ConnectionError:
                break
            await asyncio.sleep(0.05)
        assert await closed == b""


@pytest.mark.parametrize("limits", [{"body_timeout_s": 0.4}, {"body_grace_s": 0.2, "min_body_bytes_per_s": 1000}])
async def test_a_body_that_trickles_is_refused(new_gateway: Callable[..., Any], limits: dict[str, Any]) -> None:
    server = await new_gateway(limits=limits)
    async with raw_client(server) as raw:
        await raw.send(HEAD + "Content-Length: 100000\r\n\r\n")
        answered = asyncio.create_task(raw.answer())
        while not answered.done():
            await raw.send("  ")
            await asyncio.sleep(0.05)
        assert answered.result().status == 408
        assert answered.result().headers["connection"] == "close"
        await raw.wait_closed()


class Waiter(RoutedAgent):
    """Answers when it may."""

    def __init__(self, gate: asyncio.Event, waiting: asyncio.Semaphore) -> None:
        super().__init__("waits")
        self._gate = gate
        self._waiting = waiting

    @message_handler
    async def on_text(self, message: str, ctx: MessageContext) -> str:
        self._waiting.release()
        await self._gate.wait()
        return message * 900_000


MESSAGE = (
    "POST /v1/agents/waiter/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    'Hivewire-Message-Type: str\r\nContent-Length: 3\r\n\r\n"x"'
)


@pytest.fixture
async def gate(new_runtime: NewRuntime) -> AsyncIterator[tuple[asyncio.Event, asyncio.Semaphore]]:
    """Opens the way for the answers of the agents of type waiter; the other one counts those who wait."""
    opens, waiting = asyncio.Event(), asyncio.Semaphore(0)
    runtime = new_runtime()
    await Waiter.register(runtime, "waiter", lambda: Waiter(opens, waiting))
    await runtime.start()
    yield opens, waiting
    opens.set()


async def test_a_client_that_reads_nothing_is_cut_off(
    new_gateway: Callable[..., Any], gate: tuple[asyncio.Event, asyncio.Semaphore]
) -> None:
    gate[0].set()
    server = await new_gateway(limits={"write_timeout_s": 0.5})
    async with raw_client(server, receive_buffer=4096) as raw:
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send("".join(MESSAGE.format(key=number) for number in range(12)))
        async with asyncio.timeout(DEADLINE_S):
            while not server_connections(server):
                await asyncio.sleep(0.01)
            while server_connections(server):
                await asyncio.sleep(0.05)


async def test_a_client_that_reads_slowly_but_reads_is_served(
    new_gateway: Callable[..., Any], gate: tuple[asyncio.Event, asyncio.Semaphore]
) -> None:
    gate[0].set()
    server = await new_gateway(limits={"write_timeout_s": 0.5})
    async with raw_client(server, receive_buffer=65536) as raw:
        await raw.send("".join(MESSAGE.format(key=number) for number in range(6)))
        read = 0
        async with asyncio.timeout(30):
            while read < 6 * 900_002:
                data = await raw.reader.read(65536)
                assert data, "cut off"
                read += len(data)
                await asyncio.sleep(0.01)


def server_connections(server: GatewayServer) -> int:
    return len(server._server.server_state.connections)


# How many at once


async def test_more_connections_than_allowed_are_turned_away(new_gateway: Callable[..., Any]) -> None:
    server = await new_gateway(limits={"max_connections": 3})
    async with AsyncExitStack() as stack:
        for _ in range(3):
            kept = await stack.enter_async_context(raw_client(server))
            await kept.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await kept.answer()).status == 404
        for _ in range(3):
            async with raw_client(server) as raw:
                await raw.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await raw.answer()
                assert (answer.status, answer.headers["retry-after"]) == (503, "5")
                assert answer.headers["content-type"] == "application/problem+json"
                await raw.wait_closed()
        await kept.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await kept.answer()).status == 404
    async with asyncio.timeout(DEADLINE_S):
        while server_connections(server):
            await asyncio.sleep(0.02)
    async with raw_client(server) as raw:
        await raw.send("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await raw.answer()).status == 404


async def test_more_requests_than_allowed_are_told_to_come_back(
    new_gateway: Callable[..., Any], gate: tuple[asyncio.Event, asyncio.Semaphore]
) -> None:
    opens, waiting = gate
    server = await new_gateway(limits={"max_in_flight": 2, "max_streams": 1})
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as http:

        def call(key: str, **headers: str) -> Any:
            return http.post(f"/v1/agents/waiter/{key}", json="x", headers={"Hivewire-Message-Type": "str", **headers})

        running = [asyncio.create_task(call(str(number))) for number in range(2)]
        for _ in running:
            async with asyncio.timeout(DEADLINE_S):
                await waiting.acquire()
        refused = await call("third")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert "2 requests at once" in refused.json()["detail"]
        opens.set()
        assert [answer.status_code for answer in await asyncio.gather(*running)] == [200, 200]
        assert (await call("third")).status_code == 200


async def test_streams_have_a_limit_of_their_own(new_gateway: Callable[..., Any]) -> None:
    server = await new_gateway(limits={"max_streams": 2, "max_in_flight": 1})
    url = "/v1/topics/orders/events"
    async with (
        httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as http,
        http.stream("GET", url) as first,
        http.stream("GET", url) as second,
    ):
        assert [first.status_code, second.status_code] == [200, 200]
        refused = await http.get(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert "2 streams at once" in refused.json()["detail"]
        # They take nothing away from requests, though these are limited too.
        assert (await http.post("/v1/events", json={}, headers=EVENT)).status_code == 202
        await first.aclose()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with http.stream("GET", url) as again:
                    if again.status_code == 200:
                        break
                await asyncio.sleep(0.02)


async def test_a_principal_that_sends_too_fast_is_told_when_to_come_back(new_gateway: Callable[..., Any]) -> None:
    rates = {"events": {"per_s": 0.5, "burst": 3}, "default": {"per_s": 0.1}}
    rules = {"anonymous": {"publish": ["*"], "rates": rates}}
    server = await new_gateway(security={"principals": rules})
    async with httpx.AsyncClient(base_url=server.url, timeout=DEADLINE_S) as http:
        answers = [await http.post("/v1/events", json={}, headers=EVENT) for _ in range(5)]
        assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
        assert answers[-1].headers["retry-after"] in ("1", "2")
        assert "class 'events'" in answers[-1].json()["detail"]
        # Another class has a limit of its own.
        assert [(await http.get("/nowhere")).status_code for _ in range(2)] == [404, 429]
