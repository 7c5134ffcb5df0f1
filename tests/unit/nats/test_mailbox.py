"""The mailbox of one agent, against a model that keeps plain lists."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hivewire.nats.mailbox import Mailbox


class Agent(RuleBasedStateMachine):
    """Turns arrive, run, rest and end; the model says which may run at each moment."""

    @initialize(serial=st.booleans())
    def begin(self, serial: bool) -> None:
        self.serial = serial
        self.mailbox = Mailbox(serial=serial)
        self.count = 0
        self.arrived = 0
        self.running: dict[str, bool] = {}  # whether it is an event
        self.inner: set[str] = set()
        self.waiting: list[str] = []  # in the order in which they may start
        self.events: set[str] = set()
        self.resting: str | None = None
        self.ended: list[str] = []

    def new_id(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def started(self, turns: list[str]) -> None:
        """Check that exactly the right turns start now."""
        assert turns == self.due()
        for turn in turns:
            self.waiting.remove(turn)
            self.running[turn] = turn in self.events

    def due(self) -> list[str]:
        event_is_current = self.resting is not None or any(self.running.values())
        ready = [each for each in self.waiting if each not in self.events or not event_is_current]
        if self.serial:
            return [] if self.running else ready[:1]
        # Calls never wait, and one event runs at a time.
        return ready[:1]

    @rule()
    def an_event_arrives(self) -> None:
        turn = self.new_id()
        self.events.add(turn)
        self.waiting.append(turn)
        self.started([turn] if self.mailbox.arrive(turn, is_event=True) else [])

    @rule(stranger=st.booleans())
    def a_call_arrives(self, stranger: bool) -> None:
        turn = self.new_id()
        starts = self.mailbox.arrive(turn, is_event=False, chain=["elsewhere"] if stranger else [])
        if self.serial:
            self.waiting.append(turn)
            self.started([turn] if starts else [])
        else:
            assert starts
            self.running[turn] = False

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_call_arrives_that_a_running_turn_caused(self, data: st.DataObject) -> None:
        turn, cause = self.new_id(), data.draw(st.sampled_from(sorted(self.running)))
        assert self.mailbox.is_inner(["elsewhere", cause, "another"])
        assert self.mailbox.arrive(turn, is_event=False, chain=["elsewhere", cause, "another"])
        self.running[turn] = False

    @precondition(lambda self: self.waiting or self.resting or self.ended)
    @rule(data=st.data())
    def a_call_arrives_that_a_turn_caused_which_does_not_run(self, data: st.DataObject) -> None:
        turn = self.new_id()
        causes = [*self.waiting, *self.ended, *filter(None, [self.resting])]
        cause = data.draw(st.sampled_from(causes))
        assert not self.mailbox.is_inner([cause])
        if self.serial:
            self.waiting.append(turn)
            self.started([turn] if self.mailbox.arrive(turn, is_event=False, chain=[cause]) else [])

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_turn_ends(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(sorted(self.running)))
        del self.running[turn]
        self.ended.append(turn)
        self.started(self.mailbox.finish(turn))

    @precondition(lambda self: any(self.running.values()))
    @rule()
    def the_event_fails_and_rests(self) -> None:
        [turn] = [turn for turn, is_event in self.running.items() if is_event]
        del self.running[turn]
        self.resting = turn
        self.started(self.mailbox.rest(turn))

    @precondition(lambda self: self.resting)
    @rule()
    def the_event_may_run_again(self) -> None:
        turn, self.resting = self.resting, None
        assert turn is not None
        # It came before everything that waits now.
        self.waiting.insert(0, turn)
        self.started(self.mailbox.resume(turn))

    @precondition(lambda self: self.waiting or self.resting)
    @rule(data=st.data())
    def a_turn_that_waits_or_rests_is_dropped(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([*self.waiting, *filter(None, [self.resting])]))
        if turn == self.resting:
            self.resting = None
        else:
            self.waiting.remove(turn)
        self.ended.append(turn)
        started = self.mailbox.drop(turn)
        assert started is not None
        self.started(started)

    @precondition(lambda self: self.running or self.ended)
    @rule(data=st.data())
    def what_runs_or_has_ended_is_not_dropped(self, data: st.DataObject) -> None:
        assert self.mailbox.drop(data.draw(st.sampled_from([*sorted(self.running), *self.ended]))) is None

    @precondition(lambda self: self.running or self.waiting or self.resting)
    @rule(data=st.data(), is_event=st.booleans())
    def a_turn_that_is_here_does_not_arrive_again(self, data: st.DataObject, is_event: bool) -> None:
        here = [*sorted(self.running), *self.waiting, *filter(None, [self.resting])]
        with pytest.raises(ValueError, match="has arrived already"):
            self.mailbox.arrive(data.draw(st.sampled_from(here)), is_event=is_event)

    @precondition(lambda self: self.waiting or self.ended)
    @rule(data=st.data())
    def what_does_not_run_neither_ends_nor_rests(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([*self.waiting, *self.ended]))
        for act, text in (
            (self.mailbox.finish, "does not run"),
            (self.mailbox.rest, "is not the event that runs"),
            (self.mailbox.resume, "does not rest"),
        ):
            with pytest.raises(ValueError, match=text):
                act(turn)

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        assert self.mailbox.waiting == len(self.waiting)
        assert self.mailbox.idle == (not self.running and not self.waiting and self.resting is None)

    @invariant()
    def it_is_never_stuck(self) -> None:
        if not self.running:
            assert all(turn in self.events for turn in self.waiting)
            assert not self.waiting or self.resting is not None

    @invariant()
    def one_event_runs_at_a_time(self) -> None:
        assert sum(self.running.values()) + (self.resting is not None) <= 1


TestAgent = Agent.TestCase
TestAgent.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_an_event_that_rests_keeps_its_place_while_calls_go_on() -> None:
    mailbox = Mailbox(serial=True)
    assert mailbox.arrive("e1", is_event=True)
    assert not mailbox.arrive("e2", is_event=True)
    assert not mailbox.arrive("c1", is_event=False)
    assert mailbox.rest("e1") == ["c1"]
    assert mailbox.finish("c1") == []
    assert mailbox.arrive("c2", is_event=False)
    assert mailbox.resume("e1") == []
    assert mailbox.finish("c2") == ["e1"]
    assert mailbox.finish("e1") == ["e2"]


def test_events_take_turns_with_calls_in_the_order_of_arrival() -> None:
    mailbox = Mailbox(serial=True)
    assert mailbox.arrive("c1", is_event=False)
    assert not any(
        mailbox.arrive(turn, is_event=is_event) for turn, is_event in [("e1", True), ("c2", False), ("e2", True)]
    )
    assert [mailbox.finish(turn) for turn in ("c1", "e1", "c2", "e2")] == [["e1"], ["c2"], ["e2"], []]
    assert mailbox.idle


def test_an_inner_turn_that_outlives_its_cause_keeps_the_next_one_waiting() -> None:
    mailbox = Mailbox(serial=True)
    assert mailbox.arrive("outer", is_event=True)
    assert mailbox.arrive("inner", is_event=False, chain=["outer"])
    assert not mailbox.arrive("next", is_event=False)
    assert mailbox.finish("outer") == []
    assert mailbox.finish("inner") == ["next"]
