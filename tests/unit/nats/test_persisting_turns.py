"""Turns of agents that keep state: loaded before, stored after, and thrown away when one of the two did not work."""

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from hivewire.exceptions import (
    BrokerUnavailableError,
    DeadlineExceededError,
    MessageTooLargeError,
    SerializationError,
    StateConflictError,
    UnsupportedFormatError,
    WorkerLostError,
)
from hivewire.model.ids import AgentId
from hivewire.model.remote_errors import decode_error, encode_error
from hivewire.nats.activations import StateUnreadableError, SupersededError, WriteUnknownError
from hivewire.nats.turn import GivenUpError, TurnWithdrawnError
from unit.nats.turns import AGENT, STREAM, MemoryBucket, Process, Recorder, called, event, rounds, turn, until

STORED = '{"log":["stored"]}'


class Saving(Recorder):
    """Saves what the test says, if it says something."""

    state: Any = None

    async def save_state(self) -> Mapping[str, Any]:
        return await super().save_state() if self.state is None else self.state


class TestLoading:
    async def test_an_agent_has_its_state_in_its_first_turn(self) -> None:
        process = Process()
        process.store(STORED)
        assert await process.turns.run(turn("look")) == "stored"

    async def test_it_is_read_once_for_as_long_as_the_agent_is_in_memory(self) -> None:
        process = Process()
        for message in "abc":
            await process.turns.run(turn(message))
        assert process.bucket.reads == ["agent.k"]
        await process.turns.passivate(AGENT)
        assert await process.turns.run(turn("look")) == "a begins, a ends, b begins, b ends, c begins, c ends"
        assert process.bucket.reads == ["agent.k"] * 2

    async def test_what_cant_be_read_is_not_handled_and_nothing_of_the_agent_stays(self) -> None:
        process = Process()
        process.bucket.unreadable = True
        with pytest.raises(StateUnreadableError, match="state of agent/k can't be read"):
            await process.turns.run(event("a", 1))
        assert process.begun == []
        assert process.live() is None
        process.bucket.unreadable = False
        assert await process.turns.run(turn("look")) == ""

    async def test_the_caller_of_an_agent_that_cant_be_read_gets_an_error_that_it_knows(self) -> None:
        process = Process()
        process.bucket.unreadable = True
        with pytest.raises(BrokerUnavailableError, match=r"agent/k was not handled: .*nobody answered") as raised:
            await process.turns.run(turn("a"))
        assert type(decode_error(encode_error(raised.value, agent="agent/k"))) is BrokerUnavailableError
        assert process.begun == []

    async def test_what_a_newer_version_stored_is_refused_and_left_as_it_is(self) -> None:
        process = Process()
        process.store(STORED)
        entry = process.bucket.entries_by_key["agent.k"]
        newer = entry.value.replace(b'"format":1', b'"format":99') if entry.value else b""
        process.bucket.entries_by_key["agent.k"] = type(entry)(newer, entry.revision)
        with pytest.raises(UnsupportedFormatError):
            await process.turns.run(event("a", 1))
        assert process.bucket.entries_by_key["agent.k"].value == newer
        assert process.begun == []
        assert process.live() is None

    async def test_an_error_of_load_state_leaves_the_stored_state_alone(self) -> None:
        process = Process()
        process.store('{"old":1}')
        with pytest.raises(KeyError, match="log"):
            await process.turns.run(event("a", 1))
        assert process.live() is None
        assert process.bucket.writes == []

    async def test_several_that_come_at_once_load_it_once(self) -> None:
        process = Process(concurrency="interleaved")
        process.store(STORED)
        gate = process.gate("a")
        running = [process.begin("a", id=str(number)) for number in range(3)]
        await until(lambda: len(process.begun) == 3)
        gate.set()
        assert await asyncio.gather(*running) == ["A"] * 3
        assert process.bucket.reads == ["agent.k"]
        assert len(process.built) == 1
        log = ["stored", *["a begins"] * 3, *["a ends"] * 3]
        assert json.loads(process.record().state) == {"log": log}

    async def test_a_registered_instance_gets_what_is_stored(self) -> None:
        process = Process()
        agent_id = AgentId("instances", "i")
        process.store(STORED, agent_id=agent_id)
        instance = Recorder()
        await instance.bind_id_and_runtime(agent_id, process.runtime)
        process.catalog.add_instance(instance, agent_id)
        assert await process.turns.run(turn("look", agent=agent_id)) == "stored"


