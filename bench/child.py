"""One process of a side: `python -m bench.child MODULE PROCESS ADDRESSES`.

It says `ready` and then lives as long as its standard input is open, so it ends with the process that started it. A
client reads loads from there, one line of JSON each, and answers each with a line that holds the sample.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
from dataclasses import asdict
from typing import TextIO

from bench.addresses import Addresses
from bench.load import Load, measure


async def run(module: str, process: str, addresses: Addresses, answers: TextIO) -> None:
    commands = await _standard_input()
    context = getattr(importlib.import_module(f"bench.sides.{module}"), process)
    async with context(addresses) as call:
        print("ready", file=answers, flush=True)
        while line := await commands.readline():
            sample = await measure(call, Load(**json.loads(line)))
            print(json.dumps(asdict(sample)), file=answers, flush=True)


async def _standard_input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def _own_standard_output() -> TextIO:
    """Keep standard output for the answers; what a library prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    module, process, addresses = sys.argv[1:]
    asyncio.run(run(module, process, Addresses.from_json(addresses), _own_standard_output()))
