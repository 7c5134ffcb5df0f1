from __future__ import annotations

import pytest
from bench.registry import CLIENT, COMPARISONS, chosen


def _sides(names: list[str]) -> list[list[str]]:
    return [[side.name for side in comparison.sides] for comparison in chosen(names)]


def test_without_names_everything_is_measured() -> None:
    assert chosen([]) == list(COMPARISONS)


def test_the_name_of_a_comparison_takes_all_of_its_sides() -> None:
    assert _sides(["local"]) == [["hivewire-local", "autogen-local"]]


def test_the_name_of_a_peer_takes_it_and_hivewire() -> None:
    assert _sides(["raw-nats", "faststream"]) == [["hivewire-nats", "raw-nats", "faststream"]]


def test_the_name_of_hivewires_side_takes_it_alone() -> None:
    assert _sides(["hivewire-local"]) == [["hivewire-local"]]


def test_an_unknown_name_is_an_error_that_tells_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"there is no 'redis': choose from .*raw-nats"):
        chosen(["direct", "redis"])


def test_every_side_ends_in_a_client() -> None:
    assert all(side.processes[-1] == CLIENT for comparison in COMPARISONS for side in comparison.sides)
