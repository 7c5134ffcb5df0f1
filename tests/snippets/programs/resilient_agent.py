"""Serves the documented agent that has a state, until a signal ends it."""

import asyncio
import os

from hivewire import NatsAgentRuntime, RoutedAgent
from snippets.documented_examples import Notebook


async def main() -> None:
    notebook = Notebook(RoutedAgent=RoutedAgent)
    await notebook.run(58)
    agent_class = notebook["ResilientAgent"]
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    await agent_class.register(runtime, "resilient", agent_class)
    await runtime.start()
    print("ready")
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
