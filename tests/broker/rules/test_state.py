"""Agents that persist: what is stored of them, when, and what becomes of it when others write or fail."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, Ledger, comes_true, ledger_of, ledger_reaches, serve
from broker.rules.stored import Stored
from broker.scripted import until
from hivewire import (
    AgentId,
    MessageContext,
    NatsAgentRuntime,
    SerializationError,
    StateConflictError,
    TopicId,
    TypeSubscription,
    UnsupportedFormatError,
    try_get_known_serializers_for_type,
)
from hivewire.exceptions import MessageTooLargeError

AGENT = AgentId("ledger", "k")
TOPIC = TopicId(TOPIC_TYPE, "k")


async def publish(runtime: NatsAgentRuntime, *messages: Any) -> None:
    for message in messages:
        await runtime.publish_message(message, TOPIC)


# What is stored


async def test_the_state_is_stored_before_the_answer_comes_and_loaded_by_the_next_owner(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    first, caller = await serve(new_runtime()), await new_runtime().connect()
    for number in range(20):
        assert await caller.send_message(number, AGENT) == list(range(number + 1))
        record = await stored.state(AGENT)
        assert record is not None
        assert json.loads(record.state or "") == {"seen": list(range(number + 1))}
    await publish(caller, "event")
    await ledger_reaches(caller, 21)
    await first.stop()
    await serve(new_runtime())
    assert await ledger_of(caller) == [*range(20), "event"]


async def test_the_state_of_an_event_is_stored_with_its_sequence(new_runtime: NewRuntime, stored: Stored) -> None:
    runtime = await serve(new_runtime())
    await publish(runtime, "one", "two")
    await ledger_reaches(runtime, 2)
    record = await stored.state(AGENT)
    assert record is not None
    assert record.last == [message.seq for message in await stored.events()][-1]


async def test_unchanged_state_is_not_written_after_a_direct_message(new_runtime: NewRuntime, stored: Stored) -> None:
    runtime = await serve(new_runtime())
    assert await ledger_of(runtime) == []
    assert await stored.revision(AGENT) == 0
    await runtime.send_message("entry", AGENT)
    revision = await stored.revision(AGENT)
    assert revision
    for _ in range(5):
        await ledger_of(runtime)
    assert await stored.revision(AGENT) == revision


@dataclass
class Step:
    name: str
    weight: float = 1.0


class Plan(BaseModel):
    title: str
    steps: list[int] = []


class Rich(Ledger):
    """Its state holds objects."""

    def __init__(self, handle: Any = None) -> None:
        super().__init__(handle)
        self.state: Any = None

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if message == "fill":
            self.state = {
                "step": Step("a", 0.5),
                "deep": [{"plan": Plan(title="p", steps=[1, 2])}, [Step("b")], None, True, "text", 1.5],
                "$type": ["not", "a", "type"],
                "$value": {"$value": 1},
            }
        return repr(self.state)

    async def save_state(self) -> Mapping[str, Any]:
        return {"all": self.state}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.state = state["all"]


async def test_objects_that_the_serializers_know_come_back_as_their_classes(new_runtime: NewRuntime) -> None:
    def with_serializers() -> NatsAgentRuntime:
        runtime = new_runtime()
        for cls in (Step, Plan):
            runtime.add_message_serializer(try_get_known_serializers_for_type(cls))
        return runtime

    first, caller = await serve(with_serializers(), cls=Rich), await with_serializers().connect()
    filled = await caller.send_message("fill", AGENT)
    saved = await caller.agent_save_state(AGENT)
    assert saved["all"]["step"] == Step("a", 0.5)
    assert saved["all"]["deep"][0]["plan"] == Plan(title="p", steps=[1, 2])
    await first.stop()
    await serve(with_serializers(), cls=Rich)
    assert await caller.send_message("look", AGENT) == filled
    await caller.agent_load_state(AGENT, {"all": [Step("c"), {"x": Plan(title="q")}]})
    assert await caller.send_message("look", AGENT) == repr([Step("c"), {"x": Plan(title="q")}])


# Handled once


@pytest.mark.parametrize("how", ["set back", "deleted"])
async def test_a_handled_event_that_is_read_again_is_not_handled_again(
    new_runtime: NewRuntime, stored: Stored, how: str
) -> None:
    handled: list[Any] = []

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    first, caller = await serve(new_runtime(), note), await new_runtime().connect()
    before = await stored.position(AGENT)
    await publish(caller, *range(50))
    await ledger_reaches(caller, 50)
    await caller.send_message("direct", AGENT)
    await first.stop()
    if how == "set back":
        released = await stored.position(AGENT)
        await stored.write_position(AGENT, replace(released, floor=before.floor, finished=()))
    else:
        await stored.delete_position(AGENT)
    await serve(new_runtime(), note)
    await publish(caller, "new")
    assert await ledger_reaches(caller, 52) == [*range(50), "direct", "new"]
    assert [each for each in handled if each != "look"] == [*range(50), "direct", "new"]


async def test_an_owner_whose_position_is_deleted_under_it_goes_on_and_handles_nothing_twice(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    handled: list[Any] = []

    async def note(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        handled.append(message)

    runtime = await serve(new_runtime(), note)
    await publish(runtime, *range(20))
    await ledger_reaches(runtime, 20)
    await stored.delete_position(AGENT)
    await publish(runtime, *range(20, 40))
    await ledger_reaches(runtime, 40)

    async def written_again() -> bool:
        try:
            return (await stored.position(AGENT)).owner is not None
        except AssertionError:
            return False

    await comes_true(written_again)
    await publish(runtime, *range(40, 60))
    assert await ledger_reaches(runtime, 60) == list(range(60))
    assert [each for each in handled if each != "look"] == list(range(60))


# Conflicts


async def test_after_a_conflict_an_event_is_handled_again_from_the_stored_state(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    attempts = 0

    async def interrupted(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        nonlocal attempts
        if message == "event":
            attempts += 1
            if attempts == 1:
                await stored.write_state(AGENT, {"seen": ["another's"]})

    runtime = await serve(new_runtime(), interrupted)
    await runtime.send_message("before", AGENT)
    await publish(runtime, "event", "after")
    assert await ledger_reaches(runtime, 3) == ["another's", "event", "after"]
    assert attempts == 2
    assert await stored.dead_letters() == []


async def test_after_a_conflict_a_direct_message_ends_with_an_error_and_is_not_handled_again(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    attempts = 0

    async def interrupted(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        nonlocal attempts
        if message == "call":
            attempts += 1
            await stored.write_state(AGENT, {"seen": ["another's"]})

    runtime = await serve(new_runtime(), interrupted)
    await runtime.send_message("before", AGENT)
    with pytest.raises(StateConflictError, match="ledger/k"):
        await runtime.send_message("call", AGENT)
    assert await ledger_of(runtime) == ["another's"]
    assert attempts == 1


class Interleaved(Ledger):
    concurrency = "interleaved"


async def test_an_interleaved_agent_that_persists_does_not_conflict_with_itself(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    async def pause(agent: Ledger, message: Any, ctx: MessageContext) -> None:
        await asyncio.sleep(0.01)

    runtime = await serve(new_runtime(), pause, cls=Interleaved)
    calls = asyncio.gather(*(runtime.send_message(number, AGENT) for number in range(50)))
    await publish(runtime, *range(50, 70))
    await calls
    seen = await ledger_reaches(runtime, 70)
    assert sorted(seen) == list(range(70))
    record = await stored.state(AGENT)
    assert record is not None
    assert sorted(json.loads(record.state or "")["seen"]) == list(range(70))


# State that can't be stored, or not be read


class Swelling(Ledger):
    """Stores what it is told to."""

    def __init__(self, handle: Any = None) -> None:
        super().__init__(handle)
        self.extra: Any = None

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        if message == "swell":
            self.extra = "x" * 3_000_000
        elif message == "set":
            self.extra = [{"inner": {1, 2}}]
        elif message == "loop":
            self.extra = []
            self.extra.append(self.extra)
        return await super().on_message_impl(message, ctx)

    async def save_state(self) -> Mapping[str, Any]:
        return {"seen": list(self.seen), "extra": self.extra}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen, self.extra = list(state["seen"]), state["extra"]


@pytest.mark.parametrize(
    ("message", "error", "says"),
    [
        ("swell", MessageTooLargeError, "3000"),
        ("set", SerializationError, r"state['extra'][0]['inner']"),
        ("loop", SerializationError, "contains itself"),
    ],
)
async def test_state_that_cannot_be_stored_is_an_error_that_names_the_agent_and_leaves_the_stored_state(
    new_runtime: NewRuntime, stored: Stored, message: str, error: type[Exception], says: str
) -> None:
    runtime = await serve(new_runtime(), cls=Swelling)
    await runtime.send_message("before", AGENT)
    before = await stored.state(AGENT)
    with pytest.raises(error, match="ledger/k") as caught:
        await runtime.send_message(message, AGENT)
    assert says in str(caught.value)
    assert await stored.state(AGENT) == before
    await publish(runtime, message, "after")
    assert await ledger_reaches(runtime, 2) == ["before", "after"]
    (letter,) = await stored.dead_letters()
    assert letter.agent == AGENT
    assert error.__name__ in letter.error
    assert "ledger/k" in letter.message
    assert says in letter.message


class NewVersion(Ledger):
    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["entries"])


async def test_state_that_a_class_cannot_load_stays_and_the_dead_letter_names_the_agent(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    old, caller = await serve(new_runtime()), await new_runtime().connect()
    await caller.send_message("before", AGENT)
    await old.stop()
    new = await serve(new_runtime(), cls=NewVersion)
    with pytest.raises(KeyError, match="entries"):
        await caller.send_message("call", AGENT)
    await publish(caller, "event")
    (letter,) = await comes_true(stored.dead_letters)
    assert letter.agent == AGENT
    assert letter.error == "KeyError"
    assert "load_state" in letter.traceback
    record = await stored.state(AGENT)
    assert record is not None
    assert json.loads(record.state or "") == {"seen": ["before"]}
    await new.stop()
    await serve(new_runtime())
    await publish(caller, "later")
    assert await ledger_reaches(caller, 2) == ["before", "later"]


async def test_state_of_a_newer_format_is_left_alone_and_its_events_wait(
    new_runtime: NewRuntime, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hivewire.nats.event_turns._LAST_PAUSE_S", 0.2)
    runtime = await serve(new_runtime())
    other = AgentId("ledger", "other")
    await runtime.send_message("before", AGENT)
    known = await stored.raw_state(AGENT)
    assert known is not None
    newer = json.dumps({**json.loads(known), "format": 99, "state": {"unknown": "shape"}}).encode()
    await runtime.stop()
    runtime = await serve(new_runtime())
    await stored.write_raw_state(AGENT, newer)
    revision = await stored.revision(AGENT)
    with pytest.raises(UnsupportedFormatError, match="ledger/k"):
        await runtime.send_message("call", AGENT)
    await publish(runtime, "event")
    await runtime.publish_message("event", TopicId(TOPIC_TYPE, "other"))
    assert await ledger_reaches(runtime, 1, "other") == ["event"]
    assert await runtime.send_message("call", other) == ["event", "call"]
    assert await stored.dead_letters() == []
    assert await stored.revision(AGENT) == revision
    await stored.write_raw_state(AGENT, known)
    assert await ledger_reaches(runtime, 2) == ["before", "event"]


# Passivation


async def test_an_idle_agent_is_closed_and_comes_back_with_its_state(new_runtime: NewRuntime) -> None:
    made: list[Ledger] = []

    class Counted(Ledger):
        def __init__(self, handle: Any = None) -> None:
            super().__init__(handle)
            made.append(self)

    runtime = await serve(new_runtime(passivate_after=0.3), cls=Counted)
    await runtime.send_message("call", AGENT)
    await publish(runtime, "event")
    await ledger_reaches(runtime, 2)
    first = made[0]
    await until(lambda: first.closed)
    assert await ledger_of(runtime) == ["call", "event"]
    assert first.closed == 1
    assert made[-1] is not first


async def test_above_a_number_of_agents_the_least_used_ones_are_closed(new_runtime: NewRuntime) -> None:
    runtime = await serve(new_runtime(max_agents=10))
    for number in range(50):
        await runtime.send_message(number, AgentId("ledger", f"k{number}"))
    await until(lambda: len(runtime._catalog.instances("ledger")) <= 10)
    assert AgentId("ledger", "k49") in runtime._catalog.instances("ledger")
    for number in range(50):
        assert await ledger_of(runtime, f"k{number}") == [number]


async def test_an_agent_that_is_used_while_others_are_closed_is_not_closed_under_its_handler(
    new_runtime: NewRuntime,
) -> None:
    entered, closing = asyncio.Event(), asyncio.Event()
    let_go, close_on = asyncio.Event(), asyncio.Event()
    closed_while_busy: list[str] = []

    class Busy(Ledger):
        save_state = Ledger.__mro__[1].save_state  # type: ignore[assignment]  # it keeps nothing
        busy = 0

        async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
            self.busy += 1
            if message == "stay":
                entered.set()
                await let_go.wait()
            self.busy -= 1

        async def close(self) -> None:
            if self.busy:
                closed_while_busy.append(self.id.key)
            if self.id.key == "a":
                closing.set()
                await close_on.wait()

    runtime = await serve(new_runtime(passivate_after=1.0), cls=Busy)
    await asyncio.gather(*(runtime.send_message("go", AgentId("ledger", key)) for key in "ab"))
    async with asyncio.timeout(10):
        await closing.wait()
    staying = asyncio.create_task(runtime.send_message("stay", AgentId("ledger", "b")))
    async with asyncio.timeout(10):
        await entered.wait()
    close_on.set()
    await until(lambda: AgentId("ledger", "a") not in runtime._catalog.instances("ledger"))
    await until(lambda: not runtime._serving.turns._leaving)
    let_go.set()
    await staying
    assert closed_while_busy == []


# Saving and loading from outside


async def test_states_of_agents_elsewhere_are_saved_loaded_and_described(
    new_runtime: NewRuntime, stored: Stored
) -> None:
    served, other = await serve(new_runtime()), await new_runtime().connect()
    await other.send_message("entry", AGENT)
    saved = await other.agent_save_state(AGENT)
    assert saved == {"seen": ["entry"]}
    assert (await other.agent_metadata(AGENT))["description"] == "a ledger"
    twin = AgentId("ledger", "twin")
    await other.agent_load_state(twin, saved)
    record = await stored.state(twin)
    assert record is not None
    assert json.loads(record.state or "") == saved
    await served.stop()
    again = await serve(new_runtime())
    assert await ledger_of(other, "twin") == ["entry"]
    await ledger_of(other)
    whole = await again.save_state()
    assert whole == {str(AGENT): saved, str(twin): saved}
    await other.send_message("more", AGENT)
    await again.load_state(whole)
    assert await ledger_of(other) == ["entry"]
    record = await stored.state(AGENT)
    assert record is not None
    assert json.loads(record.state or "") == saved


async def test_a_registered_instance_persists_and_gets_its_state_back(new_runtime: NewRuntime) -> None:
    first = new_runtime()
    agent_id = AgentId("single", "k")
    await Ledger().register_instance(first, agent_id)
    await first.add_subscription(TypeSubscription(TOPIC_TYPE, "single"))
    await first.start()
    caller = await new_runtime().connect()
    await caller.send_message("call", agent_id)
    await publish(caller, "event")
    await ledger_reaches(caller, 2, type="single")
    await first.stop()
    second = new_runtime()
    await Ledger().register_instance(second, agent_id)
    await second.start()
    assert await ledger_of(caller, type="single") == ["call", "event"]
