"""How many handlers run in a process, as the process itself tells."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hivewire import AgentId, MessageContext, NatsAgentRuntime, RoutedAgent, rpc

TYPE = "counting"


@dataclass
class Count:
    """Asks a process how many handlers run in it for these tasks."""

    tasks: list[str]


class Running:
    """The handlers that run in this process, by what they run for."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()

    @contextmanager
    def handler(self, task: str) -> Iterator[None]:
        self.count[task] += 1
        try:
            yield
        finally:
            self.count[task] -= 1


class Counting(RoutedAgent):
    """Answers for its process."""

    def __init__(self, running: Running) -> None:
        super().__init__("counts the handlers of its process")
        self._running = running

    @rpc
    async def on_count(self, message: Count, ctx: MessageContext) -> int:
        return sum(self._running.count[task] for task in message.tasks)


async def register_counting(runtime: NatsAgentRuntime, running: Running, process: str) -> None:
    """Let a process be asked by its name."""
    await Counting(running).register_instance(runtime, AgentId(TYPE, process))


async def count_running(runtime: NatsAgentRuntime, processes: Sequence[str], tasks: Sequence[str]) -> int:
    """Return how many handlers run in all of these processes for these tasks."""
    total = 0
    for process in processes:
        total += await runtime.send_message(Count(list(tasks)), AgentId(TYPE, process))
    return total