class TestStoring:
    async def test_the_state_is_stored_when_a_call_is_answered(self) -> None:
        process = Process()
        await process.turns.run(turn("a"))
        record = process.record()
        assert record.state == '{"log":["a begins","a ends"]}'
        assert (record.agent, record.stream, record.last, record.dead) == (AGENT, STREAM, 0, None)

    async def test_a_call_that_changed_nothing_writes_nothing(self) -> None:
        process = Process()
        await process.turns.run(turn("look"))
        assert process.record() is None
        await process.turns.run(turn("a"))
        await process.turns.run(turn("look"))
        assert process.bucket.writes == ["agent.k"]

    @pytest.mark.parametrize("operation", ["metadata", "save_state"])
    async def test_to_be_asked_about_writes_nothing(self, operation: str) -> None:
        process = Process()
        await process.turns.run(turn("x", operation=operation))
        assert process.bucket.writes == []

    async def test_a_state_that_is_loaded_from_outside_is_stored(self) -> None:
        process = Process()
        await process.turns.run(turn("x", operation="load_state", payload=STORED.encode()))
        assert process.record().state == STORED

    async def test_an_event_is_noted_as_handled_even_if_it_changed_nothing(self) -> None:
        process = Process()
        await process.turns.run(event("look", 7))
        record = process.record()
        assert (record.state, record.last, record.stream) == ('{"log":[]}', 7, STREAM)

    async def test_a_call_leaves_the_number_of_the_last_event(self) -> None:
        process = Process()
        await process.turns.run(event("a", 7))
        await process.turns.run(turn("b"))
        record = process.record()
        assert (record.last, record.state) == (7, '{"log":["a begins","a ends","b begins","b ends"]}')

    async def test_every_write_is_told_from_all_others(self) -> None:
        process = Process()
        await process.turns.run(turn("a"))
        first = process.record().writer
        await process.turns.run(turn("b"))
        assert process.record().writer not in ("", first)

    async def test_what_cant_be_stored_names_the_agent_and_the_place(self) -> None:
        process = Process(Saving)
        agent = await process.agent()
        await process.turns.run(turn("a"))
        agent.state = {"fine": 1, "list": [0, {"bad": object()}]}
        with pytest.raises(SerializationError, match=r"state of agent/k can't be stored: state\['list'\]\[1\]\['bad'"):
            await process.turns.run(event("b", 1))
        assert process.record().state == '{"log":["a begins","a ends"]}'
        assert process.record().last == 0

    async def test_a_state_that_is_too_large_names_the_agent_and_its_size(self) -> None:
        process = Process()
        process.bucket.fail_next = MessageTooLargeError("at most 10 bytes")
        with pytest.raises(MessageTooLargeError, match=r"agent/k has \d{3} bytes.*keep less in it.*at most 10 bytes"):
            await process.turns.run(event("a", 1))
        assert process.record() is None
        assert process.live() is None

    async def test_calls_that_end_at_once_are_stored_one_after_the_other(self) -> None:
        process = Process(concurrency="interleaved")
        await process.turns.run(turn("look"))
        await asyncio.gather(*(process.turns.run(turn(message)) for message in "abc"))
        assert await process.turns.run(turn("look", id="again")) == ", ".join(process.built[0].log)
        assert len(process.built) == 1
        await process.turns.passivate(AGENT)
        assert len((await process.turns.run(turn("look", id="at last"))).split(", ")) == 6


