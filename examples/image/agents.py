"""The agents of this image: `greeter` answers a name with a greeting."""

from hivewire import AgentRuntime, MessageContext, RoutedAgent, rpc


class Greeter(RoutedAgent):
    """Greets whom it is told."""

    @rpc
    async def greet(self, message: str, ctx: MessageContext) -> str:
        return f"Hello, {message}!"


async def setup(runtime: AgentRuntime) -> None:
    await Greeter.register(runtime, "greeter", Greeter)
