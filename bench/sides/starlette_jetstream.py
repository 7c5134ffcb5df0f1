"""A Starlette route that publishes to a stream with nats-py and checks nothing: a gateway written in an afternoon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bench.addresses import Addresses
from bench.http_posts import posts
from bench.load import Call
from bench.raw_stream import publishing
from bench.web_server import serving


@asynccontextmanager
async def server(addresses: Addresses) -> AsyncIterator[None]:
    async with publishing(addresses.nats_url, "bench_route") as publish:

        async def store(request: Request) -> Response:
            headers = request.headers
            sequence = await publish(headers["ce-source"], headers["ce-id"], await request.body())
            return JSONResponse({"sequence": sequence}, status_code=202)

        async with serving(store, addresses.own):
            yield


def client(addresses: Addresses) -> AbstractAsyncContextManager[Call]:
    return posts(addresses.own)