class TestEventsThatAreReadAgain:
    @pytest.mark.parametrize("sequence", [1, 6, 7])
    async def test_one_at_or_below_the_last_is_not_handled(self, sequence: int) -> None:
        process = Process()
        process.store(STORED, last=7)
        assert await process.turns.run(event("a", sequence)) is None
        assert process.begun == []
        assert process.bucket.writes == []

    async def test_one_above_it_is_handled(self) -> None:
        process = Process()
        process.store(STORED, last=7)
        assert await process.turns.run(event("a", 8)) == "A"

    async def test_the_numbers_of_another_stream_mean_nothing(self) -> None:
        process = Process()
        process.store(STORED, last=7, dead=7, stream="an earlier stream")
        assert await process.turns.run(event("a", 3)) == "A"
        record = process.record()
        assert (record.stream, record.last, record.dead) == (STREAM, 3, None)

    async def test_a_call_after_the_stream_was_made_again_forgets_its_numbers(self) -> None:
        process = Process()
        await process.turns.run(event("a", 7))
        process.stream = "made again"
        await process.turns.run(turn("b"))
        assert (process.record().stream, process.record().last) == ("made again", 0)

    async def test_one_of_a_stream_that_is_gone_is_not_handled(self) -> None:
        process = Process()
        with pytest.raises(TurnWithdrawnError):
            await process.turns.run(event("a", 1, stream="an earlier stream"))
        assert process.begun == []

    async def test_one_whose_stream_goes_while_its_turn_runs_is_not_noted(self) -> None:
        process = Process()
        gate = process.gate("a")
        running = process.begin_event("a", 7)
        await until(lambda: process.begun)
        process.stream = "made again"
        gate.set()
        with pytest.raises(SupersededError, match="stream that is gone"):
            await running
        assert process.record() is None
        assert process.live() is None

    async def test_one_that_was_given_up_is_told_apart(self) -> None:
        process = Process()
        process.store(STORED, last=7, dead=7)
        assert await process.turns.run(event("a", 6)) is None
        with pytest.raises(GivenUpError):
            await process.turns.run(event("a", 7))
        assert process.begun == []


class TestGivingUp:
    async def test_it_is_noted_and_the_state_stays(self) -> None:
        process = Process()
        await process.turns.run(turn("a"))
        assert await process.turns.run(event("fail", 7, operation="bury")) is True
        record = process.record()
        assert (record.last, record.dead, record.state) == (7, 7, '{"log":["a begins","a ends"]}')
        assert await process.turns.run(turn("look")) == "a begins, a ends"

    async def test_nothing_is_noted_for_one_that_was_handled_after_all(self) -> None:
        process = Process()
        process.store(STORED, last=7)
        assert await process.turns.run(event("a", 7, operation="bury")) is False
        assert process.record().dead is None

    async def test_an_agent_that_never_stored_anything_has_no_state_after_it(self) -> None:
        process = Process()
        assert await process.turns.run(event("fail", 7, operation="bury")) is True
        assert process.record().state is None
        assert process.begun == []

    async def test_the_next_event_is_handled(self) -> None:
        process = Process()
        await process.turns.run(event("fail", 7, operation="bury"))
        assert await process.turns.run(event("a", 8)) == "A"
        assert (process.record().last, process.record().dead) == (8, None)


class TestConflicts:
    async def test_a_call_is_not_applied_and_what_was_in_memory_is_thrown_away(self) -> None:
        process = Process()
        await process.turns.run(turn("look"))
        process.store(STORED)
        with pytest.raises(StateConflictError, match="agent/k was not applied"):
            await process.turns.run(turn("a"))
        assert process.record().state == STORED
        assert process.live() is None
        assert await process.turns.run(turn("look")) == "stored"

    async def test_an_event_is_to_be_run_again_on_what_is_stored(self) -> None:
        process = Process()
        await process.turns.run(turn("look"))
        process.store(STORED)
        conflicting = event("a", 1)
        with pytest.raises(SupersededError):
            await process.turns.run(conflicting)
        assert await process.turns.run(conflicting) == "A"
        assert process.record().state == '{"log":["stored","a begins","a ends"]}'

    async def test_an_event_that_the_other_one_had_handled_is_not_run_again(self) -> None:
        bucket = MemoryBucket()
        first, second = Process(bucket=bucket), Process(bucket=bucket)
        gate = first.gate("a")
        late = event("a", 1)
        running = asyncio.create_task(first.turns.run(late))
        await until(lambda: first.begun)
        await second.turns.run(event("a", 1))
        gate.set()
        with pytest.raises(SupersededError):
            await running
        assert await first.turns.run(late) is None
        assert first.record().state == '{"log":["a begins","a ends"]}'

    @pytest.mark.parametrize("written", [True, False])
    async def test_without_an_acknowledgement_a_calls_outcome_is_unknown(self, written: bool) -> None:
        process = Process()
        process.bucket.fail_next, process.bucket.written = BrokerUnavailableError("no answer"), written
        with pytest.raises(WorkerLostError, match="agent/k is unknown"):
            await process.turns.run(turn("a"))
        assert process.live() is None
        assert await process.turns.run(turn("look")) == ("a begins, a ends" if written else "")

    @pytest.mark.parametrize("written", [True, False])
    async def test_without_an_acknowledgement_an_event_is_handled_once_nevertheless(self, written: bool) -> None:
        process = Process()
        process.bucket.fail_next, process.bucket.written = BrokerUnavailableError("no answer"), written
        unsure = event("a", 1)
        with pytest.raises(WriteUnknownError):
            await process.turns.run(unsure)
        await process.turns.run(unsure)
        assert process.record().state == '{"log":["a begins","a ends"]}'

    async def test_an_activation_that_was_dropped_while_a_turn_ran_is_not_written(self) -> None:
        process = Process(concurrency="interleaved")
        gate = process.gate("a")
        running = process.begin("a")
        await until(lambda: process.begun)
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(turn("fail"))
        gate.set()
        with pytest.raises(StateConflictError, match="agent/k was dropped while the turn ran"):
            await running
        assert process.record() is None


