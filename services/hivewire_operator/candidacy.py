"""Who leads: the rules by which one of several processes holds a Lease. Without I/O and without a clock.

They are those of Kubernetes' own components (https://kubernetes.io/docs/concepts/architecture/leases/), made strict in
two places. A leader counts its time from before it sent its last renewal, so that it has stopped before anybody may
take its place, even if it was frozen for a while, or its write hung. And it stops as soon as it sees somebody else's
name in the Lease. Times of others are never compared: a follower measures by its own clock for how long a Lease has not
changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Step = Literal["take", "renew", "wait", "lost"]

_MARGIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTimes:
    """How long a Lease holds without a renewal, and how often it is renewed and looked at, in seconds."""

    duration_s: int = 15
    retry_s: float = 2.0


class Candidacy:
    """One process' view of the Lease."""

    def __init__(self, identity: str, times: LeaseTimes) -> None:
        self._identity = identity
        self._times = times
        self._valid_until: float | None = None
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0

    def leads(self, now: float) -> bool:
        """Tell whether this process leads, and nobody else can."""
        return self._valid_until is not None and now < self._valid_until

    @property
    def valid_until(self) -> float | None:
        """When it must have stopped unless it renews; None: it does not lead."""
        return self._valid_until

    @property
    def seen_holder(self) -> str:
        """Who had the Lease when this process last had to wait for it; empty: it never had to."""
        return self._seen[0] if self._seen else ""

    def decide(self, lease: Mapping[str, Any], now: float) -> Step:
        """Return what to do about a Lease as it was just read."""
        spec: Mapping[str, Any] = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if self._valid_until is not None:
            return "renew" if holder == self._identity and now < self._valid_until else "lost"
        # Its own name is there if a write was stored that it got no answer to.
        if holder in ("", self._identity):
            return "take"
        seen = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, now
        is_over = now - self._seen_at > (spec.get("leaseDurationSeconds") or self._times.duration_s)
        return "take" if is_over else "wait"

    def written(self, *, sent_at: float) -> None:
        """Take note that the Lease has this process' name, by a write that was sent then."""
        self._valid_until = sent_at + self._times.duration_s - _MARGIN_S

    def record(self, lease: Mapping[str, Any], *, time: str) -> dict[str, Any]:
        """Return the Lease with this process as its holder. `time` is that of the wall clock, for people."""
        spec: Mapping[str, Any] = lease.get("spec") or {}
        is_renewal = self._valid_until is not None
        return {
            **lease,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._times.duration_s,
                "acquireTime": spec.get("acquireTime", time) if is_renewal else time,
                "renewTime": time,
                "leaseTransitions": (spec.get("leaseTransitions") or 0) + (not is_renewal),
            },
        }
