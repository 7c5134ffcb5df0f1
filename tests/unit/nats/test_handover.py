"""Keys whose turns still run at an earlier owner."""

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.handover import HeldKeys
from hivewire.nats.positions import RunningElsewhere


class Owner:
    """Notes what becomes of each message."""

    def __init__(self, **running: RunningElsewhere) -> None:
        self.handled: list[object] = []
        self.finished: list[int] = []
        self.held = HeldKeys(running, finish=self.finished.append)

    def offer(self, key: str, message: int | str) -> bool:
        """Offer an event, by its sequence, or a call, by its name, and handle it at once when it is not held back."""
        handle = self.handling(message)
        held = self.held.take(key, message if isinstance(message, int) else None, handle)
        if not held:
            handle()
        return held

    def handling(self, message: object) -> Callable[[], None]:
        return lambda: self.handled.append(message)


def at(session: str, *sequences: int) -> RunningElsewhere:
    return RunningElsewhere("web", session, sequences)


def test_a_key_that_nobody_else_runs_is_handled_at_once() -> None:
    owner = Owner(busy=at("old"))
    assert not owner.offer("free", 1)
    assert owner.handled == [1]


def test_what_waits_for_a_busy_key_is_handled_in_order_when_it_is_free() -> None:
    owner = Owner(busy=at("old", 5))
    assert all(owner.offer("busy", message) for message in (7, "call", 9))
    owner.held.still_running("old", ["busy"])
    assert owner.handled == []
    owner.held.still_running("old", [])
    assert owner.handled == [7, "call", 9]
    assert not owner.held


def test_an_event_that_the_earlier_owner_ran_to_its_end_is_not_handled_again() -> None:
    owner = Owner(busy=at("old", 5, 6))
    owner.offer("busy", 5)
    owner.offer("busy", 7)
    owner.held.still_running("old", [])
    assert owner.finished == [5, 6]
    assert owner.handled == [7]


def test_an_event_that_ran_where_its_owner_died_is_handled_here() -> None:
    owner = Owner(busy=at("old", 5))
    owner.offer("busy", 5)
    owner.held.session_ended("old")
    assert owner.finished == []
    assert owner.handled == [5]


def test_each_earlier_owner_speaks_for_itself_alone() -> None:
    owner = Owner(one=at("first", 1), two=at("second", 2))
    assert owner.held.sessions == {("web", "first"), ("web", "second")}
    owner.offer("one", 1)
    owner.offer("two", 2)
    owner.held.still_running("first", [])
    assert owner.held.running == {"two": at("second", 2)}
    owner.held.session_ended("first")
    assert owner.handled == []
    owner.held.session_ended("second")
    assert owner.handled == [2]


def test_a_shard_that_is_given_up_gives_back_the_calls_that_wait_and_goes_on_naming_the_busy_keys() -> None:
    owner = Owner(busy=at("old", 5))
    owner.offer("busy", 6)
    owner.offer("busy", "call")
    for give_back in owner.held.drain():
        give_back()
    assert owner.handled == ["call"]
    assert owner.held.running == {"busy": at("old", 5)}
    assert owner.held.drain() == []


KEYS = ["a", "b", "c"]
SESSIONS = ["s1", "s2"]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("offer"), st.sampled_from(KEYS), st.booleans()),
        st.tuples(st.just("still"), st.sampled_from(SESSIONS), st.sets(st.sampled_from(KEYS))),
        st.tuples(st.just("ended"), st.sampled_from(SESSIONS), st.just(None)),
    ),
    max_size=30,
)


@given(
    st.dictionaries(st.sampled_from(KEYS), st.tuples(st.sampled_from(SESSIONS), st.sets(st.integers(1, 5)))),
    steps,
)
def test_nothing_is_lost_doubled_or_overtaken(
    running: dict[str, tuple[str, set[int]]], steps: list[tuple[str, str, object]]
) -> None:
    owner = Owner(**{key: at(session, *sequences) for key, (session, sequences) in running.items()})
    offered: dict[str, list[object]] = {key: [] for key in KEYS}
    number = 0
    for step, who, what in steps:
        if step == "offer":
            number += 1
            message: int | str = number if what else f"call {number}"
            offered[who].append((who, message))
            handle = owner.handling((who, message))
            if not owner.held.take(who, number if what else None, handle):
                handle()
        elif step == "still":
            owner.held.still_running(who, what)  # type: ignore[arg-type]
        else:
            owner.held.session_ended(who)
    for session in SESSIONS:
        owner.held.session_ended(session)
    finished = set(owner.finished)
    for key in KEYS:
        handled = [message for message in owner.handled if message[0] == key]  # type: ignore[index]
        left_out = [message for message in offered[key] if message not in handled]
        assert handled == [message for message in offered[key] if message not in left_out]
        assert all(sequence in finished and sequence in running[key][1] for _, sequence in left_out)  # type: ignore[misc]
