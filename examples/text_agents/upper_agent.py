"""Serves the agent type `upper`, which answers a text with that text in capital letters."""

import asyncio

from hivewire import MessageContext, RoutedAgent, create_distributed_runtime, rpc


class UpperAgent(RoutedAgent):
    """Writes texts in capital letters."""

    @rpc
    async def upper(self, message: str, ctx: MessageContext) -> str:
        return message.upper()


async def main() -> None:
    runtime = await create_distributed_runtime()
    await UpperAgent.register(runtime, "upper", UpperAgent)
    await runtime.start()
    print("upper is ready", flush=True)
    await runtime.stop_when_signal()


if __name__ == "__main__":
    asyncio.run(main())
