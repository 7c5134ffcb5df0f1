"""The checker of the chaos runs finds each thing that can be wrong, and nothing where nothing is."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaos.model import DONE, UNKNOWN_OUTCOMES, Ended, Handled, History, Kind, Ledger, Sent, check


def event(id: str, begun_s: float = 0.0, **more: Any) -> Sent:
    return Sent(id=id, key="k", kind="event", begun_s=begun_s, deadline_s=begun_s + 30, **more)


def call(id: str, begun_s: float = 0.0, **more: Any) -> Sent:
    return Sent(id=id, key="k", kind="call", begun_s=begun_s, deadline_s=begun_s + 10, **more)


def ended(id: str, at_s: float, outcome: str = DONE, answer: int | None = None) -> Ended:
    return Ended(id=id, at_s=at_s, outcome=outcome, answer=answer)


def history(sent: Sequence[Sent], outcomes: Sequence[Ended], ledger: Sequence[str], **more: Any) -> History:
    return History(sent=sent, ended=outcomes, ledgers={"k": Ledger(counter=len(ledger), ids=ledger)}, **more)


def kinds(of: History) -> list[Kind]:
    return [violation.kind for violation in check(of)]


GOOD = history(
    [event("e1", 0), call("c1", 2), event("e2", 4), event("e3", 6)],
    [ended("e1", 1), ended("c1", 3, answer=2), ended("e2", 5), ended("e3", 7)],
    ["e1", "c1", "e2", "e3"],
)


def test_a_run_in_which_all_is_well_has_no_violations() -> None:
    assert check(GOOD) == []


def test_an_accepted_event_that_is_nowhere_is_lost() -> None:
    assert kinds(history([event("e1")], [ended("e1", 1)], [])) == [Kind.LOST]


def test_an_accepted_event_of_an_agent_without_a_ledger_is_lost() -> None:
    assert kinds(replace(history([event("e1")], [ended("e1", 1)], []), ledgers={})) == [Kind.LOST]


def test_an_answered_call_that_is_nowhere_is_lost() -> None:
    assert kinds(history([call("c1")], [ended("c1", 1)], [])) == [Kind.LOST]


@pytest.mark.parametrize("sent", [event("m"), call("m")])
def test_what_is_in_the_ledger_twice_is_duplicated(sent: Sent) -> None:
    assert kinds(history([sent], [ended("m", 1)], ["m", "m"])) == [Kind.DUPLICATED]


@pytest.mark.parametrize("outcome", sorted(UNKNOWN_OUTCOMES))
def test_an_unknown_outcome_may_have_taken_effect_once_or_not_but_not_twice(outcome: str) -> None:
    for sent in (event("m"), call("m")):
        assert check(history([sent], [ended("m", 1, outcome)], [])) == []
        assert check(history([sent], [ended("m", 1, outcome)], ["m"])) == []
        assert kinds(history([sent], [ended("m", 1, outcome)], ["m", "m"])) == [Kind.DUPLICATED]


@pytest.mark.parametrize("outcome", ["StateConflictError", "OverloadedError", "AgentNotFoundError", "ValueError"])
def test_a_refused_call_must_not_have_taken_effect(outcome: str) -> None:
    assert check(history([call("c1")], [ended("c1", 1, outcome)], [])) == []
    assert kinds(history([call("c1")], [ended("c1", 1, outcome)], ["c1"])) == [Kind.REFUSED_BUT_DONE]


def test_events_of_one_publisher_are_in_the_order_of_their_acceptance() -> None:
    sent, outcomes = [event("e1", 0), event("e2", 2)], [ended("e1", 1), ended("e2", 3)]
    assert check(history(sent, outcomes, ["e1", "e2"])) == []
    assert kinds(history(sent, outcomes, ["e2", "e1"])) == [Kind.OUT_OF_ORDER]


def test_events_that_were_published_at_once_have_no_order() -> None:
    sent, outcomes = [event("e1", 0), event("e2", 0.5)], [ended("e1", 1), ended("e2", 3)]
    assert check(history(sent, outcomes, ["e2", "e1"])) == []


def test_a_publish_of_unknown_outcome_may_arrive_late_but_not_before_what_was_stored_when_it_began() -> None:
    sent = [event("e1", 0), event("e2", 2), event("e3", 5)]
    outcomes = [ended("e1", 1), ended("e2", 4, "BrokerUnavailableError"), ended("e3", 6)]
    assert check(history(sent, outcomes, ["e1", "e3", "e2"])) == []
    assert kinds(history(sent, outcomes, ["e2", "e1", "e3"])) == [Kind.OUT_OF_ORDER]


def test_a_call_may_overtake_an_event_but_nothing_may_overtake_an_answered_call() -> None:
    assert check(history([event("e1", 0), call("c1", 2)], [ended("e1", 1), ended("c1", 3)], ["c1", "e1"])) == []
    late = history([call("c1", 0), event("e1", 2)], [ended("c1", 1), ended("e1", 3)], ["e1", "c1"])
    assert kinds(late) == [Kind.OUT_OF_ORDER]
    late = history([call("c1", 0), call("c2", 2)], [ended("c1", 1), ended("c2", 3)], ["c2", "c1"])
    assert kinds(late) == [Kind.OUT_OF_ORDER]


def test_an_unanswered_send_has_no_outcome() -> None:
    assert kinds(history([call("c1")], [], [])) == [Kind.NO_OUTCOME]


def test_two_outcomes_of_one_send_are_one_too_many() -> None:
    outcomes = [ended("c1", 1), ended("c1", 2, "WorkerLostError")]
    assert kinds(history([call("c1")], outcomes, ["c1"])) == [Kind.SEVERAL_OUTCOMES]


def test_no_caller_waits_past_its_deadline_and_the_slack() -> None:
    assert check(history([call("c1")], [ended("c1", 11.9, "DeadlineExceededError")], [])) == []
    assert kinds(history([call("c1")], [ended("c1", 12.1, "DeadlineExceededError")], [])) == [Kind.LATE]
    assert kinds(history([event("e1")], [ended("e1", 40)], ["e1"])) == [Kind.LATE]


def test_a_counter_is_the_length_of_its_ledger() -> None:
    wrong = replace(GOOD, ledgers={"k": replace(GOOD.ledgers["k"], counter=5)})
    assert kinds(wrong) == [Kind.WRONG_COUNTER]


def test_an_answer_is_the_place_of_its_call_in_the_ledger() -> None:
    wrong = replace(GOOD, ended=[replace(each, answer=3) if each.id == "c1" else each for each in GOOD.ended])
    assert kinds(wrong) == [Kind.WRONG_ANSWER]


def test_a_ledger_holds_only_what_was_sent_to_its_agent() -> None:
    assert kinds(history([], [], ["ghost"])) == [Kind.FOREIGN]
    stray = replace(GOOD, ledgers={**GOOD.ledgers, "other": Ledger(counter=1, ids=["e1"])})
    assert kinds(stray) == [Kind.FOREIGN]


def test_a_doomed_event_is_a_dead_letter_once_and_in_no_ledger() -> None:
    sent, outcomes = [event("e1", doomed=True)], [ended("e1", 1)]
    assert check(history(sent, outcomes, [], dead=["e1"])) == []
    assert kinds(history(sent, outcomes, [])) == [Kind.NOT_DEAD]
    assert kinds(history(sent, outcomes, ["e1"])) == [Kind.NOT_DEAD]
    assert kinds(history(sent, outcomes, ["e1"], dead=["e1"])) == [Kind.DEAD_AND_DONE]
    assert kinds(history(sent, outcomes, [], dead=["e1", "e1"])) == [Kind.DEAD_TWICE]


def test_nothing_else_is_a_dead_letter() -> None:
    assert kinds(history([event("e1")], [ended("e1", 1)], [], dead=["e1"])) == [Kind.WRONGLY_DEAD]
    assert kinds(history([], [], [], dead=["ghost"])) == [Kind.WRONGLY_DEAD]


def test_without_a_crash_nothing_is_handled_twice() -> None:
    once = [Handled(id=id, key="k", at_s=1.0) for id in GOOD.ledgers["k"].ids]
    assert check(replace(GOOD, handled_once=once)) == []
    assert kinds(replace(GOOD, handled_once=[*once, once[0]])) == [Kind.HANDLED_TWICE]


def test_a_load_that_sends_one_id_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="sent twice"):
        check(history([event("e1"), event("e1")], [], []))


@given(st.data())
def test_every_run_of_a_correct_agent_is_accepted_and_every_swap_of_two_ordered_events_is_found(data: Any) -> None:
    count = data.draw(st.integers(2, 20))
    clock = 0.0
    sent, outcomes, ledger = [], [], []
    for number in range(count):
        id = f"e{number}"
        sent.append(event(id, clock))
        clock += data.draw(st.floats(0.1, 3))
        outcome = data.draw(st.sampled_from([DONE, DONE, DONE, "BrokerUnavailableError"]))
        outcomes.append(ended(id, clock, outcome))
        if outcome == DONE or data.draw(st.booleans()):
            ledger.append(id)
        clock += data.draw(st.floats(0, 1))
    assert check(history(sent, outcomes, ledger)) == []
    certain = [id for id in ledger if outcomes[int(id[1:])].outcome == DONE]
    if len(certain) >= 2:
        first, second = certain[0], certain[-1]
        swapped = [{first: second, second: first}.get(id, id) for id in ledger]
        assert Kind.OUT_OF_ORDER in kinds(history(sent, outcomes, swapped))
