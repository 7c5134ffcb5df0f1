"""How many replicas a deployment should have.

The load is what is not finished: events that wait for the deployment's agent types, whoever reads them, and direct
messages that wait or run in its pods. It is divided by what one replica is meant to carry, and never gives more
replicas than there are messages: few messages that take long must not call many pods.

Changes are damped as the HorizontalPodAutoscaler does it (`spec.behavior`,
https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/): a window per direction, of
which the most cautious wish counts, and policies that limit how many replicas may come or go within a period. To zero
is a step of its own: only when nothing has waited or run for the whole cooldown. From zero the first replica comes at
once, whatever the rules say, and the others by the rules.

What is not known changes nothing: while the load can't be read, while a rollout runs, or while somebody paused it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

PolicyType = Literal["Pods", "Percent"]
SelectPolicy = Literal["Max", "Min", "Disabled"]
Direction = Literal["up", "down"]
Reason = Literal["load", "wake", "idle", "limits"]
Hold = Literal["paused", "rollout", "load unknown"]
_Choice = Callable[[Sequence[float]], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePolicy:
    """At most so many replicas, or so many percent of them, within a period."""

    type: PolicyType
    value: int
    period_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRules:
    """How one direction is damped. Without policies the rate is not limited; `Disabled` forbids the direction."""

    window_s: float = 0
    select: SelectPolicy = "Max"
    policies: tuple[RatePolicy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPolicy:
    """What is wanted of one deployment. `target_load` is the load that one replica is meant to carry."""

    min_replicas: int = 0
    max_replicas: int = 1
    target_load: float = 10
    cooldown_s: float = 300
    up: ScalingRules = field(default_factory=ScalingRules)
    down: ScalingRules = field(default_factory=lambda: ScalingRules(window_s=300))
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What is seen of a deployment at `time`, in seconds on a clock that never goes back.

    `load` counts unfinished messages; None: it can't be read. `replicas` is what the Deployment asks for now. `wake`:
    a direct message waits for a type that nobody serves. `rollout`: its pods are being replaced. `active`: something
    came and went since the last look.
    """

    time: float
    load: int | None
    replicas: int
    wake: bool = False
    rollout: bool = False
    active: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Replicas are to be set to this number."""

    replicas: int
    direction: Direction
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do: nothing, unless there is a `change`. `wanted` is what the load alone asks for; `hold` tells why
    nothing is decided."""

    wanted: int | None = None
    change: Change | None = None
    hold: Hold | None = None


class Scaler:
    """Decides for one deployment; remembers what it wished for and what was changed."""

    def __init__(self) -> None:
        self._wishes: deque[tuple[float, int]] = deque()
        self._changes: deque[tuple[float, int]] = deque()
        self._busy_at: float | None = None

    def decide(self, policy: ScalingPolicy, seen: Observation) -> Decision:
        """Return what to do about what is seen now. Times must not go back."""
        if seen.load or seen.wake or seen.active or self._busy_at is None:
            # After a restart nobody knows for how long nothing has waited.
            self._busy_at = seen.time
        hold = _hold(policy, seen)
        if hold is not None:
            return Decision(hold=hold)
        assert seen.load is not None
        wanted = wanted_replicas(policy, seen.load)
        if seen.wake:
            wanted = max(wanted, 1)
        idle = seen.time - self._busy_at >= policy.cooldown_s
        if not wanted and seen.replicas and not idle:
            wanted = 1
        return Decision(wanted=wanted, change=self._change(policy, seen, wanted))

    def _change(self, policy: ScalingPolicy, seen: Observation, wanted: int) -> Change | None:
        self._remember(policy, seen, wanted)
        within = _clamped(seen.replicas, policy)
        if within != seen.replicas and seen.replicas:
            return self._changed(seen, within, "limits")
        if not seen.replicas:
            if not wanted:
                return None
            first = max(self._damped(policy, seen, wanted), _clamped(1, policy))
            return self._changed(seen, first, "wake" if seen.wake else "load")
        if not wanted:
            return self._changed(seen, 0, "idle")
        damped = self._damped(policy, seen, wanted)
        return None if damped == seen.replicas else self._changed(seen, damped, "load")

    def _remember(self, policy: ScalingPolicy, seen: Observation, wanted: int) -> None:
        if not self._wishes:
            self._wishes.append((seen.time, seen.replicas))
        self._wishes.append((seen.time, wanted))
        oldest = seen.time - max(policy.up.window_s, policy.down.window_s)
        while self._wishes[0][0] < oldest:
            self._wishes.popleft()
        periods = [each.period_s for each in (*policy.up.policies, *policy.down.policies)]
        while self._changes and self._changes[0][0] < seen.time - max(periods, default=0):
            self._changes.popleft()

    def _damped(self, policy: ScalingPolicy, seen: Observation, wanted: int) -> int:
        lowest = min([wanted, *self._wished_since(seen.time - policy.up.window_s)])
        highest = max([wanted, *self._wished_since(seen.time - policy.down.window_s)])
        current = seen.replicas
        if lowest > current:
            return max(int(min(lowest, self._ceiling(policy.up, seen))), current)
        if highest < current:
            # The last replica goes only after the cooldown.
            return min(max(highest, self._floor(policy.down, seen), 1), current)
        return current

    def _wished_since(self, time: float) -> list[int]:
        return [wanted for at, wanted in self._wishes if at > time]

    def _ceiling(self, rules: ScalingRules, seen: Observation) -> float:
        if rules.select == "Disabled":
            return seen.replicas
        limits: list[float] = []
        for policy in rules.policies:
            before = seen.replicas - self._changed_since(seen.time - policy.period_s, upwards=True)
            limits.append(
                before + policy.value if policy.type == "Pods" else math.ceil(before * (1 + policy.value / 100))
            )
        return _selected(rules, limits, most=max, least=min, none=math.inf)

    def _floor(self, rules: ScalingRules, seen: Observation) -> int:
        if rules.select == "Disabled":
            return seen.replicas
        limits: list[float] = []
        for policy in rules.policies:
            before = seen.replicas + self._changed_since(seen.time - policy.period_s, upwards=False)
            limits.append(before - policy.value if policy.type == "Pods" else before * (1 - policy.value / 100))
        return int(_selected(rules, limits, most=min, least=max, none=0))

    def _changed_since(self, time: float, *, upwards: bool) -> int:
        return sum(abs(by) for at, by in self._changes if at > time and (by > 0) is upwards)

    def _changed(self, seen: Observation, replicas: int, reason: Reason) -> Change:
        self._changes.append((seen.time, replicas - seen.replicas))
        return Change(replicas=replicas, direction="up" if replicas > seen.replicas else "down", reason=reason)


def wanted_replicas(policy: ScalingPolicy, load: int) -> int:
    """Return what the load alone asks for: never more replicas than messages, and within the limits, but for zero,
    which an idle deployment with `min_replicas` 0 wants."""
    if not load and not policy.min_replicas:
        return 0
    return _clamped(min(math.ceil(load / policy.target_load), max(load, 1)), policy)


def _hold(policy: ScalingPolicy, seen: Observation) -> Hold | None:
    if policy.paused:
        return "paused"
    if seen.rollout:
        return "rollout"
    return "load unknown" if seen.load is None else None


def _clamped(replicas: int, policy: ScalingPolicy) -> int:
    return min(max(replicas, policy.min_replicas, 1), policy.max_replicas)


def _selected(rules: ScalingRules, limits: Sequence[float], *, most: _Choice, least: _Choice, none: float) -> float:
    """Return the limit that lets most change, or least."""
    if not limits:
        return none
    return (most if rules.select == "Max" else least)(limits)
