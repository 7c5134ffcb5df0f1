"""Makes its runtime by the example that sets up tracing, then serves the agent `worker`, or sends it two messages."""

import asyncio
import os
import sys

from hivewire import AgentId, MessageContext, TopicId, TypeSubscription, create_distributed_runtime
from snippets.documented_examples import Notebook, example
from snippets.stand_ins import Recorder


async def handle(message: str, ctx: MessageContext) -> None:
    print(f"handled the {'call' if ctx.is_rpc else 'event'}")


async def main(role: str) -> None:
    notebook = Notebook(create_distributed_runtime=create_distributed_runtime)
    address = os.environ["BROKER_URL"].removeprefix("nats://")
    await notebook.run_text(example(62).source().replace("localhost:50051", address))
    runtime = notebook["runtime"]
    if role == "worker":
        await Recorder.register(runtime, "worker", lambda: Recorder(answer=handle))
        await runtime.add_subscription(TypeSubscription("news", "worker"))
        await runtime.start()
        print("ready")
        await runtime.wait_until_stopped()
    else:
        await runtime.send_message("Hello", AgentId("worker", "k"))
        await runtime.publish_message("Hello", TopicId("news", "k"))
        await runtime.stop()
    notebook["provider"].shutdown()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
