"""The agents of this image: `greeter` answers a name with a greeting, and welcomes who arrives."""

import asyncio

from hivewire import AgentRuntime, MessageContext, RoutedAgent, event, rpc


class Greeter(RoutedAgent):
    """Greets whom it is told."""

    concurrency = "serial"  # each greeter does one thing after the other

    @rpc
    async def greet(self, message: str, ctx: MessageContext) -> str:
        return f"Hello, {message}!"

    @event
    async def welcome(self, message: str, ctx: MessageContext) -> None:
        await asyncio.sleep(1)  # stands for work


async def setup(runtime: AgentRuntime) -> None:
    await Greeter.register(runtime, "greeter", Greeter)
