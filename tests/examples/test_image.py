"""The agents that the example puts into an image, without the image."""

import runpy
from pathlib import Path

from hivewire import AgentId, SingleThreadedAgentRuntime

AGENTS = Path(__file__).parents[2] / "examples/image/agents.py"


async def test_the_greeter_answers_a_name_with_a_greeting() -> None:
    runtime = SingleThreadedAgentRuntime()
    await runpy.run_path(str(AGENTS))["setup"](runtime)
    runtime.start()

    assert await runtime.send_message("Ada", AgentId("greeter", "one")) == "Hello, Ada!"

    await runtime.close()
