from __future__ import annotations

import json

import pytest
from bench.load import Load, Sample, measure, summary
from bench.report import document, rows, table
from bench.rounds import Series
from rich.console import Console


def _series(side: str, rates: list[float], *, callers: int = 64, peer_of: str | None = None) -> Series:
    samples = [Sample(messages=10, per_second=rate, p50_ms=1.0, p99_ms=rate / 100) for rate in rates]
    return Series(comparison="direct", side=side, peer_of=peer_of, callers=callers, samples=samples)


def test_a_row_holds_the_medians_over_the_rounds() -> None:
    (row,) = rows([_series("hivewire-nats", [100.0, 900.0, 200.0])])
    assert (row.per_second, row.p50_ms, row.p99_ms, row.ratio) == (200.0, 1.0, 2.0, None)


def test_the_ratio_is_the_median_of_the_ratios_within_the_single_rounds() -> None:
    # The machine was four times slower in the second round: 2, 2 and 4 times the peer, whatever the medians say.
    ours = _series("hivewire-nats", [100.0, 25.0, 100.0])
    theirs = _series("raw-nats", [50.0, 12.5, 25.0], peer_of="hivewire-nats")
    assert rows([ours, theirs])[1].ratio == 2.0


def test_a_peer_is_compared_under_the_same_load() -> None:
    series = [
        _series("hivewire-nats", [10.0], callers=1),
        _series("raw-nats", [40.0], callers=1, peer_of="hivewire-nats"),
        _series("hivewire-nats", [90.0], callers=64),
        _series("raw-nats", [30.0], callers=64, peer_of="hivewire-nats"),
    ]
    assert [row.ratio for row in rows(series)] == [None, 0.25, None, 3.0]


def test_the_table_shows_each_side_with_its_ratio() -> None:
    series = [_series("hivewire-nats", [15_000.0]), _series("raw-nats", [30_000.0], peer_of="hivewire-nats")]
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table("Direct messages", rows(series)))
    text = captured.get()
    assert "15,000" in text
    assert "0.50 x" in text


def test_the_document_is_json_and_holds_every_sample() -> None:
    read = json.loads(json.dumps(document([_series("hivewire-nats", [1.0, 2.0])], {"cpus": "2"})))
    assert [sample["per_second"] for sample in read["series"][0]["samples"]] == [1.0, 2.0]
    assert read["rows"][0]["per_second"] == 1.5


def test_latencies_are_summed_up_in_milliseconds() -> None:
    sample = summary([number / 1000 for number in range(1, 101)], seconds=2.0)
    assert (sample.messages, sample.per_second) == (100, 50.0)
    assert sample.p50_ms == pytest.approx(51.0)
    assert sample.p99_ms == pytest.approx(100.0)


def test_nothing_answered_is_an_error_and_no_row_of_zeros() -> None:
    with pytest.raises(ValueError, match="no message was answered"):
        summary([], seconds=1.0)


async def test_a_load_ends_after_so_many_messages() -> None:
    callers: set[int] = set()

    async def call(caller: int) -> None:
        callers.add(caller)

    sample = await measure(call, Load(callers=4, seconds=60.0, max_messages=100))
    assert 100 <= sample.messages < 100 + 4
    assert callers
