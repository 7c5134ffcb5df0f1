"""A TCP proxy in front of a server, for connections that break where no one expects it."""

import asyncio
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class TcpProxy:
    """Passes bytes on: `async with TcpProxy(server_url) as proxy: connect(proxy.url)`.

    While `answering` is False, what the server sends is thrown away.
    """

    def __init__(self, target_url: str) -> None:
        self.target(target_url)
        self._server: asyncio.Server | None = None
        self._own_port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self.answering = True

    def target(self, url: str) -> None:
        """Send connections that come from now on to this server."""
        target = urlsplit(url)
        self._host, self._port = target.hostname, target.port

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._own_port}"

    async def listen(self) -> None:
        """Take connections; the first time, and again after `refuse`."""
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self._own_port)
        self._own_port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Take no more connections, and cut those that there are."""
        assert self._server is not None
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """Reset all connections that there are now."""
        for end in self._ends:
            end.transport.abort()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        ends = {writer}
        try:
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            ends.add(server_writer)
            self._ends |= ends
            await asyncio.gather(self._pipe(reader, server_writer), self._pipe(server_reader, writer, answers=True))
        except ConnectionError:
            pass
        finally:
            self._tasks.discard(task)
            self._ends -= ends
            for end in ends:
                end.transport.abort()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        try:
            while data := await reader.read(65_536):
                if self.answering or not answers:
                    writer.write(data)
                    await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
