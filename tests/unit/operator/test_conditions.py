"""Conditions of a status."""

from datetime import UTC, datetime, timedelta

from hivewire_operator.conditions import Finding, conditions

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
READY = Finding(type="Ready", status="True", reason="AllReady", message="2 of 2 pods are ready")


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    first = conditions([], [READY], generation=1, now=NOW)
    assert first == [
        {
            "type": "Ready",
            "status": "True",
            "reason": "AllReady",
            "message": "2 of 2 pods are ready",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
            "observedGeneration": 1,
        }
    ]
    told = Finding(type="Ready", status="True", reason="AllReady", message="3 of 3 pods are ready")
    [again] = conditions(first, [told], generation=2, now=LATER)
    assert (again["lastTransitionTime"], again["message"]) == ("2026-01-02T03:04:05Z", "3 of 3 pods are ready")
    [changed] = conditions(first, [Finding(type="Ready", status="False", reason="Gone")], generation=2, now=LATER)
    assert changed["lastTransitionTime"] == "2026-01-02T03:05:05Z"


def test_conditions_of_others_stay_and_the_order_is_always_the_same() -> None:
    theirs = {"type": "Theirs", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "t"}
    made = conditions([theirs], [READY, Finding(type="Accepted", status="True", reason="R")], generation=1, now=NOW)
    assert [each["type"] for each in made] == ["Accepted", "Ready", "Theirs"]
    assert made[2] == theirs
