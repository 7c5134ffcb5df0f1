"""Faults of turns, retries and state that runtimes of this kind are known to have. Each number is that of one."""

import asyncio
import re
import time
from collections import Counter as Tally
from typing import Any
from unittest.mock import AsyncMock

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.scripted import Counter, Gate, Handle, Scripted, until
from broker.stored import api, dead_letters, take
from hivewire import (
    AgentId,
    MessageContext,
    NatsAgentRuntime,
    RetryPolicy,
    StateConflictError,
    TopicId,
    TypeSubscription,
    WorkerLostError,
    stateless_worker,
)
from hivewire.nats import stateless, topology
from hivewire.nats.session import SESSION_TTL_S
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import slot

TOPIC = TopicId("t", "k")
AGENT = AgentId("agent", "k")

LONGER_THAN_EVERY_WAIT_S = SESSION_TTL_S + 2.0


class Announcing:
    """A handler that announces its message before and after it waits, as two events for the type `listener`."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.entered = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.entered += 1
        await agent.publish_message(f"{message} begun", TopicId("out", "k"))
        await self.gate.wait()
        await agent.publish_message(f"{message} done", TopicId("out", "k"))
        return message


async def listen(runtime: NatsAgentRuntime) -> list[Any]:
    """Start a process of its own for the type `listener`, and return what it hears."""
    heard: list[Any] = []

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        heard.append(message)

    await runtime.register_factory("listener", lambda: Scripted(note))
    await runtime.add_subscription(TypeSubscription("out", "listener"))
    await runtime.start()
    return heard


async def count_with(runtime: NatsAgentRuntime, handle: Handle | None = None, cls: type[Counter] = Counter) -> None:
    await cls.register(runtime, "agent", lambda: cls(handle))
    await runtime.add_subscription(TypeSubscription("t", "agent"))


async def seconds_pass(seconds: float) -> None:
    """Wait for a time that is the subject of the test."""
    await asyncio.sleep(seconds)


async def test_row_62_a_flood_of_sources_leaves_only_state_behind(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    """Of each source the state is stored, after its message; in memory are at most as many agents as are allowed."""
    sources, most = 10_000, 200
    worker, publisher = new_runtime(max_agents=most), new_runtime()
    built: Tally[str] = Tally()

    class Sourced(Counter):
        async def on_message_impl(self, message: Any, ctx: MessageContext) -> int:
            built[self.id.key] += 1
            return await super().on_message_impl(message, ctx)

    await count_with(worker, cls=Sourced)
    await worker.start()
    await publisher.connect()
    numbers = iter(range(sources))

    async def publish_on() -> None:
        for number in numbers:
            await publisher.publish_message(number, TopicId("t", f"source {number}"))

    await asyncio.gather(*(publish_on() for _ in range(64)))
    await until(lambda: len(built) == sources, 60)
    turns = worker._serving.turns
    await until(lambda: not turns.running, 60)
    await until(lambda: len(worker._catalog.live_ids()) <= most, 30)
    in_memory = {
        "mailboxes": turns.mailboxes,
        "waiting": len(turns._waits._waiting),
        "activations beyond the living": len(turns._activations._active) - len(worker._catalog.live_ids()),
        "unfinished": sum(
            shard.tracker.unfinished + len(shard._admitted) + len(shard._windows._events) + bool(shard.parked)
            for shard in worker._serving._shards._owned.values()
        ),
    }
    assert in_memory == dict.fromkeys(in_memory, 0)
    assert set(built.values()) == {1}
    info = await api(client, f"STREAM.INFO.KV_{Subjects(namespace).state_bucket}")
    assert info["state"]["messages"] == sources
    # One that was taken out of memory comes back as it was.
    assert await publisher.send_message("again", AgentId("agent", "source 0")) == 2


async def test_row_62_an_agent_that_is_idle_leaves_memory_and_comes_back_as_it_was(new_runtime: NewRuntime) -> None:
    worker, caller = new_runtime(passivate_after=0.5), new_runtime()
    made: list[Counter] = []

    def make() -> Counter:
        made.append(Counter())
        return made[-1]

    await Counter.register(worker, "agent", make)
    await worker.start()
    await caller.connect()
    for number in (1, 2):
        assert await caller.send_message("hello", AGENT) == number
        await until(lambda: not worker._catalog.live_ids())
        assert made[-1].closed == 1
    await worker.stop()
    assert [agent.closed for agent in made] == [1, 1]


async def test_row_62_an_agent_that_is_used_again_while_others_go_is_not_closed_under_its_turn(
    new_runtime: NewRuntime,
) -> None:
    gate, leaving, gone = Gate(), asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def close(self) -> None:
            self.closed += 1
            if self.id.key == "first":
                leaving.set()
                await gone.wait()

    agents: dict[str, Scripted] = {}

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        agents[agent.id.key] = agent
        return await gate(agent, message, ctx) if message == "wait" else message

    worker, caller = new_runtime(max_agents=0), new_runtime()
    await Slow.register(worker, "agent", lambda: Slow(note))
    await worker.start()
    await caller.connect()
    # The second one is due together with the first, and is used again while that one goes.
    for key in ("first", "second"):
        await caller.send_message("hello", AgentId("agent", key))
    await leaving.wait()
    waiting = asyncio.create_task(caller.send_message("wait", AgentId("agent", "second")))
    await until(lambda: gate.entered)
    in_use = agents["second"]
    gone.set()
    await until(lambda: agents["first"].closed and not worker._serving.turns._leaving)
    assert in_use.closed == 0
    gate.opened.set()
    assert await waiting == "wait"


async def test_row_72_an_event_that_takes_longer_than_a_lease_is_handled_once(new_runtime: NewRuntime) -> None:
    announcing = Announcing()
    workers = [new_runtime(), new_runtime()]
    heard = await listen(new_runtime())
    publisher = await new_runtime().connect()
    for worker in workers:
        await count_with(worker, announcing)
        await worker.start()
    await publisher.publish_message("order", TOPIC)
    await until(lambda: announcing.entered)
    await seconds_pass(LONGER_THAN_EVERY_WAIT_S)
    announcing.gate.set()
    await until(lambda: "order done" in heard)
    assert await publisher.send_message("and one", AGENT) == 2
    # The call announces something too, so whatever came before it is there by now.
    await until(lambda: "and one done" in heard)
    assert announcing.entered == 2
    assert heard == ["order begun", "order done", "and one begun", "and one done"]


async def test_row_72_a_call_that_takes_longer_than_a_lease_is_answered_once(new_runtime: NewRuntime) -> None:
    announcing = Announcing()
    workers, caller = [new_runtime(), new_runtime()], new_runtime()
    for worker in workers:
        await count_with(worker, announcing)
        await worker.start()
    await caller.connect()
    called = asyncio.create_task(caller.send_message("order", AGENT, timeout=60))
    await until(lambda: announcing.entered)
    await seconds_pass(LONGER_THAN_EVERY_WAIT_S)
    announcing.gate.set()
    assert await called == 1
    assert announcing.entered == 1


async def test_row_72_an_event_whose_shard_moves_away_and_back_meanwhile_is_handled_once(
    new_runtime: NewRuntime,
) -> None:
    announcing = Announcing()
    staying, passing = new_runtime(), new_runtime()
    heard = await listen(new_runtime())
    publisher = await new_runtime().connect()
    await count_with(staying, announcing)
    await staying.start()
    keys = [f"k{number}" for number in range(16)]
    for key in keys:
        await publisher.publish_message("order", TopicId("t", key))
    await until(lambda: announcing.entered == len(keys))
    await count_with(passing, announcing)
    await passing.start()
    await until(lambda: any(passing._serving.owns("agent", slot(key)) for key in keys))
    await passing.stop()
    await until(lambda: all(staying._serving.owns("agent", slot(key)) for key in keys))
    announcing.gate.set()
    for key in keys:
        assert await publisher.send_message("and one", AgentId("agent", key)) == 2
    await until(lambda: heard.count("and one done") == len(keys))
    assert announcing.entered == 2 * len(keys)
    assert heard.count("order done") == len(keys)


@pytest.mark.parametrize("ack_wait_s", [3, pytest.param(topology.ACK_WAIT_S, marks=pytest.mark.slow)])
async def test_row_72_an_event_that_takes_longer_than_the_acknowledgement_wait_is_handled_once(
    new_runtime: NewRuntime, client: Client, namespace: str, monkeypatch: pytest.MonkeyPatch, ack_wait_s: int
) -> None:
    monkeypatch.setattr(topology, "ACK_WAIT_S", ack_wait_s)
    monkeypatch.setattr(stateless, "PROGRESS_EVERY_S", ack_wait_s / 3)
    announcing = Announcing()

    @stateless_worker
    class Anybody(Scripted):
        pass

    heard = await listen(new_runtime())
    for worker in (new_runtime(), new_runtime()):
        await Anybody.register(worker, "agent", lambda: Anybody(announcing))
        await worker.add_subscription(TypeSubscription("t", "agent"))
        await worker.start()
    subjects = Subjects(namespace)
    consumer = f"CONSUMER.INFO.{subjects.events_stream}.{subjects.consumer_of('agent')}"
    assert (await api(client, consumer))["config"]["ack_wait"] == ack_wait_s * 1_000_000_000
    await (await new_runtime().connect()).publish_message("order", TOPIC)
    await until(lambda: announcing.entered)
    await seconds_pass(max(ack_wait_s + 5, LONGER_THAN_EVERY_WAIT_S))
    announcing.gate.set()
    await until(lambda: "order done" in heard)
    async with asyncio.timeout(10):
        while (info := await api(client, consumer))["num_ack_pending"]:
            await asyncio.sleep(0.05)
    assert (announcing.entered, info["num_redelivered"]) == (1, 0)
    assert heard == ["order begun", "order done"]


async def test_row_72_and_73_of_two_workers_that_both_handle_an_event_one_commits_and_one_publishes(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    handled = {"rightful": Announcing(), "usurper": Announcing()}
    rightful, usurper = new_runtime(), new_runtime()
    heard = await listen(new_runtime())
    publisher = await new_runtime().connect()
    await count_with(rightful, handled["rightful"])
    await rightful.start()
    await publisher.publish_message("order", TOPIC)
    await until(lambda: handled["rightful"].entered)
    await count_with(usurper, handled["usurper"])
    await usurper.connect()
    take_all(usurper, monkeypatch)
    await usurper.start()
    # Both run the turn, on the same state.
    await until(lambda: handled["usurper"].entered)
    assert rightful._serving.turns.running == usurper._serving.turns.running == 1
    for each in handled.values():
        each.gate.set()
    await until(lambda: not rightful._serving.turns.running and not usurper._serving.turns.running)
    await until(lambda: "order done" in heard)
    assert await usurper.send_message("and one", AGENT) == 2
    await until(lambda: "and one done" in heard)
    assert heard == ["order begun", "order done", "and one begun", "and one done"]


async def test_row_73_calls_to_two_workers_that_both_own_a_key_never_both_count(
    new_runtime: NewRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rightful, usurper, caller = new_runtime(), new_runtime(), new_runtime()
    await count_with(rightful)
    await rightful.start()
    await caller.connect()
    await count_with(usurper)
    await usurper.connect()
    take_all(usurper, monkeypatch)
    await usurper.start()
    calls = [caller.send_message(number, AGENT) for number in range(200)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    answers = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert {type(outcome).__name__ for outcome in outcomes} <= {"int", "StateConflictError"}
    # Each answer is a state that nobody else saw, and the last one is what is stored.
    assert answers
    assert sorted(answers) == list(range(1, len(answers) + 1))
    await rightful.stop()
    # What the one that is left has in memory may be old, which it finds out when it writes.
    try:
        last = await caller.send_message("last", AGENT)
    except StateConflictError:
        last = await caller.send_message("last", AGENT)
    assert last == len(answers) + 1


def take_all(runtime: NatsAgentRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a runtime take everybody else for dead, so that it claims every shard."""
    shards = runtime._serving._shards
    every_session = shards._live_sessions
    monkeypatch.setattr(shards, "_has_ended", AsyncMock(return_value=True))
    monkeypatch.setattr(
        shards,
        "_live_sessions",
        lambda: {session: record for session, record in every_session().items() if session == shards._keeper.id},
    )


