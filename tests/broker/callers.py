"""A process that calls agents of the type `worker` and counts which answers are right.

Run with `python -m broker.callers URL NAMESPACE CALLS NAME` in the folder of the tests.
"""

import asyncio
import sys

from broker.processes import TYPE, Ask, Told
from hivewire import AgentId, NatsAgentRuntime

AT_ONCE = 32


async def _main(url: str, namespace: str, calls: str, caller: str) -> None:
    runtime = await NatsAgentRuntime(url, namespace=namespace).connect()
    numbers = iter(range(int(calls)))
    right = wrong = 0

    async def call_on() -> None:
        nonlocal right, wrong
        for number in numbers:
            answer = await runtime.send_message(Ask(number, caller=caller), AgentId(TYPE, f"key {number % 64}"))
            if isinstance(answer, Told) and (answer.number, answer.caller) == (number, caller):
                right += 1
            else:
                wrong += 1

    await asyncio.gather(*(call_on() for _ in range(AT_ONCE)))
    await runtime.stop()
    print(f"{right} right, {wrong} wrong", flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
