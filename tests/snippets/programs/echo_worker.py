"""Runs the example of a worker agent, whose last line waits for a signal."""

import asyncio
import os

from hivewire import BaseAgent, MessageContext
from snippets.documented_examples import Notebook

if __name__ == "__main__":
    notebook = Notebook(
        over_nats=True, BaseAgent=BaseAgent, MessageContext=MessageContext, broker_url=os.environ["BROKER_URL"]
    )
    asyncio.run(notebook.run(68))
