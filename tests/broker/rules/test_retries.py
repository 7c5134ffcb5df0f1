"""Events whose handlers fail: when they are handled again, what goes on meanwhile, and where they end."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, Ledger, comes_true, ledger_of, ledger_reaches, serve
from broker.rules.stored import Stored
from broker.scripted import Scripted, agent_at, until
from broker.scripted import serve as serve_scripted
from hivewire import AgentId, BaseAgent, MessageContext, NatsAgentRuntime, RetryPolicy, TopicId, TypeSubscription
from hivewire.nats.tokens import slot

AGENT = AgentId("ledger", "k")
TOPIC = TopicId(TOPIC_TYPE, "k")


def policy(cls: type[Ledger], chosen: RetryPolicy) -> type[Ledger]:
    return type(cls.__name__, (cls,), {"retry_policy": chosen})


class Failing:
    """A handler that fails on some messages, the first times or always, and notes when."""

    def __init__(
        self, *messages: Any, times: int = 1_000_000, error: Callable[[], BaseException] | None = None
    ) -> None:
        self._messages = messages
        self._times = times
        self._error = error or (lambda: RuntimeError("boom"))
        self.tried: defaultdict[Any, list[float]] = defaultdict(list)

    async def __call__(self, agent: Any, message: Any, ctx: MessageContext) -> None:
        self.tried[message].append(time.monotonic())
        if message in self._messages and len(self.tried[message]) <= self._times:
            raise self._error()


class Plain(Ledger):
    """It keeps nothing, so its turns overlap."""

    save_state = BaseAgent.save_state


async def test_an_event_is_handled_again_after_the_delays_of_its_policy(new_runtime: NewRuntime) -> None:
    chosen = RetryPolicy(attempts=5, first_delay_s=0.2, factor=2.0, max_delay_s=0.5, jitter=0.2)
    failing = Failing("event", times=4)
    runtime = await serve(new_runtime(), failing, cls=policy(Ledger, chosen))
    await runtime.publish_message("event", TOPIC)
    assert await ledger_reaches(runtime, 1) == ["event"]
    tried = failing.tried["event"]
    gaps = [later - earlier for earlier, later in pairwise(tried)]
    for gap, longest in zip(gaps, [0.2, 0.4, 0.5, 0.5], strict=True):
        # What a busy machine adds is no fault of the schedule.
        assert longest * 0.8 <= gap < longest + 1.0


async def test_an_event_that_fails_each_time_ends_in_the_dead_letters_with_its_story(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    failing = Failing("event")
    runtime = await serve(new_runtime(instance_id="here"), failing)
    await runtime.publish_message("event", TOPIC, sender=AgentId("someone", "s"), message_id="m-1")
    (letter,) = await comes_true(stored.dead_letters)
    assert len(failing.tried["event"]) == 3
    assert (letter.agent, letter.attempts, letter.instance) == (AGENT, 3, "here")
    assert (letter.error, letter.message) == ("RuntimeError", "boom")
    assert "in __call__" in letter.traceback
    (original,) = await stored.events()
    assert letter.sequence == original.seq
    assert letter.subject == original.subject
    assert letter.payload == original.data
    kept = {name: value for name, value in (original.headers or {}).items() if not name.startswith("Nats-")}
    assert dict(letter.headers) == kept
    assert letter.headers["ce-id"] == "m-1"
    assert abs(letter.time - time.time()) < 60
    assert await ledger_of(runtime) == []


async def test_an_error_that_the_policy_calls_final_is_not_retried(new_runtime: NewRuntime, stored: Stored) -> None:
    chosen = RetryPolicy(attempts=5, first_delay_s=30.0, final=(LookupError,))
    failing = Failing("event", error=lambda: KeyError("no"))
    runtime = await serve(new_runtime(), failing, cls=policy(Ledger, chosen))
    await runtime.publish_message("event", TOPIC)
    (letter,) = await comes_true(stored.dead_letters)
    assert (letter.error, letter.attempts) == ("KeyError", 1)
    assert len(failing.tried["event"]) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError, TimeoutError, ExceptionGroup, GeneratorExit])
async def test_whatever_a_handler_raises_is_retried(
    new_runtime: NewRuntime, stored: Stored, error: type[BaseException]
) -> None:
    def raised() -> BaseException:
        return error("several", [ValueError()]) if error is ExceptionGroup else error()  # type: ignore[call-arg]

    failing = Failing("event", times=2, error=raised)
    runtime = await serve(new_runtime(), failing)
    await runtime.publish_message("event", TOPIC)
    assert await ledger_reaches(runtime, 1) == ["event"]
    assert len(failing.tried["event"]) == 3


async def test_a_failing_key_holds_up_no_other_key_and_its_later_events_wait_in_order(new_runtime: NewRuntime) -> None:
    failing = Failing("first", times=2)
    chosen = RetryPolicy(attempts=3, first_delay_s=1.5, factor=1.0, jitter=0.0)
    runtime = await serve(new_runtime(), failing, cls=policy(Ledger, chosen))
    others = [f"o{number}" for number in range(400) if slot(f"o{number}") % 16 == slot("k") % 16]
    for message in ("first", "second", "third"):
        await runtime.publish_message(message, TOPIC)
    for key in others:
        await runtime.publish_message(key, TopicId(TOPIC_TYPE, key))
    for key in others:
        assert await ledger_reaches(runtime, 1, key) == [key]
    # Direct messages have no order with events: they go on meanwhile.
    assert await runtime.send_message("call", AGENT) == ["call"]
    assert len(failing.tried["first"]) == 1
    assert failing.tried["second"] == []
    assert await ledger_reaches(runtime, 4) == ["call", "first", "second", "third"]


async def test_later_events_of_an_agent_that_keeps_nothing_overtake_the_failing_one(new_runtime: NewRuntime) -> None:
    failing = Failing("first", times=1)
    chosen = RetryPolicy(attempts=3, first_delay_s=1.5, jitter=0.0)
    runtime = await serve(new_runtime(), failing, cls=policy(Plain, chosen))
    for message in ("first", "second", "third"):
        await runtime.publish_message(message, TOPIC)
    assert await ledger_reaches(runtime, 3) == ["second", "third", "first"]


def owns(runtime: NatsAgentRuntime, agent: AgentId) -> bool:
    return runtime._serving.owns(agent.type, slot(agent.key))


@pytest.mark.parametrize("cls", [Ledger, Plain])
async def test_an_event_that_waits_for_its_next_attempt_moves_with_its_shard(
    new_runtime: NewRuntime, stored: Stored, cls: type[Ledger]
) -> None:
    chosen = RetryPolicy(attempts=3, first_delay_s=30.0, jitter=0.0)
    failing, healthy = Failing("first"), Failing()
    old, caller = await serve(new_runtime(), failing, cls=policy(cls, chosen)), await new_runtime().connect()
    for message in ("first", "second"):
        await caller.publish_message(message, TOPIC)
    await until(lambda: failing.tried["first"])
    new = new_runtime()
    begun = time.monotonic()
    leaving = asyncio.create_task(old.stop())
    await serve(new, healthy, cls=policy(cls, chosen))
    # One that persists nothing may have handled the second one before it left.
    persists = cls is Ledger
    await until(lambda: healthy.tried["first"])
    await leaving
    if persists:
        assert await ledger_reaches(caller, 2) == ["first", "second"]
    assert time.monotonic() - begun < 20
    assert len(failing.tried["first"]) == 1
    assert len(failing.tried["second"]) + len(healthy.tried["second"]) == 1
    assert await stored.dead_letters() == []


async def test_what_is_given_up_twice_has_one_dead_letter(new_runtime: NewRuntime, stored: Stored) -> None:
    """The process ends between giving it up in the state and storing its dead letter, in which the next one reads it
    again."""
    failing = Failing("event")
    first, caller = await serve(new_runtime(), failing), await new_runtime().connect()
    before = await stored.position(AGENT)
    await caller.publish_message("event", TOPIC)
    (letter,) = await comes_true(stored.dead_letters)
    record = await stored.state(AGENT)
    assert record is not None
    assert (record.last, record.dead) == (letter.sequence, letter.sequence)
    await caller.send_message("call", AGENT)
    record = await stored.state(AGENT)
    assert record is not None
    assert record.dead == letter.sequence
    await first.stop()
    # As if it had ended before the position moved.
    await stored.write_position(AGENT, replace(before, owner="somebody who died"))
    await serve(new_runtime(), failing)
    await caller.publish_message("good", TOPIC)
    assert await ledger_reaches(caller, 2) == ["call", "good"]
    assert await stored.dead_letters() == [letter]
    assert len(failing.tried["event"]) == 3


async def test_a_dead_letter_that_was_decided_and_not_stored_is_stored_by_the_next_owner(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    handled: list[Any] = []

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    first, caller = await serve(new_runtime(), note), await new_runtime().connect()
    before = await stored.position(AGENT)
    await caller.publish_message("event", TOPIC)
    await ledger_reaches(caller, 1)
    record = await stored.state(AGENT)
    assert record is not None
    await first.stop()
    await stored.write_state(AGENT, {"seen": []}, dead=record.last)
    await stored.write_position(AGENT, before)
    await serve(new_runtime(), note)
    (letter,) = await comes_true(stored.dead_letters)
    assert (letter.agent, letter.sequence) == (AGENT, record.last)
    assert "WorkerLostError" in letter.error
    assert await ledger_of(caller) == []
    assert [each for each in handled if each != "look"] == ["event"]


async def test_an_event_whose_session_seemed_to_have_lapsed_for_a_moment_is_handled_all_the_same(
    new_runtime: NewRuntime,
) -> None:
    """A renewal under way may come back late, and the session holds after all."""
    failing = Failing("event", times=1)
    chosen = RetryPolicy(attempts=3, first_delay_s=0.5, jitter=0.0)
    runtime = await serve(new_runtime(), failing, cls=policy(Ledger, chosen))
    turns = runtime._serving.turns
    may_start = turns._may_start
    await runtime.publish_message("event", TOPIC)
    await until(lambda: failing.tried["event"])
    refused = 0

    def not_now() -> bool:
        nonlocal refused
        refused += 1
        return False

    turns._may_start = not_now
    await until(lambda: refused)
    turns._may_start = may_start
    assert await ledger_reaches(runtime, 1) == ["event"]


@pytest.mark.parametrize("cls", [Ledger, Plain])
async def test_an_event_whose_turn_never_ends_is_cancelled_retried_and_given_up(
    new_runtime: NewRuntime, stored: Stored, cls: type[Ledger]
) -> None:
    cancelled = 0

    async def forever(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        nonlocal cancelled
        if message == "event":
            try:
                await asyncio.Event().wait()
            finally:
                cancelled += 1

    limited = type("Limited", (cls,), {"event_timeout": 0.3})
    runtime = await serve(new_runtime(), forever, cls=limited)
    await runtime.publish_message("event", TOPIC)
    await runtime.publish_message("after", TOPIC)
    (letter,) = await comes_true(stored.dead_letters)
    assert cancelled == letter.attempts == 3
    assert "DeadlineExceededError" in letter.error
    assert await ledger_reaches(runtime, 1) == ["after"]


async def test_a_direct_message_whose_turn_never_ends_frees_its_agent_after_its_deadline(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hivewire.model.grace.GRACE_S", 1.0)

    async def stubborn(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        if message == "call":
            # It does not care for the token.
            await asyncio.shield(asyncio.sleep(60))

    runtime = await serve(new_runtime(), stubborn)
    with pytest.raises(TimeoutError):
        await runtime.send_message("call", AGENT, timeout=0.5)
    assert await runtime.send_message("after", AGENT, timeout=10.0) == ["after"]


async def test_two_types_that_handle_one_event_fail_on_their_own(new_runtime: NewRuntime, stored: Stored) -> None:
    failing = Failing("event")
    runtime = new_runtime()
    await Ledger.register(runtime, "bad", lambda: Ledger(failing))
    await runtime.add_subscription(TypeSubscription(TOPIC_TYPE, "bad"))
    await serve_scripted(runtime, "good")
    await runtime.start()
    await runtime.publish_message("event", TOPIC)
    await until(lambda: len(failing.tried["event"]) == 3)
    (letter,) = await comes_true(stored.dead_letters)
    assert letter.agent == AgentId("bad", "k")
    good: Scripted = await agent_at(runtime, "good")
    assert good.seen == ["event"]
