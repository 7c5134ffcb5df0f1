"""The turns of one process: their order, their context, and what becomes of those that are given up."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import pytest

from hivewire.agents.concurrency import Concurrency
from hivewire.exceptions import AgentNotFoundError, CantHandleException, DeadlineExceededError, SerializationError
from hivewire.model.grace import GRACE_S
from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.residency import Residency
from hivewire.nats.turn import SessionLapsedError, TurnWithdrawnError
from unit.nats.turns import AGENT, Process, Recorder, Stateless, called, event, rounds, turn, until


@pytest.mark.parametrize(
    ("cls", "concurrency", "overlap"),
    [(Recorder, None, False), (Stateless, None, True), (Recorder, "interleaved", True), (Stateless, "serial", False)],
)
async def test_an_agent_with_state_takes_one_turn_at_a_time_and_the_others_overlap(
    cls: type[Recorder], concurrency: Concurrency | None, overlap: bool
) -> None:
    process = Process(cls, concurrency=concurrency)
    agent = await process.agent()
    gate = process.gate("a")
    running = [process.begin(message) for message in "abc"]
    await until(lambda: process.turns.started == 3)
    await rounds()
    assert ("b ends" in agent.log) is overlap
    gate.set()
    assert await asyncio.gather(*running) == ["A", "B", "C"]
    assert [entry for entry in agent.log if "begins" in entry] == ["a begins", "b begins", "c begins"]
    assert process.turns.mailboxes == 0


async def test_a_turn_that_a_running_turn_caused_is_let_in() -> None:
    process = Process()
    agent = await process.agent()
    gate = process.gate("outer")
    outer = process.begin("outer")
    waiting = process.begin("waiting")
    await until(lambda: process.turns.running == 2)
    assert await process.begin("inner", chain=("outer", "elsewhere")) == "INNER"
    assert not waiting.done()
    gate.set()
    assert await asyncio.gather(outer, waiting) == ["OUTER", "WAITING"]
    assert agent.chains == [("outer",), ("outer", "elsewhere", "inner"), ("waiting",)]


async def test_turns_of_agents_that_interleave_are_not_named_in_the_chain() -> None:
    process = Process(Stateless)
    agent = await process.agent()
    await process.turns.run(turn("a", chain=("serial",)))
    assert agent.chains == [("serial",)]


async def test_a_waiting_turn_that_is_cancelled_is_not_run_and_lets_the_next_one_in() -> None:
    process = Process()
    agent = await process.agent()
    gate = process.gate("a")
    running = process.begin("a")
    given_up = turn("b")
    waiting = asyncio.create_task(process.turns.run(given_up))
    last = process.begin("c")
    await until(lambda: process.turns.running == 3)
    given_up.token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert await asyncio.gather(running, last) == ["A", "C"]
    assert "b begins" not in agent.log
    assert process.turns.mailboxes == 0


@pytest.mark.parametrize("by", ["token", "task"])
async def test_a_turn_that_is_cancelled_in_the_moment_in_which_its_place_comes_gives_it_on(by: str) -> None:
    process = Process()
    agent = await process.agent()
    gate = process.gate("a")
    running = process.begin("a")
    given_up = turn("b")
    waiting = asyncio.create_task(process.turns.run(given_up))
    last = process.begin("c")
    await until(lambda: process.turns.running == 3)
    # Called after the first turn has ended, and before the second one learns that it may run.
    cancel = given_up.token.cancel if by == "token" else waiting.cancel
    agent.at_end = lambda: asyncio.get_running_loop().call_soon(cancel)
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.gather(running, last) == ["A", "C"]
    assert "b begins" not in agent.log


async def test_a_waiting_turn_whose_task_is_cancelled_gives_its_place_on() -> None:
    process = Process()
    gate = process.gate("a")
    running, waiting, last = (process.begin(message) for message in "abc")
    await until(lambda: process.turns.running == 3)
    waiting.cancel()
    gate.set()
    assert await asyncio.gather(running, last) == ["A", "C"]
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_turn_whose_time_has_passed_is_not_run() -> None:
    process = Process()
    with pytest.raises(DeadlineExceededError, match="agent/k had expired"):
        await process.turns.run(turn("late", deadline=time.monotonic()))
    assert (await process.agent()).log == []


async def test_a_turn_that_was_cancelled_before_is_not_run() -> None:
    process = Process()
    given_up = turn("a")
    given_up.token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await process.turns.run(given_up)
    assert (await process.agent()).log == []


async def test_errors_reach_whoever_started_the_turn_and_leave_the_mailbox_open() -> None:
    process = Process(Stateless, concurrency="serial")
    with pytest.raises(ValueError, match="boom"):
        await process.turns.run(turn("fail"))
    with pytest.raises(SerializationError):
        await process.turns.run(turn("bad", payload=b"{"))
    with pytest.raises(AgentNotFoundError):
        await process.turns.run(turn("a", agent=AgentId("nobody", "k")))
    assert await process.turns.run(turn("a")) == "A"
    assert (process.turns.running, process.turns.started) == (0, 4)
    assert process.turns.idle.is_set()
    assert (await process.agent()).log == ["fail begins", "a begins", "a ends"]


async def test_idle_is_told_by_the_last_turn() -> None:
    process = Process(Stateless)
    gate = process.gate("a")
    running = process.begin("a")
    await until(lambda: process.turns.running == 1)
    assert await process.turns.run(turn("b")) == "B"
    assert not process.turns.idle.is_set()
    gate.set()
    await running
    assert process.turns.idle.is_set()


async def test_the_context_says_what_kind_of_message_it_is() -> None:
    process = Process()
    sender, topic = AgentId("s", "x"), TopicId("t", "k")
    await process.turns.run(turn("call", sender=sender))
    await process.turns.run(turn("event", topic=topic))
    call, published = (await process.agent()).contexts
    assert (call.sender, call.topic_id, call.is_rpc, call.message_id) == (sender, None, True, "id of call")
    assert (published.sender, published.topic_id, published.is_rpc) == (None, topic, False)
    assert published.message_id == "id of event"


async def test_an_agent_is_described_and_gives_and_takes_its_state_in_turns_of_its_own() -> None:
    process = Process()
    await process.turns.run(turn("a"))
    described = await process.turns.run(turn("x", operation="metadata"))
    assert described == {"type": "agent", "key": "k", "description": "an agent"}
    assert await process.turns.run(turn("x", operation="save_state")) == {"log": ["a begins", "a ends"]}
    loading = turn("x", operation="load_state", payload=b'{"log":["loaded"]}')
    assert await process.turns.run(loading) is None
    assert (await process.agent()).log == ["loaded"]
    with pytest.raises(CantHandleException, match="knows no operation"):
        await process.turns.run(turn("x", operation="explode"))


async def test_a_turn_is_not_started_once_the_session_is_lost() -> None:
    process = Process()
    process.holds_session = False
    with pytest.raises(SessionLapsedError):
        await process.turns.run(turn("a"))
    assert process.built == []


class Shard:
    """Whose turns are withdrawn."""


class TestWithdrawing:
    async def test_turns_that_wait_end_and_the_running_one_goes_on(self) -> None:
        process = Process()
        gate = process.gate("a")
        shard, other = Shard(), Shard()
        running, waiting = (process.begin(message, owner=shard) for message in "ab")
        foreign = process.begin("c", owner=other)
        await until(lambda: process.turns.running == 3)
        process.turns.withdraw(shard)
        with pytest.raises(TurnWithdrawnError):
            await waiting
        gate.set()
        assert await asyncio.gather(running, foreign) == ["A", "C"]

    async def test_turns_that_wait_for_a_slot_end_too(self) -> None:
        process = Process(Stateless, max_turns=1)
        gate = process.gate("a")
        shard = Shard()
        running = process.begin("a", owner=shard)
        await until(lambda: process.begun)
        waiting = process.begin("b", owner=shard, agent=AgentId("agent", "other"))
        await until(lambda: process.turns.running == 2)
        await rounds()
        process.turns.withdraw(shard)
        with pytest.raises(TurnWithdrawnError):
            await waiting
        gate.set()
        assert await running == "A"
        assert await process.turns.run(turn("c")) == "C"

    async def test_an_event_that_rests_ends_and_gives_its_place_on(self) -> None:
        process = Process()
        shard = Shard()
        failing = event("fail", 1, owner=shard)
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(failing)
        resting = asyncio.create_task(process.turns.rest(failing, 60))
        later = process.begin_event("later", 2)
        await rounds()
        process.turns.withdraw(shard)
        with pytest.raises(TurnWithdrawnError):
            await resting
        assert not later.done()
        process.turns.abandon(failing)
        assert await later == "LATER"
        assert process.turns.mailboxes == 0


class TestSlots:
    async def test_no_more_turns_run_at_once_than_there_are_slots(self) -> None:
        process = Process(Stateless, max_turns=2)
        gate = process.gate("x")
        running = [process.begin("x", id=str(key), agent=AgentId("agent", str(key))) for key in range(5)]
        await rounds()
        assert process.begun == ["x", "x"]
        gate.set()
        assert await asyncio.gather(*running) == ["X"] * 5
        assert process.turns.slots.running == 0

    @pytest.mark.parametrize("cls", [Recorder, Stateless])
    async def test_a_turn_gives_its_slot_back_while_it_awaits_a_call_of_its_own(self, cls: type[Recorder]) -> None:
        process = Process(cls, max_turns=1)
        chain = () if cls is Stateless else ("outer",)
        inner = turn("inner", agent=AgentId("other", "k"), chain=chain)
        process.calls["outer"] = lambda: called(process.turns.run(inner))
        async with asyncio.timeout(5):
            assert await process.turns.run(turn("outer")) == "OUTER"
        assert [each.log for each in process.built] == [["outer begins", "outer ends"], ["inner begins", "inner ends"]]
        assert process.turns.slots.running == 0

    async def test_several_calls_of_one_turn_at_once_share_what_it_gave_back(self) -> None:
        process = Process(Stateless, max_turns=1)

        async def call_several() -> None:
            inner = (turn(f"inner {key}", agent=AgentId("other", key)) for key in "abc")
            await asyncio.gather(*(called(process.turns.run(each)) for each in inner))

        process.calls["outer"] = call_several
        async with asyncio.timeout(5):
            assert await process.turns.run(turn("outer")) == "OUTER"
        assert len(process.built) == 4
        assert process.turns.slots.running == 0

    async def test_a_call_that_outlives_its_turn_does_not_keep_a_slot(self) -> None:
        process = Process(Stateless, max_turns=1)
        answered, left_behind = asyncio.Event(), []

        async def leave_a_task() -> None:
            left_behind.append(asyncio.create_task(called(answered.wait())))
            await asyncio.sleep(0)

        process.calls["outer"] = leave_a_task
        await process.turns.run(turn("outer"))
        answered.set()
        await asyncio.gather(*left_behind)
        assert process.turns.slots.running == 0
        async with asyncio.timeout(5):
            assert await process.turns.run(turn("next")) == "NEXT"

    async def test_a_call_that_begins_while_another_one_takes_the_slot_again_gives_it_back(self) -> None:
        process = Process(Stateless, max_turns=1)
        gate, answered = process.gate("between"), asyncio.Event()

        async def call_twice() -> None:
            async def call_another() -> None:
                await called(answered.wait())
                # By now the other call stands in line for the slot.
                await rounds()
                await called(process.turns.run(turn("inner", agent=AgentId("other", "k"))))

            await asyncio.gather(call_another(), called(answered.wait()))

        process.calls["outer"] = call_twice
        outer = process.begin("outer")
        await until(lambda: process.begun)
        between = process.begin("between", agent=AgentId("other", "b"))
        await until(lambda: "between" in process.begun)
        answered.set()
        await rounds(60)
        gate.set()
        async with asyncio.timeout(5):
            assert await asyncio.gather(outer, between) == ["OUTER", "BETWEEN"]
        assert process.turns.slots.running == 0

    async def test_the_slot_is_taken_again_before_others_of_the_type_that_wait(self) -> None:
        process = Process(Stateless, max_turns=1)
        answered, gate = asyncio.Event(), process.gate("between")
        process.calls["outer"] = lambda: called(answered.wait())
        order: list[str] = []
        outer = process.begin("outer")
        await until(lambda: process.begun)
        between = process.begin("between", agent=AgentId("agent", "b"))
        last = process.begin("last", agent=AgentId("agent", "l"))
        for task, name in ((outer, "outer"), (between, "between"), (last, "last")):
            task.add_done_callback(lambda _, name=name: order.append(name))
        await until(lambda: "between" in process.begun)
        answered.set()
        await rounds()
        gate.set()
        await asyncio.gather(outer, between, last)
        assert order == ["between", "outer", "last"]

    async def test_a_turn_that_is_cancelled_while_it_waits_for_a_slot_leaves_the_line(self) -> None:
        process = Process(Stateless, max_turns=1)
        gate = process.gate("a")
        running = process.begin("a")
        await until(lambda: process.begun)
        given_up = turn("b", agent=AgentId("agent", "other"))
        waiting = asyncio.create_task(process.turns.run(given_up))
        await rounds()
        given_up.token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert process.turns.slots.waiting == 0
        gate.set()
        assert await running == "A"
        assert process.turns.slots.running == 0

    async def test_a_type_whose_turns_wait_for_slots_is_crowded(self) -> None:
        process = Process(Stateless, max_turns=2)
        gate = process.gate("x")
        running = [process.begin("x", id=str(key), agent=AgentId("agent", str(key))) for key in range(4)]
        await rounds()
        assert process.turns.is_crowded("agent")
        assert not process.turns.is_crowded("other")
        gate.set()
        await asyncio.gather(*running)
        assert not process.turns.is_crowded("agent")


class TestRoom:
    async def test_calls_come_in_until_as_many_wait_as_turns_may_run(self) -> None:
        process = Process(Stateless, max_turns=2)
        assert [process.turns.admit(str(key), AgentId("agent", str(key))) for key in range(5)] == [True] * 4 + [False]
        process.turns.dismiss("0")
        process.turns.dismiss("0")
        assert process.turns.admit("4", AgentId("agent", "4"))
        assert not process.turns.admit("5", AgentId("agent", "5"))

    async def test_a_call_waits_no_more_once_its_turn_has_begun(self) -> None:
        process = Process(Stateless, max_turns=1)
        gate = process.gate("x")
        assert process.turns.admit("x", AGENT)
        running = process.begin("x")
        await until(lambda: process.begun)
        assert process.turns.admit("waiting", AgentId("agent", "a"))
        assert not process.turns.admit("too much", AgentId("agent", "b"))
        gate.set()
        assert await running == "X"
        assert process.turns.admit("not too much any more", AgentId("agent", "b"))

    async def test_one_agent_can_only_fill_its_share(self) -> None:
        process = Process(max_turns=8)
        # Two that may wait, and the one that need not.
        assert [process.turns.admit(str(number), AGENT) for number in range(4)] == [True] * 3 + [False]
        assert process.turns.admit("other", AgentId("agent", "other"))

    async def test_a_call_that_a_turn_caused_always_finds_room(self) -> None:
        process = Process(max_turns=1)
        assert [process.turns.admit(str(number), AGENT) for number in range(3)] == [True, True, False]
        assert process.turns.admit("inner", AGENT, ("outer", "elsewhere"))


class TestATurnThatIsRunAlone:
    async def test_no_other_one_starts_meanwhile(self) -> None:
        process = Process(Stateless)
        gate = process.gate("suspect")
        suspect = event("suspect", 1, alone=True, tried=asyncio.Event())
        trial = asyncio.create_task(process.turns.run(suspect))
        await until(lambda: process.begun)
        other = process.begin("other", agent=AgentId("other", "k"))
        await rounds()
        assert process.begun == ["suspect"]
        gate.set()
        assert await asyncio.gather(trial, other) == ["SUSPECT", "OTHER"]
        assert not suspect.alone
        assert suspect.tried is not None
        assert suspect.tried.is_set()

    async def test_it_waits_for_those_that_run(self) -> None:
        process = Process(Stateless)
        gate = process.gate("running")
        running = process.begin("running", agent=AgentId("other", "k"))
        await until(lambda: process.begun)
        trial = process.begin_event("suspect", 1, alone=True)
        await rounds()
        assert process.begun == ["running"]
        gate.set()
        assert await asyncio.gather(running, trial) == ["RUNNING", "SUSPECT"]

    async def test_what_it_calls_itself_is_let_in(self) -> None:
        process = Process(Stateless)
        inner = turn("inner", agent=AgentId("other", "k"), chain=("suspect",))
        process.calls["suspect"] = lambda: called(process.turns.run(inner))
        async with asyncio.timeout(5):
            assert await process.turns.run(event("suspect", 1, alone=True)) == "SUSPECT"
        assert process.built[0].chains == [("suspect",)]

    async def test_two_are_run_one_after_the_other_and_a_failure_ends_the_trial(self) -> None:
        process = Process(Stateless)
        gate = process.gate("suspect")
        tried = asyncio.Event()
        failing = process.begin_event("fail", 1, alone=True, tried=tried)
        second = process.begin_event("suspect", 2, alone=True, agent=AgentId("other", "k"))
        with pytest.raises(ValueError, match="boom"):
            await failing
        assert tried.is_set()
        gate.set()
        assert await second == "SUSPECT"
        assert await process.turns.run(turn("after")) == "AFTER"


class TestTimeLimits:
    async def test_an_event_that_takes_too_long_is_cancelled(self) -> None:
        process = Process(Stateless)
        process.gate("slow")
        slow = process.begin_event("slow", 1, time_limit_s=0.0)
        await until(lambda: process.begun)
        process.turns.cancel_overdue()
        with pytest.raises(DeadlineExceededError, match="agent/k took longer than its limit"):
            await slow
        assert process.turns.slots.running == 0

    async def test_one_within_its_limit_goes_on(self) -> None:
        process = Process(Stateless)
        gate = process.gate("slow")
        slow = process.begin_event("slow", 1, time_limit_s=60.0)
        await until(lambda: process.begun)
        process.turns.cancel_overdue()
        gate.set()
        assert await slow == "SLOW"

    async def test_a_call_is_cancelled_some_time_after_its_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        process = Process(Stateless)
        process.gate("slow")
        deadline = time.monotonic() + 60
        slow = process.begin("slow", deadline=deadline)
        await until(lambda: process.begun)
        now = deadline + GRACE_S - 0.1
        monkeypatch.setattr("hivewire.nats.handling.time", SimpleNamespace(monotonic=lambda: now))
        process.turns.cancel_overdue()
        await rounds()
        assert not slow.done()
        now = deadline + GRACE_S
        process.turns.cancel_overdue()
        with pytest.raises(DeadlineExceededError, match="agent/k took longer than its limit"):
            await slow

    async def test_a_calls_token_is_cancelled_at_its_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        process = Process(Stateless)
        process.gate("slow")
        deadline = time.monotonic() + 60
        slow = turn("slow", deadline=deadline)
        running = asyncio.create_task(process.turns.run(slow))
        await until(lambda: process.begun)
        now = deadline - 0.1
        monkeypatch.setattr("hivewire.nats.handling.time", SimpleNamespace(monotonic=lambda: now))
        process.turns.cancel_overdue()
        assert not slow.token.is_cancelled
        now = deadline
        process.turns.cancel_overdue()
        assert slow.token.is_cancelled
        running.cancel()

    @pytest.mark.parametrize("agent_class", [Stateless, Recorder])
    async def test_a_turn_that_ignores_its_token_is_named_and_cancelled_after_the_grace_time(
        self, agent_class: type[Recorder], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        process = Process(agent_class)
        process.gate("slow")
        slow = turn("slow")
        running = asyncio.create_task(process.turns.run(slow))
        await until(lambda: process.begun)
        slow.token.cancel()
        now = time.monotonic()
        monkeypatch.setattr("hivewire.nats.handling.time", SimpleNamespace(monotonic=lambda: now))
        process.turns.cancel_overdue()
        now += GRACE_S - 0.1
        process.turns.cancel_overdue()
        await rounds()
        assert not running.done()
        now += 0.1
        process.turns.cancel_overdue()
        with pytest.raises(asyncio.CancelledError, match="agent/k was cancelled"):
            await running
        assert "agent/k goes on 5 s after its message was cancelled" in caplog.text
        assert process.turns.slots.running == 0

    @pytest.mark.parametrize("kind", ["call", "event"])
    async def test_one_that_can_not_be_ended_is_left_behind_and_others_of_its_agent_go_on(
        self, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        over = asyncio.Event()

        async def go_on() -> None:
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()

        process = Process()
        process.calls["stuck"] = go_on
        stuck = turn("stuck", deadline=time.monotonic() + 60) if kind == "call" else event("stuck", 1, time_limit_s=60)
        running = asyncio.create_task(process.turns.run(stuck))
        await until(lambda: process.begun)
        waiting = process.begin("next")
        now = time.monotonic() + 60
        monkeypatch.setattr("hivewire.nats.handling.time", SimpleNamespace(monotonic=lambda: now))
        for _ in range(4):
            process.turns.cancel_overdue()
            await rounds()
            now += GRACE_S
        with pytest.raises(DeadlineExceededError, match="agent/k took longer than its limit"):
            await running
        assert "agent/k goes on after it was cancelled" in caplog.text
        if kind == "event":
            process.turns.abandon(stuck)
        assert await waiting == "NEXT"
        stored = process.record()
        over.set()
        await rounds()
        assert process.record() == stored

    @pytest.mark.parametrize("by", ["handler", "task"])
    async def test_a_cancellation_of_a_later_attempt_is_not_taken_for_the_limit(self, by: str) -> None:
        async def be_cancelled() -> None:
            if by == "handler":
                raise asyncio.CancelledError("of the handler")
            await asyncio.Event().wait()

        process = Process(Stateless)
        process.gate("slow")
        slow = event("slow", 1, time_limit_s=0.0)
        running = asyncio.create_task(process.turns.run(slow))
        await until(lambda: process.begun)
        process.turns.cancel_overdue()
        with pytest.raises(DeadlineExceededError):
            await running
        del process.gates["slow"]
        process.calls["slow"] = be_cancelled
        again = asyncio.create_task(process.turns.run(slow))
        await until(lambda: process.begun == ["slow", "slow"])
        if by == "task":
            again.cancel()
        with pytest.raises(asyncio.CancelledError):
            await again

    async def test_a_handlers_own_timeout_stays_what_it_is(self) -> None:
        async def time_out() -> None:
            raise TimeoutError("of the handler")

        process = Process(Stateless)
        process.calls["own"] = time_out
        with pytest.raises(TimeoutError, match="of the handler"):
            await process.turns.run(event("own", 1, time_limit_s=60))


class TestPassivation:
    async def test_an_agent_that_was_not_used_for_long_is_closed(self) -> None:
        now = 0.0
        process = Process(Closing, residency=Residency(idle_s=10, clock=lambda: now))
        await process.turns.run(turn("a"))
        now = 9.0
        await process.turns.passivate_idle()
        assert process.live() is not None
        now = 11.0
        await process.turns.passivate_idle()
        assert process.live() is None
        assert process.built[0].log[-1] == "closed"

    async def test_above_the_number_that_may_be_in_memory_the_least_used_are_closed(self) -> None:
        process = Process(Closing, residency=Residency(max_agents=2))
        for key in "abca":
            await process.turns.run(turn("x", agent=AgentId("agent", key)))
        await process.turns.passivate_idle()
        assert sorted(each.key for each in process.catalog.live_ids()) == ["a", "c"]

    async def test_one_whose_turn_runs_stays(self) -> None:
        now = 0.0
        process = Process(Closing, residency=Residency(idle_s=1, clock=lambda: now))
        gate = process.gate("a")
        running = process.begin("a")
        await until(lambda: process.begun)
        now = 100.0
        await process.turns.passivate_idle()
        assert process.live() is not None
        gate.set()
        assert await running == "A"

    async def test_a_registered_instance_stays(self) -> None:
        now = 0.0
        process = Process(residency=Residency(idle_s=1, clock=lambda: now))
        instance, agent_id = Recorder(), AgentId("instances", "i")
        await instance.bind_id_and_runtime(agent_id, process.runtime)
        process.catalog.add_instance(instance, agent_id)
        await process.turns.run(turn("a", agent=agent_id))
        now = 100.0
        await process.turns.passivate_idle()
        assert process.live(agent_id) is instance

    @pytest.mark.parametrize("cls", ["persisting", "stateless"])
    async def test_a_message_that_comes_during_the_close_waits_for_the_next_activation(self, cls: str) -> None:
        process = Process(Closing if cls == "persisting" else StatelessClosing)
        await process.turns.run(turn("a"))
        closing = process.gate("close")
        leaving = asyncio.create_task(process.turns.passivate(AGENT))
        await until(lambda: process.built[0].log[-1] == "closing")
        waiting = process.begin("b")
        await rounds()
        assert len(process.built) == 1
        closing.set()
        await leaving
        assert await waiting == "B"
        assert len(process.built) == 2
        assert process.built[0].log[-1] == "closed"
        assert process.built[1].log[-2:] == ["b begins", "b ends"]

    async def test_a_close_that_never_ends_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hivewire.nats.turns._CLOSE_TIMEOUT_S", 0.01)
        process = Process(Closing)
        await process.turns.run(turn("a"))
        process.gate("close")
        await process.turns.passivate(AGENT)
        assert await process.turns.run(turn("b")) == "B"
        assert len(process.built) == 2


class Closing(Recorder):
    async def close(self) -> None:
        self.log.append("closing")
        if "close" in self.gates:
            await self.gates["close"].wait()
        self.log.append("closed")


class StatelessClosing(Closing):
    save_state = Stateless.save_state
