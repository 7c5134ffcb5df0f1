"""A worker over HTTP in a process of its own. It says what it does; the number 666 blocks its event loop."""

import asyncio
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hivewire import HttpAgentRuntime, MessageContext, RoutedAgent, message_handler, type_subscription


@dataclass
class Step:
    number: int


@type_subscription("steps")
class Counter(RoutedAgent):
    """Adds up what it gets."""

    def __init__(self) -> None:
        super().__init__("counts")
        self.numbers: list[int] = []

    @message_handler
    async def on_step(self, message: Step, ctx: MessageContext) -> Step:
        print(f"got {self.id.key} {message.number}", flush=True)
        if message.number == 666:
            time.sleep(300)
        await asyncio.sleep(0.01)
        self.numbers.append(message.number)
        return Step(sum(self.numbers))

    async def save_state(self) -> Mapping[str, Any]:
        return {"numbers": self.numbers}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.numbers = list(state["numbers"])


async def main(url: str) -> None:
    runtime = HttpAgentRuntime(url, drain_timeout=5.0)
    await Counter.register(runtime, "counter", Counter)
    await runtime.start()
    print("ready", flush=True)
    await runtime.stop_when_signal()
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
