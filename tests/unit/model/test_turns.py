import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hivewire.model.turns import TurnOrder


def test_an_interleaved_order_lets_everything_in_at_once() -> None:
    order = TurnOrder(serial=False)

    assert [order.arrive(turn) for turn in "abc"] == [True, True, True]
    assert order.running == ("a", "b", "c")
    assert order.waiting == ()


def test_a_serial_order_lets_in_one_turn_at_a_time_in_order_of_arrival() -> None:
    order = TurnOrder(serial=True)

    assert [order.arrive(turn) for turn in "abc"] == [True, False, False]
    assert order.finish("a") == ["b"]
    assert order.finish("b") == ["c"]
    assert order.finish("c") == []
    assert order.idle


def test_a_turn_caused_by_a_running_turn_starts_at_once() -> None:
    order = TurnOrder(serial=True)
    order.arrive("outer")
    order.arrive("stranger")

    assert order.arrive("inner", ("outer", "elsewhere", "inner"))
    assert order.running == ("outer", "inner")
    assert order.waiting == ("stranger",)


def test_a_turn_caused_by_a_finished_turn_waits_like_any_other() -> None:
    order = TurnOrder(serial=True)
    order.arrive("outer")
    order.finish("outer")
    order.arrive("next")

    assert not order.arrive("late", ("outer",))


def test_waiting_turns_start_only_after_inner_turns_have_finished_too() -> None:
    order = TurnOrder(serial=True)
    order.arrive("outer")
    order.arrive("stranger")
    order.arrive("inner", ("outer",))

    assert order.finish("outer") == []
    assert order.finish("inner") == ["stranger"]


def test_a_dropped_turn_never_starts() -> None:
    order = TurnOrder(serial=True)
    order.arrive("a")
    order.arrive("b")
    order.arrive("c")

    assert order.drop("b")
    assert not order.drop("b")
    assert not order.drop("a")
    assert order.finish("a") == ["c"]


def test_a_turn_arrives_once() -> None:
    order = TurnOrder(serial=True)
    order.arrive("a")
    order.arrive("b")

    with pytest.raises(ValueError, match="'a' has arrived already"):
        order.arrive("a")
    with pytest.raises(ValueError, match="'b' has arrived already"):
        order.arrive("b")


def test_only_a_running_turn_can_finish() -> None:
    order = TurnOrder(serial=True)
    order.arrive("a")
    order.arrive("b")

    with pytest.raises(ValueError, match="'b' does not run"):
        order.finish("b")


def test_it_says_what_it_holds() -> None:
    order = TurnOrder(serial=True)
    order.arrive("a")
    order.arrive("b")

    assert repr(order) == "<TurnOrder serial, 1 running, 1 waiting>"


@given(st.lists(st.integers(min_value=0, max_value=30), unique=True))
def test_turns_of_a_serial_order_start_in_order_of_arrival(arrivals: list[int]) -> None:
    order = TurnOrder(serial=True)
    started = [str(turn) for turn in arrivals if order.arrive(str(turn))]

    while order.running:
        started += order.finish(order.running[0])

    assert started == [str(turn) for turn in arrivals]


class SerialTurns(RuleBasedStateMachine):
    """Turns that arrive, finish, are dropped and cause inner turns, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.order = TurnOrder(serial=True)
        self.chains: dict[str, tuple[str, ...]] = {}
        self.expected_waiting: list[str] = []

    @rule()
    def a_stranger_arrives(self) -> None:
        self._arrive(())

    @precondition(lambda self: self.order.running)
    @rule(data=st.data())
    def an_inner_turn_arrives(self, data: st.DataObject) -> None:
        caller = data.draw(st.sampled_from(self.order.running))
        turn = self._arrive((*self.chains[caller], caller))
        assert turn in self.order.running

    @precondition(lambda self: self.order.running)
    @rule(data=st.data())
    def a_turn_finishes(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.order.running))
        was_last = len(self.order.running) == 1
        started = self.order.finish(turn)
        expected = self.expected_waiting[:1] if was_last else []
        assert started == expected
        del self.expected_waiting[: len(started)]

    @precondition(lambda self: self.expected_waiting)
    @rule(data=st.data())
    def a_waiting_turn_is_dropped(self, data: st.DataObject) -> None:
        turn = data.draw(st.sampled_from(self.expected_waiting))
        assert self.order.drop(turn)
        self.expected_waiting.remove(turn)

    @invariant()
    def nothing_waits_while_nothing_runs(self) -> None:
        assert self.order.running or not self.order.waiting
        assert self.order.idle is not bool(self.order.running)

    @invariant()
    def the_waiting_keep_their_order(self) -> None:
        assert list(self.order.waiting) == self.expected_waiting

    def _arrive(self, chain: tuple[str, ...]) -> str:
        turn = str(len(self.chains))
        self.chains[turn] = chain
        blocked = bool(self.order.running) and not set(chain) & set(self.order.running)
        assert self.order.arrive(turn, chain) is not blocked
        if blocked:
            self.expected_waiting.append(turn)
        return turn


TestSerialTurns = SerialTurns.TestCase
