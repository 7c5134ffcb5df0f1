"""The processes of one side, seen from the process that measures."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import asdict
from types import TracebackType
from typing import Self

from bench.addresses import Addresses, free_loopback_address
from bench.load import GRACE_S, Load, Sample
from bench.registry import Side

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


class SideFailedError(Exception):
    """A process of a side ended, or said nothing for too long. What it printed is on standard error."""


class RunningSide:
    """A side's processes: `async with RunningSide(side, nats_url) as running: await running.measure(load)`."""

    def __init__(self, side: Side, nats_url: str) -> None:
        self.side = side
        self._addresses = Addresses(nats_url=nats_url, own=free_loopback_address())
        self._stack = AsyncExitStack()
        self._client: _Child

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as started:
            for name in self.side.processes:
                self._client = await started.enter_async_context(_Child(self.side, name, self._addresses))
            self._stack = started.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def measure(self, load: Load) -> Sample:
        """Put a load on the side.

        Raises:
            SideFailedError: it did not answer.
        """
        return await self._client.measure(load)


class _Child:
    def __init__(self, side: Side, name: str, addresses: Addresses) -> None:
        self._title = f"the {name} of {side.name}"
        self._arguments = ("-m", "bench.child", side.module, name, addresses.to_json())
        self._process: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._arguments, stdin=pipe, stdout=pipe, start_new_session=True
        )
        try:
            await self._line(START_TIMEOUT_S)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def measure(self, load: Load) -> Sample:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(load)).encode() + b"\n")
        return Sample(**json.loads(await self._line(load.seconds + 2 * GRACE_S)))

    async def _line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(timeout_s):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise SideFailedError(f"{self._title} said nothing for {timeout_s:g} s") from None
        if not line:
            raise SideFailedError(f"{self._title} ended; its standard error says why")
        return line

    async def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