class TestFailures:
    @pytest.mark.parametrize("sequence", [None, 1])
    async def test_what_a_failed_turn_did_in_memory_is_thrown_away(self, sequence: int | None) -> None:
        process = Process()
        await process.turns.run(turn("a"))
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(turn("fail", sequence=sequence))
        assert process.live() is None
        assert await process.turns.run(turn("look")) == "a begins, a ends"
        assert process.bucket.writes == ["agent.k"]

    async def test_a_registered_instance_goes_back_to_what_is_stored(self) -> None:
        process = Process()
        instance, agent_id = Recorder(), AgentId("instances", "i")
        await instance.bind_id_and_runtime(agent_id, process.runtime)
        process.catalog.add_instance(instance, agent_id)
        instance.log.append("from the start")
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(turn("fail", agent=agent_id))
        assert await process.turns.run(turn("look", agent=agent_id)) == "from the start"
        await process.turns.run(turn("a", agent=agent_id))
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(turn("fail", agent=agent_id))
        assert await process.turns.run(turn("look", agent=agent_id)) == "from the start, a begins, a ends"
        assert process.live(agent_id) is instance

    async def test_an_event_past_its_time_limit_is_not_noted_and_can_be_run_again(self) -> None:
        process = Process()
        gate = process.gate("slow")
        slow = event("slow", 1, time_limit_s=0.0)
        running = asyncio.create_task(process.turns.run(slow))
        await until(lambda: process.begun)
        process.turns.cancel_overdue()
        with pytest.raises(DeadlineExceededError, match="agent/k took longer than its limit"):
            await running
        assert process.record() is None
        gate.set()
        assert await process.turns.run(slow) == "SLOW"
        assert process.record().last == 1


class TestInnerTurns:
    async def test_they_share_what_is_in_memory_and_are_stored_with_the_outer_one(self) -> None:
        process = Process()
        process.calls["outer"] = lambda: called(process.turns.run(turn("inner", chain=("outer", "elsewhere"))))
        writes: list[int] = []
        process.bucket.before_write = lambda: writes.append(len(process.built[0].log))
        assert await process.turns.run(event("outer", 1)) == "OUTER"
        assert process.record().state == '{"log":["outer begins","inner begins","inner ends","outer ends"]}'
        assert len(process.built) == 1
        assert writes == [4]

    async def test_they_are_thrown_away_with_the_outer_one(self) -> None:
        async def call_and_fail() -> None:
            await called(process.turns.run(turn("inner", chain=("outer",))))
            raise ValueError("boom")

        process = Process()
        process.calls["outer"] = call_and_fail
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(turn("outer"))
        assert await process.turns.run(turn("look")) == ""
        assert process.bucket.writes == []

    async def test_one_that_fails_leaves_the_outer_one_its_state(self) -> None:
        async def call() -> None:
            with pytest.raises(ValueError, match="boom"):
                await called(process.turns.run(turn("fail", chain=("outer",))))

        process = Process()
        process.calls["outer"] = call
        assert await process.turns.run(turn("outer")) == "OUTER"
        assert process.record().state == '{"log":["outer begins","fail begins","outer ends"]}'

    @pytest.mark.parametrize("sequence", [None, 1])
    async def test_one_that_outlives_the_outer_one_is_stored_before_it_is_answered(self, sequence: int | None) -> None:
        process, inner = Process(), []
        gate = process.gate("inner")

        async def leave_a_task() -> None:
            inner.append(process.begin("inner", chain=("outer",)))
            await until(lambda: "inner" in process.begun)

        process.calls["outer"] = leave_a_task
        assert await process.turns.run(turn("outer", sequence=sequence)) == "OUTER"
        gate.set()
        assert await inner[0] == "INNER"
        log = ["outer begins", "inner begins", "outer ends", "inner ends"]
        assert json.loads(process.record().state) == {"log": log}
        assert process.record().last == (sequence or 0)
        assert process.turns.mailboxes == 0

    async def test_one_that_starts_after_the_outer_one_failed_starts_from_what_is_stored(self) -> None:
        process, inner = Process(max_turns=1), []
        process.store(STORED)

        async def leave_a_task_and_fail() -> None:
            inner.append(process.begin("inner", chain=("outer",)))
            # It has a place, and no slot.
            await rounds()
            raise ValueError("boom")

        process.calls["outer"] = leave_a_task_and_fail
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(turn("outer"))
        assert await inner[0] == "INNER"
        assert process.record().state == '{"log":["stored","inner begins","inner ends"]}'

    async def test_one_that_fails_after_the_outer_one_ended_leaves_nothing_behind(self) -> None:
        process, inner = Process(), []
        gate = asyncio.Event()

        async def wait_and_fail() -> None:
            await gate.wait()
            raise ValueError("boom")

        async def leave_a_task() -> None:
            inner.append(process.begin("inner", chain=("outer",)))
            await until(lambda: "inner" in process.begun)

        process.calls |= {"outer": leave_a_task, "inner": wait_and_fail}
        assert await process.turns.run(turn("outer")) == "OUTER"
        gate.set()
        with pytest.raises(ValueError, match="boom"):
            await inner[0]
        assert process.live() is None
        assert await process.turns.run(turn("look")) == "outer begins, inner begins, outer ends"


