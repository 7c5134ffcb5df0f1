"""Schedules whose processes, brokers and records go wrong."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import Counter, Number, Scripted, serve, until
from broker.stored import api, dead_letters
from hivewire import (
    AgentId,
    BrokerUnavailableError,
    MessageContext,
    NatsAgentRuntime,
    RetryPolicy,
    ScheduleNotFoundError,
    TopicId,
)
from hivewire.nats import forwarder
from hivewire.nats.broker import Broker
from hivewire.nats.dead_letter_store import DeadLetterFilter, DeadLetterStore
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.forwarder import Forwarder
from hivewire.nats.header_text import quoted
from hivewire.nats.schedule_records import RULE_HEADER
from hivewire.nats.subjects import Subjects

AGENT = AgentId("agent", "k")
LONG = AgentId("agent", "k" * 200)


class Handled:
    """What agents of this test handled: the message, and when it was due."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.contexts: list[MessageContext] = []

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> None:
        self.messages.append(message)
        self.contexts.append(ctx)

    @property
    def due(self) -> list[datetime]:
        return [datetime.fromisoformat(ctx.message_id.rpartition("@")[2]) for ctx in self.contexts]


async def at_work(runtime: NatsAgentRuntime) -> Handled:
    handled = Handled()
    await serve(runtime, "agent", handled)
    await runtime.start()
    return handled


async def test_a_schedule_is_found_and_fires_after_the_process_that_made_it_has_ended(new_runtime: NewRuntime) -> None:
    first = new_runtime()
    await at_work(first)
    made = await first.schedule_message(Number(1), LONG, after=1.5, id="soon")
    await first.stop()

    second = new_runtime()
    handled = await at_work(second)
    assert (await second.get_schedule("soon")).schedule == made.schedule
    await until(lambda: handled.messages)
    assert handled.messages == [Number(1)]
    assert handled.due == [made.schedule.next_at]


async def test_what_was_missed_while_the_broker_was_down_is_one_firing_and_the_phase_stays(
    server: EmbeddedServer, new_runtime: NewRuntime
) -> None:
    runtime = new_runtime(server.url)
    handled = await at_work(runtime)
    every = await runtime.schedule_message(Number(1), AGENT, every=1)
    await until(lambda: len(handled.messages) >= 2)
    once = await runtime.schedule_message(Number(2), AGENT, after=1)
    server.kill()
    await asyncio.sleep(4)
    before = len(handled.messages)
    await server.restart()
    await until(lambda: len(handled.messages) >= before + 4)
    await every.cancel()

    assert handled.messages.count(Number(2)) == 1
    due = [due for due, message in zip(handled.due, handled.messages, strict=True) if message == Number(1)]
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(due)]
    assert all(gap == int(gap) >= 1 for gap in gaps), gaps
    assert len([gap for gap in gaps if gap >= 3]) <= 2, f"{gaps}: the missed ones are skipped at once"
    assert max(gaps) >= 3
    with pytest.raises(ScheduleNotFoundError):
        await runtime.get_schedule(once.id)


