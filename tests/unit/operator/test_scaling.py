"""How many replicas a deployment should have."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire_operator.scaling import (
    Change,
    Observation,
    RatePolicy,
    Scaler,
    ScalingPolicy,
    ScalingRules,
    wanted_replicas,
)

QUICK = ScalingRules()


def policy(**fields: object) -> ScalingPolicy:
    given_fields = {"max_replicas": 8, "target_load": 10, "cooldown_s": 60, "down": QUICK, **fields}
    return ScalingPolicy(**given_fields)  # type: ignore[arg-type]


def seen(time: float, load: int | None, replicas: int, **fields: bool) -> Observation:
    return Observation(time=time, load=load, replicas=replicas, **fields)


@pytest.mark.parametrize(("load", "wanted"), [(0, 0), (1, 1), (10, 1), (11, 2), (80, 8), (10_000, 8)])
def test_the_load_is_shared_between_replicas_up_to_the_most(load: int, wanted: int) -> None:
    assert wanted_replicas(policy(), load) == wanted


def test_few_messages_never_call_more_replicas_than_there_are_messages() -> None:
    assert wanted_replicas(policy(target_load=0.1), 3) == 3


def test_with_a_least_number_it_never_wants_fewer() -> None:
    assert wanted_replicas(policy(min_replicas=2), 0) == 2


def test_more_load_brings_replicas_at_once() -> None:
    assert Scaler().decide(policy(), seen(0, 55, 1)).change == Change(replicas=6, direction="up", reason="load")


def test_less_load_takes_replicas_only_when_the_window_has_seen_no_more() -> None:
    scaler, rules = Scaler(), policy(down=ScalingRules(window_s=100))
    assert scaler.decide(rules, seen(0, 50, 5)).change is None
    assert scaler.decide(rules, seen(60, 10, 5)).change is None
    assert scaler.decide(rules, seen(99, 30, 5)).change is None
    assert scaler.decide(rules, seen(160, 10, 5)).change == Change(replicas=3, direction="down", reason="load")
    assert scaler.decide(rules, seen(200, 10, 3)).change == Change(replicas=1, direction="down", reason="load")


def test_a_window_upwards_waits_for_a_load_that_stays() -> None:
    scaler, rules = Scaler(), policy(up=ScalingRules(window_s=30))
    assert scaler.decide(rules, seen(0, 10, 1)).change is None
    assert scaler.decide(rules, seen(10, 80, 1)).change is None
    assert scaler.decide(rules, seen(31, 40, 1)).change == Change(replicas=4, direction="up", reason="load")


def test_policies_limit_how_many_come_within_a_period_and_the_widest_counts() -> None:
    up = ScalingRules(
        policies=(RatePolicy(type="Pods", value=1, period_s=60), RatePolicy(type="Percent", value=100, period_s=60))
    )
    scaler, rules = Scaler(), policy(up=up)
    assert scaler.decide(rules, seen(0, 80, 2)).change == Change(replicas=4, direction="up", reason="load")
    assert scaler.decide(rules, seen(30, 80, 4)).change is None
    assert scaler.decide(rules, seen(60, 80, 4)).change == Change(replicas=8, direction="up", reason="load")


def test_the_narrowest_policy_counts_when_that_is_chosen() -> None:
    down = ScalingRules(
        select="Min",
        policies=(RatePolicy(type="Pods", value=1, period_s=60), RatePolicy(type="Percent", value=50, period_s=60)),
    )
    scaler, rules = Scaler(), policy(down=down)
    assert scaler.decide(rules, seen(1, 10, 8)).change == Change(replicas=7, direction="down", reason="load")
    assert scaler.decide(rules, seen(30, 10, 7)).change is None
    assert scaler.decide(rules, seen(61, 10, 7)).change == Change(replicas=6, direction="down", reason="load")


@pytest.mark.parametrize(("load", "replicas"), [(80, 1), (10, 8)])
def test_a_direction_that_is_disabled_does_not_happen(load: int, replicas: int) -> None:
    off = ScalingRules(select="Disabled")
    scaler = Scaler()
    for time in range(5):
        assert scaler.decide(policy(up=off, down=off), seen(time, load, replicas)).change is None


def test_after_a_restart_what_there_was_counts_as_wished_for() -> None:
    scaler, rules = Scaler(), policy(down=ScalingRules(window_s=300))
    assert scaler.decide(rules, seen(5_000, 10, 8)).change is None
    assert scaler.decide(rules, seen(5_299, 10, 8)).change is None
    assert scaler.decide(rules, seen(5_300, 10, 8)).change == Change(replicas=1, direction="down", reason="load")


def test_to_zero_it_goes_only_after_nothing_has_waited_for_the_whole_cooldown() -> None:
    scaler = Scaler()
    for time, load in [(0, 5), (59, 0), (60, 1), (100, 0), (119, 0)]:
        assert scaler.decide(policy(), seen(time, load, 1)).change is None, time
    assert scaler.decide(policy(), seen(120, 0, 1)).change == Change(replicas=0, direction="down", reason="idle")


def test_an_operator_that_was_started_again_counts_the_cooldown_anew() -> None:
    scaler = Scaler()
    assert scaler.decide(policy(), seen(1_000, 0, 1)).change is None
    assert scaler.decide(policy(), seen(1_060, 0, 1)).change is not None


def test_from_zero_one_waiting_event_brings_the_first_and_a_wake_signal_too() -> None:
    assert Scaler().decide(policy(), seen(0, 1, 0)).change == Change(replicas=1, direction="up", reason="load")
    wake = Scaler().decide(policy(), seen(0, 0, 0, wake=True))
    assert wake.change == Change(replicas=1, direction="up", reason="wake")
    assert Scaler().decide(policy(), seen(0, 0, 0)).change is None


@pytest.mark.parametrize(
    ("up", "first"),
    [
        (QUICK, 8),
        (ScalingRules(select="Disabled"), 1),
        (ScalingRules(window_s=30), 1),
        (ScalingRules(policies=(RatePolicy(type="Percent", value=100, period_s=60),)), 1),
        (ScalingRules(policies=(RatePolicy(type="Pods", value=3, period_s=60),)), 3),
    ],
)
def test_from_zero_the_first_comes_at_once_and_the_others_as_the_rules_allow(up: ScalingRules, first: int) -> None:
    scaler = Scaler()
    assert scaler.decide(policy(up=up), seen(0, 0, 0)).change is None
    change = scaler.decide(policy(up=up), seen(1, 80, 0)).change
    assert change == Change(replicas=first, direction="up", reason="load")


def test_a_wake_signal_keeps_the_last_replica_for_another_cooldown() -> None:
    scaler = Scaler()
    scaler.decide(policy(), seen(0, 0, 1))
    assert scaler.decide(policy(), seen(59, 0, 1, wake=True)).change is None
    assert scaler.decide(policy(), seen(118, 0, 1)).change is None
    assert scaler.decide(policy(), seen(119, 0, 1)).change is not None


@pytest.mark.parametrize(
    ("rules", "what", "hold"),
    [
        (policy(paused=True), seen(0, 80, 1), "paused"),
        (policy(), seen(0, 80, 1, rollout=True), "rollout"),
        (policy(), seen(0, None, 3), "load unknown"),
        (policy(), seen(0, None, 0), "load unknown"),
    ],
)
def test_nothing_is_decided_while_it_must_not_and_it_says_why(
    rules: ScalingPolicy, what: Observation, hold: str
) -> None:
    decision = Scaler().decide(rules, what)
    assert (decision.change, decision.hold) == (None, hold)


@pytest.mark.parametrize(("replicas", "within"), [(20, 8), (1, 3)])
def test_limits_that_were_changed_hold_at_once(replicas: int, within: int) -> None:
    change = Scaler().decide(policy(min_replicas=3), seen(0, 0, replicas)).change
    assert change is not None
    assert (change.replicas, change.reason) == (within, "limits")


@given(
    loads=st.lists(
        st.tuples(st.floats(0.1, 90), st.one_of(st.none(), st.integers(0, 500)), st.booleans()), max_size=40
    ),
    least=st.integers(0, 3),
    more=st.integers(0, 6),
    target=st.floats(0.5, 50),
    window=st.floats(0, 120),
)
def test_whatever_is_seen_it_stays_within_its_limits_and_never_drops_what_waits(
    loads: list[tuple[float, int | None, bool]], least: int, more: int, target: float, window: float
) -> None:
    rules = policy(
        min_replicas=least, max_replicas=max(least + more, 1), target_load=target, down=ScalingRules(window_s=window)
    )
    scaler, time, replicas = Scaler(), 0.0, max(least, 1)
    busy_at = 0.0
    for after, load, wake in loads:
        time += after
        if load or wake:
            busy_at = time
        change = scaler.decide(rules, seen(time, load, replicas, wake=wake)).change
        if change is None:
            continue
        assert load is not None, "it acts on what it does not know"
        assert change.replicas != replicas
        assert (change.direction == "up") is (change.replicas > replicas)
        assert (rules.min_replicas or 0) <= change.replicas <= rules.max_replicas
        if change.replicas == 0:
            assert not load and not wake and time - busy_at >= rules.cooldown_s
        if change.replicas > replicas:
            assert change.replicas <= max(load, 1, rules.min_replicas)
            assert change.replicas <= max(math.ceil(load / target), 1, rules.min_replicas)
        replicas = change.replicas


def test_messages_that_come_and_go_between_two_looks_keep_the_last_replica() -> None:
    scaler, rules = Scaler(), policy(cooldown_s=60)
    for time in range(0, 600, 30):
        assert scaler.decide(rules, seen(time, 0, 1, active=True)).change is None
    assert scaler.decide(rules, seen(620, 0, 1)).change is None
    assert scaler.decide(rules, seen(640, 0, 1)).change == Change(replicas=0, direction="down", reason="idle")
