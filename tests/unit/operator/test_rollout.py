"""What to do about the pods of a deployment."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire_operator.rollout import Decision, Rollout, decide, progress_of

ROLLOUT = Rollout(wanted="new", current="new", good="old", progress="running")


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({"current": None, "good": None}, Decision(step="apply wanted")),
        ({"current": "old"}, Decision(step="apply wanted")),
        ({}, Decision(step="wait")),
        ({"progress": "ready"}, Decision(step="remember good")),
        ({"progress": "ready", "good": "new"}, Decision(step="nothing")),
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


def deployment(*, replicas: int = 2, generation: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": 1, **status},
    }


EXCEEDED = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]


@pytest.mark.parametrize(
    ("seen", "progress"),
    [
        (deployment(replicas=2, updatedReplicas=2, availableReplicas=2), "running"),
        ({"metadata": {"generation": 1}, "spec": {"replicas": 1}}, "running"),
        (deployment(updatedReplicas=2, availableReplicas=2) | {"metadata": {"generation": 2}}, "running"),
        ({**deployment(), "status": {"observedGeneration": 1, "conditions": EXCEEDED}}, "failed"),
        (
            {
                **deployment(),
                "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
            },
            "ready",
        ),
        (
            {
                **deployment(),
                "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3},
            },
            "running",
        ),
        ({**deployment(replicas=0), "status": {"observedGeneration": 1}}, "ready"),
    ],
)
def test_how_far_a_deployment_has_come_is_read_from_its_status(seen: dict[str, Any], progress: str) -> None:
    assert progress_of(seen) == progress
