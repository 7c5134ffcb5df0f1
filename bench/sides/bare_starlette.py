"""A Starlette route on uvicorn that reads the body and answers, and does nothing with it: what HTTP alone costs."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bench.addresses import Addresses
from bench.http_posts import posts
from bench.load import Call
from bench.web_server import serving


def server(addresses: Addresses) -> AbstractAsyncContextManager[None]:
    async def answer(request: Request) -> Response:
        return JSONResponse({"size": len(await request.body())}, status_code=202)

    return serving(answer, addresses.own)


def client(addresses: Addresses) -> AbstractAsyncContextManager[Call]:
    return posts(addresses.own)
