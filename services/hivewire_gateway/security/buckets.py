"""How many requests a principal may send: token buckets, without a clock."""

from __future__ import annotations

from collections.abc import Hashable

_MAX_BUCKETS = 10_000


class TokenBucket:
    """Lets `burst` requests pass at once and `per_s` a second in the long run; it begins full."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, *, per_s: float, burst: int, now: float) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0, or return in how many seconds there will be one."""
        self._fill(now)
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._per_s

    def is_full(self, now: float) -> bool:
        """Tell whether it is as good as a new one."""
        self._fill(now)
        return self._tokens >= self._burst

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
            self._at = now


class Buckets:
    """A bucket for each key. Full ones are forgotten, and beyond 10,000 the ones that were used least recently."""

    def __init__(self, *, max_buckets: int = _MAX_BUCKETS) -> None:
        self._max = max_buckets
        self._buckets: dict[Hashable, TokenBucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, *, per_s: float, burst: int, now: float) -> float:
        """Take a token from the bucket of a key, as `TokenBucket.take`."""
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            if len(self._buckets) >= self._max:
                self._forget(now)
            bucket = TokenBucket(per_s=per_s, burst=burst, now=now)
        self._buckets[key] = bucket  # last: the order is that of use
        return bucket.take(now)

    def _forget(self, now: float) -> None:
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if not bucket.is_full(now)}
        # An eighth at once, so that a flood of names does not make each request look through all of them.
        excess = len(self._buckets) - self._max * 7 // 8
        for key in list(self._buckets)[: max(0, excess)]:
            del self._buckets[key]
