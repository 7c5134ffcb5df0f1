"""Gets a signal while it handles a call and while a call of its own waits, and says how both end."""

import asyncio
import os
import signal

from hivewire import AgentId, HttpAgentRuntime, MessageContext, NatsAgentRuntime, RoutedAgent, RuntimeStateError, rpc


class Worker(RoutedAgent):
    """Sends its own process a signal, and finishes once the runtime has begun to stop."""

    @rpc
    async def on_signal_name(self, message: str, ctx: MessageContext) -> str:
        os.kill(os.getpid(), signal.Signals[message])
        while "stopping" not in repr(self.runtime):  # only its text tells
            await asyncio.sleep(0.01)
        return "finished"


async def main() -> None:
    url = os.environ["BROKER_URL"]
    runtime = HttpAgentRuntime(url) if url.startswith("http") else NatsAgentRuntime(url)
    await Worker.register(runtime, "worker", Worker)
    await runtime.start()
    call = asyncio.create_task(runtime.send_message("x", AgentId("silent", "k")))
    # The loop gets to it once the next line waits, which is when signals are handled.
    asyncio.get_running_loop().call_soon(print, "ready")
    await runtime.stop_when_signal()
    try:
        await call
    except RuntimeStateError:
        print("the call that waited ended")
    print(f"tasks left: {len(asyncio.all_tasks() - {asyncio.current_task()})}")


if __name__ == "__main__":
    asyncio.run(main())
