"""Numbers that are counted apart and given to Prometheus in one go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from hivewire.telemetry.tallies import Tallies

BUCKETS = (0.1, 1.0, 10.0)


@given(st.lists(st.one_of(st.sampled_from([0.0, 0.1, 1.0, 10.0]), st.floats(0, 100)), max_size=20))
def test_a_distribution_tells_what_a_histogram_would_have_seen(values: list[float]) -> None:
    registry = CollectorRegistry()
    told = Histogram("told", "Told in one go.", buckets=BUCKETS, registry=registry)
    seen = Histogram("seen", "Seen one by one.", buckets=BUCKETS, registry=registry)
    tallies = Tallies()
    distribution = tallies.distribution(told)
    for number, value in enumerate(values):
        seen.observe(value)
        distribution.observe(value)
        if number % 7 == 0:
            tallies.tell()
    tallies.tell()
    samples = {
        name: [(each.name.removeprefix(name), each.labels, pytest.approx(each.value)) for each in family.samples]
        for family in registry.collect()
        for name in [family.name]
    }
    without = [[each for each in samples[name] if each[0] != "_created"] for name in ("told", "seen")]
    assert without[0] == without[1]


def test_a_tally_tells_what_came_since_it_told_last() -> None:
    registry = CollectorRegistry()
    tallies = Tallies()
    tally = tallies.count(Counter("things", "Things.", registry=registry))
    for expected in (2, 4, 4):
        if expected != tally.count:
            tally.inc()
            tally.inc()
        tallies.tell()
        assert registry.get_sample_value("things_total") == expected


def test_several_share_a_gauge_and_take_back_what_they_added() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("level", "A level.", registry=registry)
    first, second = Tallies(), Tallies()
    first.level(gauge).value = 3
    second.level(gauge).value = 4
    first.tell()
    second.tell()
    assert registry.get_sample_value("level") == 7
    first.end()
    first.tell()
    assert registry.get_sample_value("level") == 4
    for _ in range(2):
        second.end()
        second.tell()
    assert registry.get_sample_value("level") == 0
