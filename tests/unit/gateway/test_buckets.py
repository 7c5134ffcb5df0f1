"""Token buckets let through what their rate says, whatever comes when."""

from hypothesis import given
from hypothesis import strategies as st

from hivewire_gateway.security.buckets import Buckets, TokenBucket

RATES = st.floats(0.1, 1000.0)
BURSTS = st.integers(1, 50)
GAPS = st.lists(st.floats(0.0, 5.0), max_size=200)


@given(RATES, BURSTS, GAPS)
def test_never_more_than_the_burst_and_the_rate_pass(per_s: float, burst: int, gaps: list[float]) -> None:
    bucket, now, passed = TokenBucket(per_s=per_s, burst=burst, now=0.0), 0.0, 0
    for gap in gaps:
        now += gap
        passed += bucket.take(now) == 0.0
        assert passed <= burst + now * per_s + 1e-6


@given(RATES, BURSTS, GAPS)
def test_whoever_waits_as_told_passes(per_s: float, burst: int, gaps: list[float]) -> None:
    bucket, now = TokenBucket(per_s=per_s, burst=burst, now=0.0), 0.0
    for gap in gaps:
        now += gap
        wait_s = bucket.take(now)
        if wait_s > 0:
            assert wait_s <= 1 / per_s + 1e-9
            now += wait_s + 1e-6
            assert bucket.take(now) == 0.0


@given(BURSTS)
def test_a_new_bucket_is_full(burst: int) -> None:
    bucket = TokenBucket(per_s=1.0, burst=burst, now=5.0)
    assert bucket.is_full(5.0)
    assert [bucket.take(5.0) for _ in range(burst)] == [0.0] * burst
    assert bucket.take(5.0) == 1.0
    assert not bucket.is_full(5.0 + burst - 0.5)
    assert bucket.is_full(5.0 + burst)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(per_s=1.0, burst=1, now=10.0)
    assert bucket.take(10.0) == 0.0
    assert bucket.take(3.0) == 1.0
    assert bucket.take(10.5) == 0.5


def test_each_key_has_a_bucket_of_its_own() -> None:
    buckets = Buckets()
    assert buckets.take("a", per_s=1, burst=1, now=0.0) == 0.0
    assert buckets.take("b", per_s=1, burst=1, now=0.0) == 0.0
    assert buckets.take("a", per_s=1, burst=1, now=0.0) == 1.0


@given(st.lists(st.integers(0, 40), max_size=300))
def test_there_are_never_more_buckets_than_allowed(keys: list[int]) -> None:
    buckets = Buckets(max_buckets=8)
    for number, key in enumerate(keys):
        buckets.take(key, per_s=0.001, burst=2, now=number * 0.01)
        assert len(buckets) <= 8


def test_full_buckets_are_forgotten_before_others() -> None:
    buckets = Buckets(max_buckets=8)
    for key in range(8):
        buckets.take(key, per_s=1.0 if key else 0.001, burst=1, now=0.0)
    buckets.take("new", per_s=1.0, burst=1, now=100.0)
    assert len(buckets) == 2
    assert buckets.take(0, per_s=0.001, burst=1, now=100.0) > 0
