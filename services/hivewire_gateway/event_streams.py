"""Responses of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hivewire_gateway.departures import until_client_leaves
from hivewire_gateway.outlets import Outlet
from hivewire_gateway.problems import Problem
from hivewire_gateway.sse import HEARTBEAT, MEDIA_TYPE, retry_hint

_WRITE_BYTES = 64 * 1024

Fill = Callable[[Outlet], Awaitable[None]]


class EventStreamResponse(Response):
    """Streams server-sent events while its client stays and `fill` puts them into its outlet.

    The response begins with the first thing that waits, or after a heartbeat's time without any. Until then a `Problem`
    that `fill` raises is the response. Once the outlet has `begun`, `fill` must not raise. It is cancelled when the
    client leaves.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        fill: Fill,
        *,
        heartbeat_s: float,
        retry_s: float,
        headers: Mapping[str, str] | None = None,
        outlet: Outlet | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.outlet = outlet or Outlet()
        self._fill = fill
        self._heartbeat_s = heartbeat_s
        self._retry_s = retry_s
        self._problem: Problem | None = None
        # Proxies that collect responses would hold events back.
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no", **(headers or {})})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            filling = tasks.create_task(self._filled())
            leaving = tasks.create_task(self._until_left(receive))
            try:
                await self._respond(scope, receive, send)
            finally:
                self.outlet.end()
                filling.cancel()
                leaving.cancel()

    async def _filled(self) -> None:
        try:
            await self._fill(self.outlet)
        except Problem as problem:
            self._problem = problem
        finally:
            self.outlet.end()

    async def _until_left(self, receive: Receive) -> None:
        await until_client_leaves(receive)
        self.outlet.clear()
        self.outlet.end()

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = self.outlet
        await outlet.changed(self._heartbeat_s)
        if self._problem is not None and not outlet.waiting:
            await self._problem.response()(scope, receive, send)
            return
        outlet.begun = True
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        piece = retry_hint(self._retry_s)
        while piece or not outlet.ended:
            await send({"type": "http.response.body", "body": piece or HEARTBEAT, "more_body": True})
            if not outlet.waiting:
                await outlet.changed(self._heartbeat_s)
            piece = outlet.take(_WRITE_BYTES)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
