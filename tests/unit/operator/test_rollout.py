"""What to do about the pods of a deployment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire_operator.rollout import Decision, Rollout, decide, is_replacing, progress_of

ROLLOUT = Rollout(wanted="new", current="new", good="old", progress="running")


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({"current": None, "good": None}, Decision(step="apply wanted")),
        ({"current": "old"}, Decision(step="apply wanted")),
        ({}, Decision(step="wait")),
        ({"progress": "ready"}, Decision(step="remember good")),
        ({"progress": "ready", "good": "new"}, Decision(step="nothing")),
        ({"progress": "idle"}, Decision(step="nothing")),
        ({"progress": "failed"}, Decision(step="apply good", rejected="new")),
        ({"progress": "failed", "may_roll_back": False}, Decision(step="wait")),
        ({"progress": "failed", "good": None}, Decision(step="wait")),
        ({"progress": "failed", "good": "new"}, Decision(step="wait")),
        ({"current": "old", "rejected": "new"}, Decision(step="nothing", rejected="new")),
        ({"rejected": "new"}, Decision(step="apply good", rejected="new")),
        ({"current": "old", "rejected": "another"}, Decision(step="apply wanted")),
        ({"current": "old", "rejected": "new", "may_roll_back": False}, Decision(step="apply wanted")),
    ],
)
def test_each_case_has_its_step(changes: dict[str, Any], decision: Decision) -> None:
    assert decide(replace(ROLLOUT, **changes)) == decision


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=12), st.sets(st.sampled_from("abc"))
)
def test_it_comes_to_rest_and_never_tries_a_rejected_template_again(
    specs: list[tuple[str, bool]], broken: set[str]
) -> None:
    state = Rollout(wanted=specs[0][0], current=None, progress="running")
    for wanted, may_roll_back in specs:
        state = replace(state, wanted=wanted, may_roll_back=may_roll_back)
        applied = 0
        for _ in range(6):
            decision = decide(state)
            state = replace(state, rejected=decision.rejected)
            if decision.step in ("apply wanted", "apply good"):
                current = state.wanted if decision.step == "apply wanted" else state.good
                assert current is not None
                applied += current == wanted
                state = replace(state, current=current, progress="failed" if current in broken else "ready")
            elif decision.step == "remember good":
                state = replace(state, good=state.current)
            else:
                break
        else:
            raise AssertionError("it does not come to rest")
        assert applied <= 1, "it tries the same template twice"
        if wanted in broken and may_roll_back and state.good is not None and state.good not in broken:
            assert state.current == state.good


NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
CHANGED_AT = "2026-01-01T11:59:30Z"
COMPLETE = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "lastUpdateTime": CHANGED_AT}
EXCEEDED = COMPLETE | {"status": "False", "reason": "ProgressDeadlineExceeded"}


def deployment(*, asked: int = 2, generation: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": asked},
        "status": {"observedGeneration": 1, **status},
    }


def counts(replicas: int, updated: int, available: int) -> dict[str, int]:
    return {"replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}


@pytest.mark.parametrize(
    ("seen", "progress"),
    [
        (deployment(**counts(2, 2, 1)), "running"),
        ({"metadata": {"generation": 1}, "spec": {"replicas": 1}}, "running"),
        (deployment(generation=2, **counts(2, 2, 2)), "running"),
        (deployment(**counts(2, 1, 1), conditions=[EXCEEDED]), "failed"),
        (deployment(**counts(2, 2, 2)), "ready"),
        (deployment(**counts(2, 2, 2), conditions=[EXCEEDED]), "ready"),
        (deployment(**counts(3, 2, 3)), "running"),
        (deployment(asked=0), "idle"),
        (deployment(asked=0) | {"status": {"observedGeneration": 1, "replicas": 1}}, "running"),
    ],
)
def test_how_far_a_deployment_has_come_is_read_from_its_status(seen: dict[str, Any], progress: str) -> None:
    assert progress_of(seen, now=NOW, deadline_s=60, scaled_at=None) == progress


@pytest.mark.parametrize(
    ("scaled_at", "deadline_s", "progress"),
    [
        (NOW - timedelta(seconds=20), 10, "failed"),
        (NOW - timedelta(seconds=5), 10, "running"),
        (None, 10, "failed"),
        (None, 60, "running"),
    ],
)
def test_pods_that_come_long_after_their_template_are_judged_from_when_they_come(
    scaled_at: datetime | None, deadline_s: float, progress: str
) -> None:
    seen = deployment(asked=1, **counts(1, 1, 0), conditions=[COMPLETE])

    assert progress_of(seen, now=NOW, deadline_s=deadline_s, scaled_at=scaled_at) == progress


@pytest.mark.parametrize(
    ("seen", "answer"),
    [
        (deployment(**counts(3, 1, 2)), True),
        (deployment(**counts(2, 2, 0)), False),
        (deployment(generation=2, **counts(3, 1, 2)), False),
    ],
)
def test_pods_are_being_replaced_while_there_are_some_of_another_template(seen: dict[str, Any], answer: bool) -> None:
    assert is_replacing(seen) is answer
