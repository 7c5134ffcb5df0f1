"""Asks the agents `reverse` and `upper`, wherever they run, for the text on the command line."""

import asyncio
import sys

from hivewire import AgentId, create_distributed_runtime


async def main(text: str) -> None:
    # A process that only sends needs no agents of its own, and no start.
    runtime = await create_distributed_runtime()
    try:
        for agent_type in ("reverse", "upper"):
            answer = await runtime.send_message(text, AgentId(agent_type, "default"), timeout=30)
            print(f"{agent_type} → {answer}")
    finally:
        await runtime.stop()


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "Hello distributed NATS runtime!"))
