"""Serves the agent type `reverse`, which answers a text with that text backwards."""

import asyncio

from hivewire import MessageContext, RoutedAgent, create_distributed_runtime, rpc


class ReverseAgent(RoutedAgent):
    """Writes texts backwards."""

    @rpc
    async def reverse(self, message: str, ctx: MessageContext) -> str:
        return message[::-1]


async def main() -> None:
    runtime = await create_distributed_runtime()
    await ReverseAgent.register(runtime, "reverse", ReverseAgent)
    await runtime.start()
    print("reverse is ready", flush=True)
    await runtime.stop_when_signal()


if __name__ == "__main__":
    asyncio.run(main())
