"""Who runs when a process has no room for all, against a model that counts."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hivewire.nats.turn_slots import TurnSlots

TYPES = ["a", "b", "c"]
types = st.sampled_from(TYPES)


class Process(RuleBasedStateMachine):
    """Turns of three types ask for slots, and give them back."""

    @initialize(slots=st.integers(1, 30), served=st.sets(types))
    def begin(self, slots: int, served: set[str]) -> None:
        self.slots = TurnSlots(slots)
        self.number = slots
        self.count = 0
        self.served: set[str] = set()
        self.running: dict[str, int] = dict.fromkeys(TYPES, 0)
        self.lines: dict[str, list[str]] = {each: [] for each in TYPES}
        for each in served:
            self.a_type_is_served(each)

    @property
    def share(self) -> int:
        return self.number // (4 * len(self.served)) if len(self.served) > 1 else 0

    def may_run(self, agent_type: str) -> bool:
        free = self.number - sum(self.running.values())
        kept = sum(max(0, self.share - self.running[each]) for each in self.served - {agent_type})
        sure = agent_type in self.served and self.running[agent_type] < self.share
        return free > 0 and (sure or free > kept)

    @rule(agent_type=types)
    def a_type_is_served(self, agent_type: str) -> None:
        self.served.add(agent_type)
        self.slots.serve(agent_type)

    @rule(agent_type=types, first=st.booleans(), turns=st.integers(1, 6))
    def turns_ask_for_slots(self, agent_type: str, first: bool, turns: int) -> None:
        for _ in range(turns):
            self.count += 1
            turn = f"{agent_type}{self.count}"
            line = self.lines[agent_type]
            may = not line and self.may_run(agent_type)
            assert self.slots.take(agent_type, turn, first=first) == may
            if may:
                self.running[agent_type] += 1
            else:
                line.insert(0 if first else len(line), turn)

    @precondition(lambda self: any(self.running.values()))
    @rule(data=st.data())
    def a_slot_is_given_back(self, data: st.DataObject) -> None:
        agent_type = data.draw(st.sampled_from([each for each in TYPES if self.running[each]]))
        self.running[agent_type] -= 1
        below = [each for each in self.served if self.lines[each] and self.running[each] < self.share]
        started = self.slots.give(agent_type)
        for turn in started:
            assert self.may_run(turn[0])
            # In the order of its type.
            assert self.lines[turn[0]].pop(0) == turn
            self.running[turn[0]] += 1
        # Nobody waits for a slot that he may have.
        assert not [each for each in TYPES if self.lines[each] and self.may_run(each)]
        # A type below its share does not wait for others.
        assert not below or any(turn[0] in below for turn in started)

    @precondition(lambda self: any(self.lines.values()))
    @rule(data=st.data())
    def a_turn_leaves_the_line(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from([turn for line in self.lines.values() for turn in line]))
        self.lines[turn[0]].remove(turn)
        assert self.slots.leave(turn[0], turn)
        assert not self.slots.leave(turn[0], turn)

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        assert self.slots.running == sum(self.running.values()) <= self.number
        assert {each: self.slots.waiting_of(each) for each in TYPES} == {
            each: len(line) for each, line in self.lines.items()
        }
        assert self.slots.waiting == sum(map(len, self.lines.values()))

    @invariant()
    def it_is_never_stuck(self) -> None:
        assert any(self.running.values()) or not any(self.lines.values())


TestProcess = Process.TestCase
TestProcess.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_what_is_beyond_the_shares_goes_round_among_the_types_that_wait() -> None:
    slots = TurnSlots(1)
    assert slots.take("a", "a0")
    for turn in ("a1", "a2", "a3", "b1", "b2", "c1"):
        assert not slots.take(turn[0], turn)
    order = ["a0"]
    while order[-1:] != order[-2:-1] and (started := slots.give(order[-1][0])):
        order += started
    assert order == ["a0", "a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_type_that_fills_all_it_can_get_leaves_the_others_their_share() -> None:
    slots = TurnSlots(16)
    slots.serve("busy")
    slots.serve("quiet")
    assert [slots.take("busy", f"b{number}") for number in range(20)].count(True) == 14
    assert slots.take("quiet", "q1")
    assert slots.take("quiet", "q2")
    assert not slots.take("quiet", "q3")


def test_slots_that_are_not_set_aside_any_more_are_handed_out() -> None:
    slots = TurnSlots(8)
    slots.serve("a")
    slots.serve("b")
    assert [slots.take("a", f"a{number}") for number in range(10)].count(True) == 7
    # With three types the share is nothing, so the slot that was kept for b is anybody's.
    slots.serve("c")
    assert slots.give("a") == ["a7", "a8"]


def test_a_process_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        TurnSlots(0)
