"""A session's lease beside a model of the server that keeps its entry, with a clock that the test holds."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hivewire.nats.lease import LOOP_STUCK_S, RENEW_EVERY_S, SESSION_TTL_S, Lease, is_stuck

# Binary fractions, so that sums are exact.
short = st.integers(0, 12).map(lambda quarters: quarters / 4)


class Server:
    """The entry of one session: compare-and-set, and it goes away by itself."""

    def __init__(self) -> None:
        self.revision = 0
        self.expires = 0.0

    def write(self, now: float, revision: int) -> int | None:
        """Return the revision; None: refused. All writes of a session look alike, so another one's counts too."""
        if revision == self.revision and (now < self.expires or not revision):
            self.revision += 1
            self.expires = now + SESSION_TTL_S
        return self.revision if now < self.expires else None


class Process(RuleBasedStateMachine):
    """Renewals are lost, answered late, or arrive late; the process stands still at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.server = Server()
        self.lease = Lease("s1")
        self.under_way: int | None = None  # the revision that the write names
        self.answer: int | None = None
        self.answered = False
        self.late: list[int] = []
        self.over = False

    @rule(seconds=short)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.integers(4, 100))
    def the_process_stands_still(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.under_way is None and self.now >= self.lease.renew_at)
    @rule()
    def it_renews(self) -> None:
        if self.lease.lost(self.now):
            self.over = True
            return
        self.lease.sent(self.now)
        self.under_way, self.answered = self.lease.revision, False

    @precondition(lambda self: self.under_way is not None and not self.answered)
    @rule()
    def the_write_arrives(self) -> None:
        assert self.under_way is not None
        self.answer, self.answered = self.server.write(self.now, self.under_way), True

    @precondition(lambda self: self.late)
    @rule()
    def a_write_that_nobody_waits_for_arrives(self) -> None:
        self.server.write(self.now, self.late.pop(0))

    @precondition(lambda self: self.under_way is not None and self.answered)
    @rule()
    def the_answer_arrives(self) -> None:
        if self.answer is None:
            self.lease.refused()
        else:
            self.lease.acknowledged(self.now, revision=self.answer)
            if not self.lease.lost(self.now):
                assert self.lease.renew_at <= self.now + RENEW_EVERY_S
        self.under_way = None

    @precondition(lambda self: self.under_way is not None)
    @rule()
    def no_answer_comes_in_time(self) -> None:
        assert self.under_way is not None
        if not self.answered:
            self.late.append(self.under_way)
        self.lease.unanswered(self.now)
        assert self.now < self.lease.renew_at <= self.now + 1
        self.under_way = None

    @rule()
    def somebody_asks_whether_it_is_lost(self) -> None:
        self.over = self.lease.lost(self.now) or self.over

    @rule()
    def another_session_follows(self) -> None:
        if self.over and self.under_way is None:
            self.__init__()  # type: ignore[misc]

    @invariant()
    def it_is_valid_only_while_the_server_keeps_the_entry(self) -> None:
        assert not self.lease.valid(self.now) or self.now < self.server.expires

    @invariant()
    def a_lost_session_is_never_valid_again(self) -> None:
        assert not (self.over and self.lease.valid(self.now))
        assert not (self.over and not self.lease.lost(self.now))


TestProcess = Process.TestCase
TestProcess.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)


def renewed(lease: Lease, sent: float, answered: float, revision: int) -> None:
    lease.sent(sent)
    lease.acknowledged(answered, revision=revision)


def test_a_session_that_is_renewed_in_time_holds_on() -> None:
    lease, now = Lease("s"), 10.0
    for revision in range(1, 100):
        assert not lease.lost(now)
        renewed(lease, now, now + 1, revision)
        assert lease.valid(now + 1)
        assert lease.renew_at == now + RENEW_EVERY_S
        now = lease.renew_at
    lease.end()
    assert not lease.valid(now)


def test_it_counts_from_before_the_write_was_sent() -> None:
    lease = Lease("s")
    renewed(lease, 10.0, 12.0, 1)
    assert lease.valid(15.4)
    assert not lease.valid(15.5)


def test_an_answer_that_comes_after_an_unanswered_write_may_be_about_that_one() -> None:
    lease = Lease("s")
    renewed(lease, 10.0, 10.0, 1)
    lease.sent(12.0)
    lease.unanswered(14.0)
    renewed(lease, 14.25, 14.5, 2)
    # Perhaps the entry was written at 12 s, and not since.
    assert not lease.valid(17.5)
    assert lease.renew_at <= 14.5


def test_a_session_in_doubt_holds_again_once_it_is_renewed() -> None:
    lease = Lease("s")
    renewed(lease, 10.0, 10.0, 1)
    lease.sent(12.0)
    lease.acknowledged(18.0, revision=2)
    # It was written at 12 s, perhaps: by now it may be gone.
    assert not lease.valid(18.0)
    assert not lease.lost(18.0)
    assert lease.renew_at <= 18.0
    renewed(lease, 18.0, 18.25, 3)
    assert lease.valid(18.25)


def test_an_entry_that_is_refused_is_lost_at_once() -> None:
    lease = Lease("s")
    renewed(lease, 10.0, 10.0, 1)
    lease.sent(12.0)
    lease.refused()
    assert not lease.valid(12.0)
    assert lease.lost(12.0)
    assert lease.was_valid


def test_a_session_whose_first_write_is_never_answered_is_given_up() -> None:
    lease = Lease("s")
    assert not lease.lost(1e9)
    lease.sent(10.0)
    lease.unanswered(12.0)
    assert not lease.lost(15.0)
    assert lease.lost(15.5)
    assert not lease.was_valid


@pytest.mark.parametrize(("stood_still", "stuck"), [(0.0, False), (LOOP_STUCK_S, False), (LOOP_STUCK_S + 1, True)])
def test_an_event_loop_that_stands_still_for_a_minute_is_stuck(stood_still: float, stuck: bool) -> None:
    assert is_stuck(100.0 + stood_still, loop_seen_at=100.0) is stuck
