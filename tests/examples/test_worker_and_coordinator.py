"""The example with a worker and a coordinator, as processes."""

import signal
import sys
from pathlib import Path

from child_processes import Program

DIRECTORY = Path(__file__).parents[2] / "examples" / "worker_and_coordinator"
COMMAND = Path(sys.executable).with_name("hivewire")


async def test_the_coordinator_has_each_task_done_by_the_worker(nats_url: str, namespace: str) -> None:
    broker = {"BROKER_URL": nats_url, "HIVEWIRE_NAMESPACE": namespace}
    async with Program(DIRECTORY / "worker.py", **broker) as worker:
        await worker.printed("worker is ready")
        async with Program(DIRECTORY / "coordinator.py", **broker) as coordinator:
            await coordinator.printed("Worker completed: Processed task task-1")
            await worker.printed("worker/task-1 works on task-1")
            task = '{"task_id": "task-2", "data": {}}'
            async with Program(COMMAND, "publish", "tasks/system", task, "--type", "StartTask", **broker) as publish:
                await publish.ended_well()
                assert publish.errors == ""
            await coordinator.printed("Worker completed: Processed task task-2")
            for process in (coordinator, worker):
                await process.send_signal(signal.SIGTERM)
                await process.ended_well()
                assert process.errors == ""


async def test_of_three_workers_with_one_instance_id_one_does_the_task(nats_url: str, namespace: str) -> None:
    broker = {"BROKER_URL": nats_url, "HIVEWIRE_NAMESPACE": namespace, "INSTANCE_ID": "worker-1"}
    async with (
        Program(DIRECTORY / "worker.py", **broker) as first,
        Program(DIRECTORY / "worker.py", **broker) as second,
        Program(DIRECTORY / "worker.py", **broker) as third,
    ):
        workers = (first, second, third)
        for worker in workers:
            await worker.printed("worker is ready")
        async with Program(DIRECTORY / "coordinator.py", **broker) as coordinator:
            await coordinator.printed("Worker completed")
        assert sum("works on task-1" in line for worker in workers for line in worker.lines) == 1
