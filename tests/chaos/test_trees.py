"""Trees of calls, four processes deep, whose root is cancelled, killed or out of time at a random moment."""

import random
from math import inf
from pathlib import Path
from time import monotonic

import pytest

from chaos.cluster import Cluster
from chaos.grove import KILLED, Grove
from chaos.report import Figures, spread
from chaos.trees import ENDINGS
from hivewire import WorkerLostError
from hivewire.model.grace import GRACE_S

TREES = 200
TOKEN_WITHIN_S = 1.0
LOST_WITHIN_S = 10.0

SHORT_TOKEN_WITHIN_S = GRACE_S
"""While other tests run beside it, a short run can't say how soon."""


async def test_handlers_of_a_tree_see_their_token_however_its_root_ends(
    broker: Cluster, namespace: str, tmp_path: Path
) -> None:
    endings = [*ENDINGS, KILLED]
    figures = await _fell(endings, broker, namespace, tmp_path, at_once=2, within_s=SHORT_TOKEN_WITHIN_S)
    assert figures.figures["handlers"] > len(endings)


async def test_a_process_that_dies_in_the_middle_of_a_tree_takes_down_what_is_below_and_fails_what_is_above(
    broker: Cluster, namespace: str, tmp_path: Path
) -> None:
    async with Grove(broker.urls, namespace, tmp_path / "grove", at_once=1) as grove:
        killed_s, error = await grove.lose_level(2)
        ended_s = monotonic()
        assert isinstance(error, WorkerLostError)
        assert ended_s - killed_s < LOST_WITHIN_S
    below = [handler for handler in grove.handlers() if handler.level > 2]
    delays_s = [min(handler.token_s or inf, handler.ended_s or inf) - killed_s for handler in below]
    figures = spread("s to the token below the process", delays_s)
    Figures(name="a_process_dies_in_the_middle_of_a_tree", figures=figures, took_s=ended_s - killed_s).publish()
    assert max(delays_s) < SHORT_TOKEN_WITHIN_S


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_two_hundred_trees_whose_handlers_see_their_token_within_a_second(
    one_node: Cluster, namespace: str, tmp_path: Path
) -> None:
    dice = random.Random(5)
    endings = dice.choices([KILLED, *ENDINGS], weights=[4, 4, 4, 2, 2, 4], k=TREES)
    figures = await _fell(endings, one_node, namespace, tmp_path, at_once=5, within_s=TOKEN_WITHIN_S)
    assert figures.figures["trees"] == TREES


async def _fell(
    endings: list[str], broker: Cluster, namespace: str, directory: Path, *, at_once: int, within_s: float
) -> Figures:
    begun = monotonic()
    async with Grove(broker.urls, namespace, directory / "grove", at_once=at_once) as grove:
        await grove.fell(endings, random.Random(len(endings)))
    figures = grove.figures(f"{len(endings)}_trees_of_calls", token_within_s=within_s, took_s=monotonic() - begun)
    figures.publish()
    assert not figures.violations, "\n".join(figures.violations[:20])
    assert not figures.figures["leaves that found their state half changed"]
    return figures
