"""How many replicas the deployments are to have: what is seen of them goes to a `Scaler`. Nothing is written here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hivewire_operator import metrics
from hivewire_operator.conditions import Finding
from hivewire_operator.loads import Load
from hivewire_operator.resources.agent_deployment import AgentDeploymentSpec, ScalingDirection
from hivewire_operator.scaling import (
    Change,
    Decision,
    Observation,
    RatePolicy,
    Scaler,
    ScalingPolicy,
    ScalingRules,
)
from hivewire_operator.systems import System, Systems

_HOLDS: Mapping[str, str] = {
    "paused": "Scaling is paused (scaling.paused): the number of pods stays as it is.",
    "rollout": "Pods are being replaced: the number is decided again afterwards.",
    "load unknown": "The load can't be read, so the number of pods stays as it is.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """What was found out about the scaling of a deployment at one moment.

    `lag` and `load` are None while they can't be read, `wanted` while nothing is decided.
    """

    lag: int | None = None
    load: int | None = None
    wanted: int | None = None
    change: Change | None = None
    findings: tuple[Finding, ...] = ()


class Autoscaler:
    """Decides for all deployments, and remembers of each what its decisions depend on."""

    def __init__(self, systems: Systems) -> None:
        self._systems = systems
        self._scalers: dict[tuple[str, str], Scaler] = {}
        self._woken: set[tuple[str, str]] = set()
        self._received: dict[tuple[str, str], Mapping[str, int]] = {}

    def wake(self, namespace: str, name: str) -> None:
        """Remember that a direct message waits for a deployment that has no replicas."""
        self._woken.add((namespace, name))

    def forget(self, namespace: str, name: str) -> None:
        """Forget a deployment that is gone, or that somebody else scales."""
        self._scalers.pop((namespace, name), None)
        self._woken.discard((namespace, name))
        self._received.pop((namespace, name), None)
        for gauge in (metrics.SCALING_PAUSED, metrics.DEPLOYMENT_LAG_MESSAGES):
            try:
                gauge.remove(namespace, name)
            except KeyError:
                pass  # it was never told

    async def look(
        self, system: System, name: str, spec: AgentDeploymentSpec, *, replicas: int, is_replacing: bool
    ) -> Scaling:
        """Look at a deployment, and decide."""
        types = [each.name for each in spec.agent_types]
        load, problem = await self._systems.load(system, name, types)
        lag = None if load is None else load.lag_messages
        labels = (system.namespace, name)
        if lag is not None:
            metrics.DEPLOYMENT_LAG_MESSAGES.labels(*labels).set(lag)
        total = None if load is None else load.messages
        if spec.scaling.mode != "internal":
            self._scalers.pop(labels, None)
            metrics.SCALING_PAUSED.labels(*labels).set(0)
            return Scaling(lag=lag, load=total, findings=(_lag(problem), _delegated(spec)))
        seen = Observation(
            time=time.monotonic(),
            load=total,
            replicas=replicas,
            wake=labels in self._woken,
            rollout=is_replacing,
            active=load is not None and self._is_active(labels, load),
        )
        self._woken.discard(labels)
        decision = self._scalers.setdefault(labels, Scaler()).decide(_policy(spec), seen)
        metrics.SCALING_PAUSED.labels(*labels).set(decision.hold in ("paused", "load unknown"))
        return Scaling(
            lag=lag,
            load=total,
            wanted=decision.wanted,
            change=decision.change,
            findings=(_lag(problem), _delegated(spec), *_scaling(decision, spec)),
        )

    def _is_active(self, labels: tuple[str, str], load: Load) -> bool:
        """Tell whether direct messages came since the last look, though none may be there now."""
        before = self._received.get(labels, {})
        self._received[labels] = load.received
        return any(number > before.get(session, 0) for session, number in load.received.items())


def _policy(spec: AgentDeploymentSpec) -> ScalingPolicy:
    scaling = spec.scaling
    return ScalingPolicy(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        target_load=scaling.target_load,
        cooldown_s=scaling.cooldown_seconds,
        up=_rules(scaling.behavior.scale_up),
        down=_rules(scaling.behavior.scale_down),
        paused=scaling.paused,
    )


def _rules(direction: ScalingDirection) -> ScalingRules:
    return ScalingRules(
        window_s=direction.stabilization_window_seconds,
        select=direction.select_policy,
        policies=tuple(
            RatePolicy(type=each.type, value=each.value, period_s=each.period_seconds) for each in direction.policies
        ),
    )


def _lag(problem: str) -> Finding:
    if problem:
        return Finding(type="LagUnavailable", status="True", reason="NatsUnavailable", message=problem)
    return Finding(type="LagUnavailable", status="False", reason="Read", message="The lag is known.")


def _delegated(spec: AgentDeploymentSpec) -> Finding:
    mode = spec.scaling.mode
    if mode == "internal":
        return Finding(type="ScalingDelegated", status="False", reason="Internal", message="The operator scales.")
    message = f"spec.replicas is left to others (scaling.mode: {mode})."
    return Finding(type="ScalingDelegated", status="True", reason=mode.capitalize(), message=message)


def _scaling(decision: Decision, spec: AgentDeploymentSpec) -> Sequence[Finding]:
    paused = Finding(type="Paused", status="False", reason="NotPaused", message="")
    if decision.hold == "paused":
        paused = Finding(type="Paused", status="True", reason="Paused", message=_HOLDS["paused"])
    if decision.hold is not None:
        reason = "".join(word.capitalize() for word in decision.hold.split())
        return [paused, Finding(type="Scaling", status="False", reason=reason, message=_HOLDS[decision.hold])]
    scaling = spec.scaling
    at_most = decision.wanted is not None and decision.wanted >= scaling.max_replicas
    return [
        paused,
        Finding(
            type="Scaling",
            status="True",
            reason="AtMaximum" if at_most else "AsLoadAsks",
            message=f"One pod for {scaling.target_load} unfinished messages, {scaling.min_replicas} to"
            f" {scaling.max_replicas} pods.",
        ),
    ]
