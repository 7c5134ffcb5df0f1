"""Serves the agent type `worker`. Start as many of these as you like: they share the work."""

import asyncio

from messages import WorkRequest, WorkResponse

from hivewire import MessageContext, RoutedAgent, create_distributed_runtime, rpc


class Worker(RoutedAgent):
    """Does the work that it is sent."""

    @rpc
    async def process_work(self, message: WorkRequest, ctx: MessageContext) -> WorkResponse:
        print(f"{self.id} works on {message.task_id}", flush=True)
        return WorkResponse(task_id=message.task_id, result=f"Processed task {message.task_id}")


async def main() -> None:
    # The address of the broker comes from BROKER_URL, and the label of this process from INSTANCE_ID.
    runtime = await create_distributed_runtime()
    await Worker.register(runtime, "worker", Worker)
    await runtime.start()
    print("worker is ready", flush=True)
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
