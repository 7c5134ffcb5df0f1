"""A producer that is much faster than its reader is slowed down, and neither of the two keeps what is on its way."""

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import pytest

from chaos.cluster import Cluster
from chaos.delta import size_mib
from chaos.report import Figures
from chaos.streams import COMPLETE, Flow, Reading, order
from child_processes import Program

CHUNK = 64 * 1024
READER_PAUSE_S = 0.01
GROWTH_LIMIT_MIB = 64.0

_PROGRAM = Path(__file__).with_name("streams.py")


async def test_neither_side_of_64_mib_for_a_slow_reader_grows(broker: Cluster, namespace: str) -> None:
    await _read_slowly(64, broker, namespace, sample_s=0.25)


@pytest.mark.slow
@pytest.mark.timeout(500)
async def test_neither_side_of_a_gibibyte_for_a_slow_reader_grows(broker: Cluster, namespace: str) -> None:
    await _read_slowly(1024, broker, namespace, sample_s=1.0)


async def _read_slowly(mib: int, broker: Cluster, namespace: str, *, sample_s: float) -> None:
    flow = Flow("slow", mib * 1024 * 1024 // CHUNK, CHUNK, CHUNK)
    async with AsyncExitStack() as processes:
        sides = [await processes.enter_async_context(_side(role, broker, namespace)) for role in ("source", "reader")]
        for side in sides:
            await side.printed("serving")
        sizes = [[size_mib(side.pid)] for side in sides]
        begun = monotonic()
        sides[1].say(order(flow, READER_PAUSE_S))
        while not any(line.startswith("read ") for line in sides[1].lines):
            assert monotonic() - begun < 10 * flow.chunks * READER_PAUSE_S, "the stream does not end"
            await asyncio.sleep(sample_s)
            for side, sampled in zip(sides, sizes, strict=True):
                sampled.append(size_mib(side.pid))
        reading = Reading(**json.loads((await sides[1].printed("read ")).split(" ", 2)[2]))
    figures = _figures(mib, reading.ended_s - begun, sizes)
    figures.publish()
    assert (reading.outcome, reading.chunks) == (COMPLETE, flow.chunks), reading
    assert reading.ended_s - begun > flow.chunks * READER_PAUSE_S
    assert not figures.violations, figures.violations


def _side(role: str, broker: Cluster, namespace: str) -> Program:
    parent = str(os.getpid())
    return Program(_PROGRAM, role, broker.urls, namespace, role, HIVEWIRE_CHAOS_PARENT=parent)


def _figures(mib: int, took_s: float, sizes: Sequence[Sequence[float]]) -> Figures:
    figures: dict[str, float] = {"MiB streamed": mib, "MiB/s": round(mib / took_s, 2)}
    violations = []
    for side, (before, *during) in zip(("producer", "reader"), sizes, strict=True):
        figures[f"MiB, {side}, before"] = round(before, 1)
        figures[f"MiB, {side}, most during"] = round(max(during), 1)
        if max(during) - before > GROWTH_LIMIT_MIB:
            violations.append(f"the {side} grew from {before:.0f} to {max(during):.0f} MiB")
    return Figures(name=f"back_pressure_{mib}_mib", figures=figures, took_s=took_s, violations=violations)
