"""The load that every side is put under, and what is measured of it.

The load is closed: so many callers, each of which sends its next message when it has the answer to the last one. A slow
side is therefore asked less, and its latencies hold for the rate that stands beside them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

TEXT: Final = "x" * 100
"""What every message carries, and every answer."""

MAX_CALLERS: Final = 64

CHUNKS: Final = 1_000
"""How many chunks a stream has, each with the text."""

GRACE_S: Final = 30.0
"""How long answers may take beyond the end of the load before a side counts as broken."""

Call = Callable[[int], Awaitable[None]]
"""Sends one message in the name of the caller of this number, and checks the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many callers for so many seconds, or until so many messages were answered."""

    callers: int
    seconds: float
    max_messages: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one side did under one load."""

    messages: int
    per_second: float
    p50_ms: float
    p99_ms: float


async def measure(call: Call, load: Load) -> Sample:
    """Put a load on a side.

    Raises:
        TimeoutError: an answer did not come within the load's time and `GRACE_S`.
        BaseException: what a call raised.
    """
    latencies: list[float] = []
    begun = time.perf_counter()
    end = begun + load.seconds

    async def caller(number: int) -> None:
        sent = time.perf_counter()
        while sent < end and len(latencies) < load.max_messages:
            await call(number)
            answered = time.perf_counter()
            latencies.append(answered - sent)
            sent = answered

    async with asyncio.timeout(load.seconds + GRACE_S), asyncio.TaskGroup() as callers:
        for number in range(load.callers):
            callers.create_task(caller(number))
    return summary(latencies, time.perf_counter() - begun)


def summary(latencies_s: list[float], seconds: float) -> Sample:
    """Sum up the latencies of all messages that were answered within so many seconds.

    Raises:
        ValueError: there are none.
    """
    if not latencies_s:
        raise ValueError("no message was answered")
    ordered = sorted(latencies_s)
    return Sample(
        messages=len(ordered),
        per_second=len(ordered) / seconds,
        p50_ms=ordered[len(ordered) // 2] * 1000,
        p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
    )