class TestEventsThatRest:
    async def test_later_events_wait_and_calls_go_on(self) -> None:
        process = Process()
        failing = event("fail", 1)
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(failing)
        assert failing.resting
        assert not failing.started
        later = process.begin_event("later", 2)
        assert await process.turns.run(turn("call")) == "CALL"
        await rounds()
        assert not later.done()
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(failing)
        await rounds()
        assert not later.done()
        process.turns.abandon(failing)
        assert await later == "LATER"
        assert process.record().state == '{"log":["call begins","call ends","later begins","later ends"]}'
        assert process.turns.mailboxes == 0

    async def test_one_that_works_in_the_end_lets_the_next_one_go(self) -> None:
        process = Process()
        process.bucket.fail_next = BrokerUnavailableError("no answer")
        first = event("a", 1)
        with pytest.raises(WriteUnknownError):
            await process.turns.run(first)
        second = process.begin_event("b", 2)
        await rounds()
        assert await process.turns.run(first) == "A"
        assert await second == "B"
        process.turns.abandon(first)
        assert process.record().state == '{"log":["a begins","a ends","b begins","b ends"]}'
        assert process.turns.mailboxes == 0

    async def test_one_that_is_run_again_waits_for_the_call_that_runs(self) -> None:
        process = Process()
        failing = event("fail", 1)
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(failing)
        gate = process.gate("call")
        call = process.begin("call")
        await until(lambda: "call" in process.begun)
        again = asyncio.create_task(process.turns.run(failing))
        await rounds()
        assert process.begun.count("fail") == 1
        gate.set()
        assert await call == "CALL"
        with pytest.raises(ValueError, match="boom"):
            await again
        process.turns.abandon(failing)
        assert process.turns.mailboxes == 0

    async def test_other_agents_do_not_wait(self) -> None:
        process = Process()
        failing = event("fail", 1)
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(failing)
        assert await process.turns.run(event("a", 2, agent=AgentId("agent", "other"))) == "A"
        process.turns.abandon(failing)

    async def test_events_of_agents_that_overlap_are_handled_one_at_a_time_and_calls_go_on(self) -> None:
        process = Process(concurrency="interleaved")
        gate = process.gate("first")
        events = [process.begin_event(message, number) for number, message in enumerate(["first", "second"], start=1)]
        await until(lambda: process.begun)
        assert await process.turns.run(turn("call")) == "CALL"
        assert process.begun == ["first", "call"]
        gate.set()
        assert await asyncio.gather(*events) == ["FIRST", "SECOND"]
        assert process.record().last == 2

    async def test_the_rest_ends_after_its_time(self) -> None:
        process = Process()
        failing = event("fail", 1)
        with pytest.raises(ValueError, match="boom"):
            await process.turns.run(failing)
        began = time.monotonic()
        await process.turns.rest(failing, 0.02)
        assert time.monotonic() - began >= 0.015
        process.turns.abandon(failing)
