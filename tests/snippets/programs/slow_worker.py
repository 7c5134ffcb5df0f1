"""Serves a worker that never answers and says when its token is cancelled."""

import asyncio
import os

from hivewire import MessageContext, NatsAgentRuntime, RoutedAgent, rpc
from snippets.stand_ins import Response, SubRequest


class Worker(RoutedAgent):
    @rpc
    async def on_request(self, message: SubRequest, ctx: MessageContext) -> Response:
        cancelled = asyncio.Event()
        ctx.cancellation_token.add_callback(cancelled.set)
        print(f"began {message.data}")
        await cancelled.wait()
        print("was cancelled")
        return Response()


async def main() -> None:
    runtime = NatsAgentRuntime(os.environ["BROKER_URL"])
    await Worker.register(runtime, "worker", Worker)
    await runtime.start()
    print("ready")
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
