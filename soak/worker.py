"""One worker process: `python -m soak.worker URL [SAMPLES]`.

It says `serving` once it serves, drains on SIGTERM, and ends with the process that started it. With a second argument
it writes what it holds, every few seconds, into that file.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from pathlib import Path

from hivewire import NatsAgentRuntime
from soak.agents import NAMESPACE, RETENTION_S, DoomedError, serve
from soak.samples import SAMPLE_EVERY_S, SampleFile, sample_own_process


async def main(url: str, samples: Path | None) -> None:
    runtime = NatsAgentRuntime(url, namespace=NAMESPACE, event_retention=RETENTION_S)
    await serve(runtime)
    print("serving", flush=True)
    async with asyncio.TaskGroup() as tasks:
        sampling = tasks.create_task(_sample_into(SampleFile(samples))) if samples else None
        await runtime.wait_until_stopped()
        if sampling is not None:
            sampling.cancel()


async def _sample_into(file: SampleFile) -> None:
    while True:
        file.append(sample_own_process())
        await asyncio.sleep(SAMPLE_EVERY_S)


def _end_with_parent() -> None:
    """The parent holds the other end of standard input, and writes nothing."""
    sys.stdin.read()
    os._exit(1)


def _is_unexpected(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], DoomedError))


def _log_errors() -> None:
    handler = logging.StreamHandler()
    handler.addFilter(_is_unexpected)
    logging.basicConfig(level=logging.ERROR, handlers=[handler])


if __name__ == "__main__":
    _log_errors()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    url, *rest = sys.argv[1:]
    asyncio.run(main(url, Path(rest[0]) if rest else None))
