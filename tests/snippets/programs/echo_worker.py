"""Runs the example of a worker agent, whose last line waits for a signal."""

import asyncio
import os

from hivewire import BaseAgent, MessageContext
from snippets.documented_examples import Notebook

if __name__ == "__main__":
    url = os.environ["BROKER_URL"]
    over_http = url.startswith("http")
    names = {"BaseAgent": BaseAgent, "MessageContext": MessageContext, "broker_url": url}
    notebook = Notebook(over_nats=not over_http, over_http=over_http, **names)
    asyncio.run(notebook.run(68))
