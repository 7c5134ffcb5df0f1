"""Runs an example that speaks of several processes as the process whose number is on the command line.

The example names the runtimes of all processes. This process has one that is real; the others are runtimes that are
never started, so what the example does to them happens in their own processes only.
"""

import asyncio
import os
import sys

from hivewire import (
    MessageContext,
    NatsAgentRuntime,
    RoutedAgent,
    SingleThreadedAgentRuntime,
    TopicId,
    TypeSubscription,
    event,
    rpc,
)
from snippets.documented_examples import Notebook
from snippets.stand_ins import DataEvent, Request, Response, TriggerEvent


class Worker(RoutedAgent):
    """Says what it handles."""

    @rpc
    async def on_request(self, message: Request, ctx: MessageContext) -> Response:
        print(f"handled {message.data}")
        return Response(result=str(os.getpid()))


async def main(example_number: int, process_number: int) -> None:
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    runtimes = {
        f"runtime{number}": runtime if number == process_number else SingleThreadedAgentRuntime()
        for number in (1, 2, 3)
    }
    notebook = Notebook(
        RoutedAgent=RoutedAgent, event=event, MessageContext=MessageContext, TopicId=TopicId, Worker=Worker,
        TypeSubscription=TypeSubscription, TriggerEvent=TriggerEvent, DataEvent=DataEvent, **runtimes,
    )  # fmt: skip
    await notebook.run(example_number)
    await runtime.start()
    print("ready")
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