async def test_while_nobody_serves_one_firing_waits_and_can_be_found_and_cancelled(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    sender = await new_runtime().connect()
    dues = Subjects(namespace).dues
    await sender.schedule_message(Number(1), AGENT, every=1, id="kept")
    await sender.schedule_message(Number(2), AGENT, every=1, id="dropped")
    await sender.schedule_message(Number(3), AGENT, after=0, id="once")
    await sender.schedule_message(Number(4), AGENT, after=0, id="other")
    await sender.schedule_message(Number(5), AGENT, after=0, id="replaced")
    async with asyncio.timeout(15):
        while await messages(client, sender, dues) < 5:
            await asyncio.sleep(0.05)
    await asyncio.sleep(2.5)
    assert await messages(client, sender, dues) == 5
    assert {each.id for each in await sender.list_schedules()} == {"kept", "dropped", "once", "other", "replaced"}
    kept = (await sender.get_schedule("kept")).schedule

    assert await (await sender.get_schedule("dropped")).cancel()
    assert await (await sender.get_schedule("other")).cancel()
    assert (await sender.schedule_message(Number(1), AGENT, every=1, id="kept")).schedule == kept
    await sender.schedule_message(Number(6), AGENT, after=0, id="replaced")
    handled = await at_work(new_runtime())
    await until(lambda: len(handled.messages) >= 5)

    assert Number(2) not in handled.messages
    assert sorted(each.value for each in handled.messages if each.value > 1) == [3, 6]
    due = [due for due, message in zip(handled.due, handled.messages, strict=True) if message == Number(1)]
    assert due[0] == kept.next_at
    assert (due[1] - due[0]).total_seconds() in (3, 4, 5, 6), "what it missed is skipped, and its phase stays"
    await (await sender.get_schedule("kept")).cancel()


async def test_a_process_that_dies_between_publishing_and_acknowledging_repeats_nothing(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_next = Forwarder._set_next
    failures = iter(range(1))

    async def failing(self: Forwarder, *arguments: Any) -> None:
        if next(failures, None) is not None:
            raise BrokerUnavailableError("gone")
        await set_next(self, *arguments)

    monkeypatch.setattr(Forwarder, "_set_next", failing)
    runtime = new_runtime()
    handled = await at_work(runtime)
    await runtime.schedule_message(Number(1), AGENT, every=1, id="e")
    await until(lambda: len(handled.messages) >= 3)
    await (await runtime.get_schedule("e")).cancel()

    assert len(set(handled.due)) == len(handled.due)


async def test_a_schedule_that_is_cancelled_while_it_is_forwarded_does_not_come_back(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_next = Forwarder._set_next
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(self: Forwarder, *arguments: Any) -> None:
        entered.set()
        await go.wait()
        await set_next(self, *arguments)

    monkeypatch.setattr(Forwarder, "_set_next", slow)
    runtime = new_runtime()
    handled = await at_work(runtime)
    handle = await runtime.schedule_message(Number(1), AGENT, every=1)
    await asyncio.wait_for(entered.wait(), 10)
    assert await handle.cancel()
    go.set()
    await asyncio.sleep(1.5)

    assert handled.messages == [Number(1)]
    assert await runtime.list_schedules() == []


async def test_what_is_no_firing_holds_up_no_other(
    new_runtime: NewRuntime, client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    subjects = Subjects(namespace)
    runtime = new_runtime()
    handled = await at_work(runtime)
    newer = quoted(json.dumps({"format": 99}))
    # The first one stays, which holds back the floor of what is done with.
    foreign = [{RULE_HEADER: newer}, None, {RULE_HEADER: "no JSON"}]
    for number, headers in enumerate(foreign):
        await client.request(subjects.due(f"foreign{number}"), b"x", headers=headers)
    # A copy of a real firing under another id.
    made = await runtime.schedule_message(Number(1), AGENT, after=3_600, id="real")
    stored = await client.jetstream().get_last_msg(subjects.schedules_stream, subjects.schedule("real"))
    own = {name: value for name, value in (stored.headers or {}).items() if not name.startswith("Nats-")}
    await client.request(subjects.due("copy"), stored.data or b"", headers=own)
    await runtime.schedule_message(Number(2), AGENT, after=0)

    await until(lambda: handled.messages)
    assert handled.messages == [Number(2)]
    await until(lambda: caplog.text.count("is dropped") == 3 and "waits for a newer version" in caplog.text)
    # What is of a newer version is left to those who understand it.
    async with asyncio.timeout(15):
        while await messages(client, runtime, subjects.dues) != 1:
            await asyncio.sleep(0.1)
    assert await made.cancel()


async def test_a_type_that_nobody_registers_gets_a_dead_letter_which_can_be_replayed(
    new_runtime: NewRuntime, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "_UNKNOWN_TYPE_PAUSE_S", 0.1)
    runtime = new_runtime()
    await runtime.start()
    await runtime.schedule_message(Number(1), LONG, after=0, id="early")
    (letter,) = await dead_letters(client, namespace, at_least=1)
    assert (letter.agent, letter.error.rpartition(".")[2]) == (LONG, "AgentNotFoundError")
    assert "early" in letter.message

    handled = Handled()
    await serve(runtime, "agent", handled)
    store = DeadLetterStore(runtime._broker, Subjects(namespace))
    async for stored in store.find(DeadLetterFilter()):
        await store.replay(stored)
    await until(lambda: handled.messages)
    assert (handled.contexts[0].is_rpc, handled.contexts[0].topic_id) == (True, None)


async def test_a_type_that_is_registered_a_moment_later_gets_its_message(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "_UNKNOWN_TYPE_PAUSE_S", 0.5)
    runtime = new_runtime()
    await runtime.start()
    await runtime.schedule_message(Number(1), AGENT, after=0)
    await asyncio.sleep(0.7)
    handled = Handled()
    await serve(runtime, "agent", handled)

    await until(lambda: handled.messages)


async def test_a_firing_whose_handler_fails_is_retried_and_given_up_like_an_event(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    attempts = 0

    class Failing(Counter):
        retry_policy = RetryPolicy(attempts=3, first_delay_s=0.01)

        async def on_message_impl(self, message: Any, ctx: MessageContext) -> int:
            nonlocal attempts
            attempts += 1
            if message == Number(1):
                raise ValueError("boom")
            return await super().on_message_impl(message, ctx)

    runtime = new_runtime()
    await runtime.register_factory("agent", Failing, expected_class=Failing)
    await runtime.start()
    await runtime.schedule_message(Number(1), AGENT, after=0)
    (letter,) = await dead_letters(client, namespace, at_least=1)

    assert (letter.agent, letter.error, letter.attempts, attempts) == (AGENT, "ValueError", 3, 3)
    await runtime.schedule_message(Number(2), AGENT, after=0)
    await until(lambda: attempts == 4)
    async with asyncio.timeout(10):
        while await runtime.agent_save_state(AGENT) != {"count": 1}:
            await asyncio.sleep(0.05)


async def test_a_turn_that_is_run_again_schedules_once(new_runtime: NewRuntime) -> None:
    runs = 0

    class Planning(Scripted):
        retry_policy = RetryPolicy(attempts=3, first_delay_s=0.01)

    async def plan(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        nonlocal runs
        runs += 1
        for seconds in (3_600, 7_200):
            await agent.schedule_message(Number(seconds), agent.id, after=seconds)
        # This one has fired before the turn is run again.
        await agent.schedule_message(Number(0), AgentId("other", "k"), after=0)
        await agent.schedule_message(Number(1), AgentId("other", "k"), after=0, id="named")
        if runs < 3:
            await asyncio.sleep(0.6)
            raise ValueError("again")

    runtime = new_runtime()
    handled = Handled()
    await runtime.register_factory("other", lambda: Scripted(handled), expected_class=Scripted)
    await runtime.register_factory("agent", lambda: Planning(plan), expected_class=Planning)
    await runtime.start()
    begin = await runtime.schedule_message(Number(5), AGENT, after=0)
    await until(lambda: runs == 3)
    async with asyncio.timeout(10):
        while len(await runtime.list_schedules()) != 2:
            await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)

    assert sorted(each.value for each in handled.messages) == [0, 1]
    ids = {each.id for each in await runtime.list_schedules()}
    assert len(ids) == 2 and begin.id not in ids


async def test_processes_that_set_up_the_same_at_once_make_one_and_the_last_of_others_stays(
    new_runtime: NewRuntime,
) -> None:
    runtimes = [await new_runtime().connect() for _ in range(4)]
    await asyncio.gather(*(each.schedule_message(Number(1), AGENT, every=3_600, id="s") for each in runtimes))
    (same,) = await runtimes[0].list_schedules()
    assert same.rule.every == 3_600

    await asyncio.gather(
        *(each.schedule_message(Number(n), AGENT, every=3_600, id="s") for n, each in enumerate(runtimes))
    )
    assert len(await runtimes[0].list_schedules()) == 1


async def test_firings_go_on_when_the_clock_of_this_machine_is_wrong(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.time", lambda: 0.0)
    runtime = new_runtime()
    handled = await at_work(runtime)
    handle = await runtime.schedule_message(Number(1), AGENT, after=0.5)

    assert abs(handle.schedule.next_at - datetime.now(UTC)) < timedelta(seconds=5)
    await until(lambda: handled.messages)


async def test_what_is_forwarded_is_removed_and_what_waits_stays(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    subjects = Subjects(namespace)
    runtime = new_runtime()
    handled = await at_work(runtime)
    for number in range(50):
        await runtime.schedule_message(Number(number), TopicId("t", f"k{number}"), after=0.01 * number)
        await runtime.schedule_message(Number(-1), AGENT, after=3_600)
    await until(lambda: len(handled.messages) >= 50)
    async with asyncio.timeout(15):
        while await messages(client, runtime, subjects.dues):
            await asyncio.sleep(0.05)

    assert sorted(each.value for each in handled.messages) == list(range(50))
    assert await messages(client, runtime, subjects.schedules) == 50


async def messages(client: Client, runtime: NatsAgentRuntime, subject: str) -> int:
    """Count what the stream of schedules holds under some subjects."""
    broker: Broker = runtime._broker
    stream = runtime._subjects.schedules_stream
    assert (await api(client, f"STREAM.INFO.{stream}"))["config"]["name"] == stream
    info = await broker.api(f"STREAM.INFO.{stream}", {"subjects_filter": subject})
    return sum((info["state"].get("subjects") or {}).values())
