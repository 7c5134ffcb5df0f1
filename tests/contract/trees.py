"""A tree of calls, each of which waits for those below it."""

import asyncio
from typing import Any

from contract.support import Runtime, Scripted, serve, until
from hivewire import AgentId, CancellationToken, MessageContext


class Tree:
    """Handlers that call others, `depth` deep; the lowest wait for ever. None of them passes its token on."""

    def __init__(self, *, depth: int, fan_out: int) -> None:
        self.depth = depth
        self.fan_out = fan_out
        self.entered = 0
        self.left = 0
        self._tokens: list[CancellationToken] = []

    @property
    def size(self) -> int:
        return int(sum(self.fan_out**level for level in range(self.depth)))

    @property
    def told(self) -> int:
        return sum(bool(token.is_cancelled) for token in self._tokens)

    async def plant(self, runtime: Runtime) -> None:
        """Register a type for each level."""
        for level in range(self.depth):
            await serve(runtime, f"level{level}", self._handle)

    async def call(self, runtime: Runtime, **options: Any) -> Any:
        """Call the root."""
        return await runtime.send_message(0, AgentId("level0", "root"), **options)

    async def grown(self) -> None:
        """Wait until every handler of the tree runs."""
        await until(lambda: self.entered == self.size)

    async def _handle(self, agent: Scripted, level: int, ctx: MessageContext) -> None:
        self.entered += 1
        self._tokens.append(ctx.cancellation_token)
        try:
            if level == self.depth - 1:
                await ctx.cancellation_token.link_future(asyncio.get_running_loop().create_future())
            below = [AgentId(f"level{level + 1}", f"{agent.id.key}.{number}") for number in range(self.fan_out)]
            async with asyncio.TaskGroup() as calls:
                for recipient in below:
                    calls.create_task(agent.send_message(level + 1, recipient))
        finally:
            self.left += 1