POLICY = RetryPolicy(attempts=5, first_delay_s=0.2, factor=2.0, max_delay_s=0.6, jitter=0.5)


class Failing(Scripted):
    retry_policy = POLICY


@stateless_worker
class FailingAnywhere(Scripted):
    retry_policy = POLICY


@pytest.mark.parametrize("cls", [Failing, FailingAnywhere])
async def test_row_74_the_gaps_between_the_attempts_are_those_of_the_policy(
    cls: type[Scripted], new_runtime: NewRuntime, client: Client, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    begun: dict[str, list[float]] = {}

    async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        begun.setdefault(agent.id.key, []).append(time.monotonic())
        raise ValueError("boom")

    worker = new_runtime()
    await cls.register(worker, "agent", lambda: cls(fail))
    await worker.add_subscription(TypeSubscription("t", "agent"))
    await worker.start()
    keys = [f"k{number}" for number in range(8)]
    for key in keys:
        await worker.publish_message("fails", TopicId("t", key))
    await until(lambda: [len(begun.get(key, ())) for key in keys] == [POLICY.attempts] * len(keys), 30)
    await dead_letters(client, namespace, at_least=len(keys))
    drawn = {
        key: [float(found) for found in re.findall(rf"agent/{key} .*again in (\d+\.\d+) s", caplog.text)]
        for key in keys
    }
    for number, delay in enumerate((0.2, 0.4, 0.6, 0.6)):
        gaps = [begun[key][number + 1] - begun[key][number] for key in keys]
        assert all(delay * (1 - POLICY.jitter) - 0.01 <= drawn[key][number] <= delay + 0.01 for key in keys)
        assert all(gap >= drawn[key][number] - 0.01 for key, gap in zip(keys, gaps, strict=True))
        # Delays of the broker's own would come on top; a busy machine is late now and then, but not always.
        assert min(gap - drawn[key][number] for key, gap in zip(keys, gaps, strict=True)) < 0.5
        assert len({drawn[key][number] for key in keys}) > 1, "there is no jitter"
    subjects = Subjects(namespace)
    if cls is FailingAnywhere:
        consumer = await api(client, f"CONSUMER.INFO.{subjects.events_stream}.{subjects.consumer_of('agent')}")
        assert "backoff" not in consumer["config"]
        assert consumer["num_ack_pending"] == consumer["num_redelivered"] == 0


@pytest.mark.parametrize("cls", [Failing, FailingAnywhere])
async def test_row_75_poison_is_a_dead_letter_with_its_error_and_nothing_is_stuck_or_lost(
    cls: type[Scripted], new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    async def fail(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        if message == "poison":
            raise ValueError(f"can't stand {message}")

    class Patient(cls):  # type: ignore[misc, valid-type]
        retry_policy = RetryPolicy(attempts=2, first_delay_s=0.05)

    made: list[Scripted] = []

    def make() -> Scripted:
        made.append(Patient(fail))
        return made[-1]

    worker = new_runtime()
    await Patient.register(worker, "agent", make)
    await worker.add_subscription(TypeSubscription("t", "agent"))
    await worker.start()
    for number in range(20):
        await worker.publish_message(number, TOPIC)
        if number == 10:
            await worker.publish_message("poison", TOPIC, message_id="poison-1")
    await until(lambda: {message for agent in made for message in agent.seen} >= set(range(20)))
    (letter,) = await dead_letters(client, namespace, at_least=1)
    assert (letter.agent, letter.attempts, letter.payload) == (AGENT, 2, b'"poison"')
    assert (letter.error, letter.message) == ("ValueError", "can't stand poison")
    assert "in fail" in letter.traceback
    assert letter.headers["ce-id"] == "poison-1"
    # None is stuck: whoever reads on has nothing to read.
    async with asyncio.timeout(15):
        await worker.stop_when_idle()
    subjects = Subjects(namespace)
    if cls is FailingAnywhere:
        consumer = await api(client, f"CONSUMER.INFO.{subjects.events_stream}.{subjects.consumer_of('agent')}")
        assert consumer["num_ack_pending"] == consumer["num_pending"] == 0


async def test_row_75_an_event_that_nobody_ever_finishes_is_a_dead_letter_too(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    first, second, publisher = new_runtime(), new_runtime(), new_runtime()
    for worker in (first, second):
        await FailingAnywhere.register(worker, "agent", FailingAnywhere)
        await worker.add_subscription(TypeSubscription("t", "agent"))
    await first.start()
    await first.stop()
    await publisher.connect()
    await publisher.publish_message("fatal", TOPIC)
    subjects = Subjects(namespace)
    for _ in range(stateless.MAX_DELIVERIES):
        taken = await take(client, subjects.events_stream, subjects.consumer_of("agent"))
        assert taken.data == b'"fatal"'
        await client.publish(taken.reply, b"-NAK")
    await second.start()
    (letter,) = await dead_letters(client, namespace, at_least=1)
    assert (letter.error, letter.attempts) == ("hivewire.exceptions.WorkerLostError", stateless.MAX_DELIVERIES)
    assert letter.error.endswith(WorkerLostError.__name__)
    async with asyncio.timeout(15):
        await second.stop_when_idle()
