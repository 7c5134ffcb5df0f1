"""Who holds the Lease."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hivewire_operator.candidacy import Candidacy, LeaseTimes

TIMES = LeaseTimes(duration_s=15, retry_s=2)


def lease(holder: str, *, renewed: str = "1", duration_s: int = 15) -> dict[str, Any]:
    return {"spec": {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": duration_s}}


def test_a_lease_that_nobody_holds_is_taken_at_once() -> None:
    assert Candidacy("a", TIMES).decide({}, 0) == "take"
    assert Candidacy("a", TIMES).decide(lease("", duration_s=1), 0) == "take"


def test_a_lease_that_it_holds_by_a_write_without_an_answer_is_taken_at_once() -> None:
    assert Candidacy("a", TIMES).decide(lease("a"), 0) == "take"


def test_a_lease_of_another_one_is_taken_once_it_has_not_changed_for_as_long_as_it_holds() -> None:
    follower = Candidacy("a", TIMES)
    assert follower.decide(lease("b"), 100) == "wait"
    assert follower.decide(lease("b"), 115) == "wait"
    assert follower.decide(lease("b", renewed="2"), 115.5) == "wait"
    assert follower.decide(lease("b", renewed="2"), 130) == "wait"
    assert follower.decide(lease("b", renewed="2"), 131) == "take"


def test_a_leader_has_stopped_before_another_one_may_begin() -> None:
    leader, follower = Candidacy("a", TIMES), Candidacy("b", TIMES)
    leader.written(sent_at=100)
    assert follower.decide(lease("a"), 100) == "wait"
    ends = next(at / 10 for at in range(1000, 2000) if not leader.leads(at / 10))
    begins = next(at / 10 for at in range(1000, 2000) if follower.decide(lease("a"), at / 10) == "take")
    assert ends < begins


def test_a_leader_that_wakes_too_late_or_sees_another_name_has_lost() -> None:
    leader = Candidacy("a", TIMES)
    leader.written(sent_at=100)
    assert leader.decide(lease("a"), 105) == "renew"
    assert leader.decide(lease("a"), 114.5) == "lost"
    assert leader.decide(lease("b"), 105) == "lost"


def test_a_renewal_keeps_when_it_was_acquired_and_a_take_over_counts() -> None:
    candidacy = Candidacy("a", TIMES)
    taken = candidacy.record({"metadata": {"name": "x"}, **lease("b")}, time="t1")
    assert taken["metadata"] == {"name": "x"}
    assert (taken["spec"]["acquireTime"], taken["spec"]["leaseTransitions"]) == ("t1", 1)
    candidacy.written(sent_at=0)
    renewed = candidacy.record(taken, time="t2")["spec"]
    assert (renewed["acquireTime"], renewed["renewTime"], renewed["leaseTransitions"]) == ("t1", "t2", 1)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["look", "freeze", "late"])), max_size=60))
def test_two_never_lead_at_once_whoever_freezes_and_whose_writes_are_slow(steps: list[tuple[str, str]]) -> None:
    now, stored = 0.0, {"spec": {}, "version": 0}
    both = {"a": Candidacy("a", TIMES), "b": Candidacy("b", TIMES)}
    lost: set[str] = set()
    for who, how in steps:
        candidate = both[who]
        if who not in lost:
            step = candidate.decide(stored, now)
            if step == "lost":
                lost.add(who)
            elif step != "wait":
                sent_at, read = now, stored["version"]
                now += 3 if how == "late" else 0
                if stored["version"] == read:
                    stored = {**candidate.record(stored, time=str(now)), "version": read + 1}
                    candidate.written(sent_at=sent_at)
        now += 14.5 if how == "freeze" else 1
        assert sum(name not in lost and each.leads(now) for name, each in both.items()) <= 1
