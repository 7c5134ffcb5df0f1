"""Runs the sides of a comparison in turns.

A machine is not equally fast all the time, least of all one that does other work too. So every side gets a short slice
of every round, all sides run on the same machine and against the same nats-server, and Hivewire is compared with a
peer within each round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from bench.load import MAX_CALLERS, Load, Sample
from bench.processes import RunningSide
from bench.registry import Comparison

CALLERS: Final = (1, MAX_CALLERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How often and how long each side is put under each load."""

    rounds: int
    seconds: float
    warm_up_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The samples of one side under one load, one a round. `peer_of` is Hivewire's side, None for that itself."""

    comparison: str
    side: str
    peer_of: str | None
    callers: int
    samples: Sequence[Sample]


async def run(comparison: Comparison, plan: Plan, nats_url: str, *, tell: Callable[[str], None]) -> list[Series]:
    """Measure all sides of a comparison.

    Raises:
        SideFailedError: a process of a side failed.
    """
    samples: dict[tuple[str, int], list[Sample]] = {}
    async with AsyncExitStack() as stack:
        running = []
        for side in comparison.sides:
            tell(f"{comparison.title}: starting {side.name}")
            running.append(await stack.enter_async_context(RunningSide(side, nats_url)))
        for each in running:
            tell(f"{comparison.title}: warming up {each.side.name}")
            await each.measure(Load(callers=MAX_CALLERS, seconds=plan.warm_up_seconds))
        for number in range(plan.rounds):
            for callers in CALLERS:
                for each in running:
                    tell(f"{comparison.title}: round {number + 1}/{plan.rounds}, {callers} in flight, {each.side.name}")
                    sample = await each.measure(Load(callers=callers, seconds=plan.seconds))
                    samples.setdefault((each.side.name, callers), []).append(sample)
    hivewire = comparison.hivewire.name
    return [
        Series(
            comparison=comparison.name,
            side=side.name,
            peer_of=None if side.name == hivewire else hivewire,
            callers=callers,
            samples=samples[side.name, callers],
        )
        for callers in CALLERS
        for side in comparison.sides
    ]
