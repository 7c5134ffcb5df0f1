"""The command line: `python -m bench`, from the folder of the repository."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
from pathlib import Path

from rich.console import Console

from bench.processes import SideFailedError
from bench.registry import Comparison, chosen
from bench.report import document, rows, table
from bench.rounds import Plan, Series, run
from hivewire.nats.embedded import EmbeddedServer

FULL = Plan(rounds=5, seconds=2.0, warm_up_seconds=1.0)
QUICK = Plan(rounds=2, seconds=0.5, warm_up_seconds=0.5)


def main() -> int:
    options = _parser().parse_args()
    console = Console()
    try:
        comparisons = chosen(options.only)
        series = asyncio.run(_measured(comparisons, QUICK if options.quick else FULL, console))
    except (ValueError, SideFailedError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json is not None:
        options.json.write_text(json.dumps(document(series, _machine()), indent=2) + "\n")
    return 0


async def _measured(comparisons: list[Comparison], plan: Plan, console: Console) -> list[Series]:
    """Measure and show one comparison after the other."""
    measured = []
    async with EmbeddedServer() as server:
        for comparison in comparisons:
            with console.status(comparison.title) as status:
                series = await run(comparison, plan, server.url, tell=status.update)
            console.print(table(comparison.title, rows(series)))
            measured += series
    return measured


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure Hivewire and its peers side by side.")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    parser.add_argument(
        "--only", metavar="NAME", action="append", default=[], help="this comparison, or this side and Hivewire's"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write all samples to a file")
    return parser


def _machine() -> dict[str, str]:
    return {"python": platform.python_version(), "system": platform.platform(), "cpus": str(os.cpu_count())}


if __name__ == "__main__":
    sys.exit(main())
