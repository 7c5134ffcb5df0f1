"""The command line: `python -m soak`, from the folder of the repository."""

from __future__ import annotations

import argparse
import asyncio
import sys
import traceback

from rich.console import Console

from soak.report import Outcome, show
from soak.run import soak


def main() -> int:
    options = _parser().parse_args()
    console = Console()
    try:
        outcome = asyncio.run(_run(options.minutes, console))
    except KeyboardInterrupt:
        return 130
    except (ValueError, ExceptionGroup) as error:
        traceback.print_exception(error)
        return 1
    show(outcome, console)
    return 0 if outcome.passed else 1


async def _run(minutes: float, console: Console) -> Outcome:
    with console.status("soaking") as status:
        return await soak(minutes * 60, tell=status.update)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m soak",
        description="Let workers join and leave under load, and see that nothing is lost and nothing grows.",
    )
    parser.add_argument("--minutes", metavar="N", type=float, default=20.0, help="how long, 20 unless set")
    return parser


if __name__ == "__main__":
    sys.exit(main())
