"""Streams whose producers, readers and broker are killed at random moments."""

import random
from time import monotonic

import pytest

from chaos.cluster import Cluster
from chaos.delta import SHORT_BREAK_S, Delta, Victim
from chaos.report import Figures

STREAMS = 500
STREAMS_A_ROUND = 25
SHORT_STREAMS_A_ROUND = 12


async def test_streams_end_as_they_should_when_their_producer_reader_or_broker_dies(
    broker: Cluster, namespace: str
) -> None:
    delta = Delta(broker, namespace, breaks_s=[SHORT_BREAK_S])
    await _flow(["reader", "broker", "producer"], SHORT_STREAMS_A_ROUND, delta)


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
async def test_five_hundred_streams_end_as_they_should_whoever_dies(one_node: Cluster, namespace: str) -> None:
    dice = random.Random(7)
    rest: list[Victim] = ["producer"] * 6 + ["reader"] * 6 + ["broker"] * 5 + ["middle"] * 2
    dice.shuffle(rest)
    figures = await _flow(["nobody", *rest], STREAMS_A_ROUND, Delta(one_node, namespace))
    assert figures.figures["streams"] == STREAMS


async def _flow(victims: list[Victim], streams_a_round: int, delta: Delta) -> Figures:
    dice = random.Random(len(victims))
    begun = monotonic()
    async with delta:
        for victim in victims:
            await delta.round(victim, streams_a_round, dice)
        figures = delta.figures(f"{delta.streams}_streams", took_s=monotonic() - begun)
    figures.publish()
    assert not figures.violations, "\n".join(figures.violations[:20])
    return figures
