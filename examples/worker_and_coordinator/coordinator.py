"""Serves the agent type `coordinator`, which hands each started task to a worker, and starts a first one."""

import asyncio

from messages import StartTask, WorkRequest, WorkResponse

from hivewire import (
    AgentId,
    MessageContext,
    RoutedAgent,
    TopicId,
    create_distributed_runtime,
    event,
    type_subscription,
)


@type_subscription("tasks")
class Coordinator(RoutedAgent):
    """Has every task that is started done by a worker."""

    @event
    async def handle_start(self, message: StartTask, ctx: MessageContext) -> None:
        # The key is the task's id, so that several workers share the tasks.
        response: WorkResponse = await self.send_message(
            WorkRequest(task_id=message.task_id, data=message.data),
            recipient=AgentId("worker", message.task_id),
            timeout=60,
        )
        print(f"Worker completed: {response.result}", flush=True)


async def main() -> None:
    runtime = await create_distributed_runtime()
    await Coordinator.register(runtime, "coordinator", Coordinator)
    await runtime.start()
    await runtime.publish_message(
        StartTask(task_id="task-1", data={"key": "value"}),
        topic_id=TopicId(type="tasks", source="system"),
    )
    await runtime.wait_until_stopped()


if __name__ == "__main__":
    asyncio.run(main())
