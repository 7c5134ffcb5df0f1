import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientSession, web

from contract.support import Runtime, Scripted, Settle, serve, until
from hivewire import AgentId, MessageContext

AGENT = AgentId("agent", "k")
BELOW = AgentId("below", "b")


class Endless:
    """A handler that yields for ever, or waits for ever if nobody reads chunks, and notes when it ends."""

    def __init__(self) -> None:
        self.contexts: list[MessageContext] = []
        self.ended = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.contexts.append(ctx)
        if message == "stream":
            return self._chunks()
        try:
            await ctx.cancellation_token.link_future(asyncio.get_running_loop().create_future())
        finally:
            self.ended += 1

    async def _chunks(self) -> AsyncIterator[str]:
        try:
            while True:
                yield "chunk"
                await asyncio.sleep(0.01)
        finally:
            self.ended += 1


class Server:
    """An HTTP server that asks an agent, and whose own handlers end when their client leaves."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        app = web.Application()
        app.router.add_get("/call", self._call)
        app.router.add_get("/stream", self._stream)
        self._runner = web.AppRunner(app, handler_cancellation=True)

    async def __aenter__(self) -> str:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _call(self, request: web.Request) -> web.Response:
        return web.Response(text=str(await self._runtime.send_message("call", AGENT)))

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        async with self._runtime.stream_message("stream", AGENT) as chunks:
            async for chunk in chunks:
                await response.write(f"{chunk}\n".encode())
        return response


class TestAnHttpClientThatLeaves:
    async def test_cancels_the_call_that_it_waits_for_and_what_is_below(self, runtime: Runtime, settle: Settle) -> None:
        async def ask(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            return await agent.send_message(message, BELOW)

        endless = Endless()
        await serve(runtime, "below", endless)
        await serve(runtime, "agent", ask)
        async with Server(runtime) as url, ClientSession() as client:
            request = asyncio.create_task(client.get(f"{url}/call"))
            await until(lambda: len(endless.contexts) == 1)
            request.cancel()
            await until(lambda: endless.ended == 1)
            with pytest.raises(asyncio.CancelledError):
                await request
        await settle(runtime)

    async def test_cancels_the_stream_that_it_reads(self, runtime: Runtime, settle: Settle) -> None:
        endless = Endless()
        await serve(runtime, "agent", endless)
        async with Server(runtime) as url, ClientSession() as client:
            async with client.get(f"{url}/stream") as response:
                assert await response.content.readline() == b"chunk\n"
                response.close()
            await until(lambda: endless.ended == 1)
        await settle(runtime)

        assert endless.contexts[0].cancellation_token.is_cancelled
