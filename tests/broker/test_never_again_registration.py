"""Faults of registration and of lifecycle that runtimes of this kind are known to have. Each number is that of one."""

import asyncio
import os
import signal
from typing import Any

import pytest
from nats.aio.client import Client

from broker.conftest import NewRuntime
from broker.processes import TYPE, AgentProcesses, Ask
from broker.scripted import Counter, Gate, Scripted, agent_at, serve, until
from hivewire import (
    AgentId,
    MessageContext,
    NotAccessibleError,
    RoutedAgent,
    SerializationError,
    SubscriptionNotFoundError,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    WorkerLostError,
    message_handler,
)
from hivewire.nats.embedded import EmbeddedServer
from hivewire.nats.subjects import Subjects

ANYONE = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


async def test_row_17_a_second_worker_of_a_type_shares_the_load_and_survives_the_first(new_runtime: NewRuntime) -> None:
    one, two, caller = new_runtime(), new_runtime(), new_runtime()
    handled: dict[str, set[str]] = {"one": set(), "two": set()}

    def noting(name: str) -> Any:
        async def note(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            handled[name].add(agent.id.key)
            return name

        return note

    await serve(one, "agent", noting("one"))
    await serve(two, "agent", noting("two"))
    await one.start()
    await two.start()
    await caller.connect()
    keys = [f"key {number}" for number in range(100)]

    async def call_all() -> dict[str, str]:
        answers = await asyncio.gather(*(caller.send_message("hello", AgentId("agent", key)) for key in keys))
        return dict(zip(keys, answers, strict=True))

    homes = await call_all()
    assert sorted(homes.values()).count("one") in range(25, 76)
    assert await call_all() == homes
    assert handled["one"].isdisjoint(handled["two"])
    await one.stop()
    assert set((await call_all()).values()) == {"two"}


class FourShards(Scripted):
    shards = 4


async def test_row_18_a_failed_registration_leaves_nothing(new_runtime: NewRuntime) -> None:
    owner, other = new_runtime(), new_runtime()
    await serve(owner, "agent")
    await owner.start()
    await other.start()
    with pytest.raises(ValueError, match="16 shards and this process wants 4"):
        await FourShards.register(other, "agent", FourShards)
    assert other._catalog.types() == []
    assert list(other._subscriptions) == []
    with pytest.raises(NotAccessibleError):
        await other.try_get_underlying_agent_instance(ANYONE)
    assert await other.send_message("hello", ANYONE) == "hello"
    await FourShards.register(other, "other", FourShards)
    assert await owner.send_message("hello", AgentId("other", "k")) == "hello"


async def test_row_19_what_is_registered_before_start_is_there_after_it(new_runtime: NewRuntime) -> None:
    worker, replica, caller = new_runtime(), new_runtime(), new_runtime()
    for runtime in (worker, replica):
        await runtime.add_subscription(TypeSubscription("t", "agent"))
        await runtime.register_factory("agent", Scripted)
        await runtime.add_subscription(TypePrefixSubscription("u.", "agent"))
    await worker.start()
    await caller.connect()
    record = caller._registry.get("agent")
    await replica.start()
    assert replica._registry.get("agent") == record
    assert await caller.send_message("call", ANYONE) == "call"
    await caller.publish_message("exact", TOPIC)
    await caller.publish_message("prefix", TopicId("u.v", "k"))
    runtime = worker if worker._lives_here(ANYONE) else replica
    agent = await agent_at(runtime, "agent")
    await until(lambda: len(agent.seen) == 3)
    assert agent.seen == ["call", "exact", "prefix"]


async def test_what_is_published_while_a_second_worker_registers_step_by_step_is_handled(
    new_runtime: NewRuntime,
) -> None:
    worker, replica, caller = new_runtime(), new_runtime(), new_runtime()
    seen: list[Any] = []

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        seen.append(message)

    await serve(worker, "agent", note)
    await worker.start()
    await caller.connect()
    await replica.connect()
    await replica.register_factory("agent", lambda: Scripted(note), expected_class=Scripted)
    await caller.publish_message("between", TOPIC)
    await replica.add_subscription(TypeSubscription("t", "agent"))
    await replica.start()
    await caller.publish_message("after", TOPIC)
    await until(lambda: "after" in seen)
    assert seen == ["between", "after"]


async def test_what_a_second_worker_does_not_subscribe_to_holds_no_longer_once_it_has_started(
    new_runtime: NewRuntime,
) -> None:
    worker, replica = new_runtime(), new_runtime()
    await serve(worker, "agent")
    await worker.start()
    await replica.connect()
    await replica.register_factory("agent", Scripted)
    await replica.add_subscription(TypeSubscription("u", "agent"))
    await replica.start()
    record = replica._registry.get("agent")
    assert record is not None
    assert record.declared == {"exact:u"}


async def test_row_26_an_agent_of_another_process_is_described_and_gives_and_takes_its_state(
    new_runtime: NewRuntime,
) -> None:
    worker, other = new_runtime(), new_runtime()
    await Counter.register(worker, "counter", Counter)
    await worker.start()
    await other.connect()
    agent = AgentId("counter", "a b/c")
    assert await other.agent_metadata(agent) == {"type": "counter", "key": "a b/c", "description": "scripted"}
    assert await other.send_message("hello", agent) == 1
    state = await other.agent_save_state(agent)
    assert state == {"count": 1}
    await other.agent_load_state(agent, {"count": 41})
    assert await other.send_message("hello", agent) == 42
    assert await other.get("counter", "fresh", lazy=False) == AgentId("counter", "fresh")
    assert await worker.save_state() == {"counter/a b/c": {"count": 42}, "counter/fresh": {"count": 0}}
    # It was given to the agent, wherever it goes on.
    successor = new_runtime()
    await Counter.register(successor, "counter", Counter)
    await successor.start()
    await worker.stop()
    assert await other.agent_save_state(agent) == {"count": 42}
    await other.load_state({"counter/a b/c": {"count": 7}, "unknown/k": {"count": 7}})
    assert await other.agent_save_state(agent) == {"count": 42}, "types that a process does not register are ignored"
    await successor.load_state({"counter/a b/c": {"count": 7}})
    assert await other.send_message("hello", agent) == 8


async def test_row_27_each_agent_is_closed_once_after_its_last_answer(new_runtime: NewRuntime) -> None:
    gate = Gate()
    worker, caller = new_runtime(), new_runtime()
    await serve(worker, "agent", gate)
    await worker.start()
    await caller.connect()
    call = asyncio.create_task(caller.send_message("hello", ANYONE))
    await until(lambda: gate.entered)
    agent = await agent_at(worker, "agent")
    idle = await agent_at(worker, "agent", "idle")
    stopping = asyncio.create_task(worker.stop())
    await until(lambda: worker._state == "stopping")
    assert agent.closed == 0
    gate.opened.set()
    assert await call == "hello"
    await stopping
    assert (agent.closed, idle.closed) == (1, 1)


async def test_row_27_an_agent_that_was_passivated_is_not_closed_again(new_runtime: NewRuntime) -> None:
    agents: dict[str, Scripted] = {}

    async def note(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        agents[agent.id.key] = agent

    worker, caller = new_runtime(max_agents=2), new_runtime()
    await serve(worker, "agent", note)
    await worker.start()
    await caller.connect()
    for number in range(6):
        await caller.send_message("hello", AgentId("agent", f"k{number}"))
    await until(lambda: sum(agent.closed for agent in agents.values()) == 4)
    await worker.stop()
    assert [agents[f"k{number}"].closed for number in range(6)] == [1] * 6


async def test_row_28_unknown_subscriptions_and_kinds_are_errors_that_say_so(new_runtime: NewRuntime) -> None:
    class Own(TypeSubscription):
        pass

    class Foreign:
        id = "foreign"

        def is_match(self, topic_id: TopicId) -> bool:
            return True

        def map_to_agent(self, topic_id: TopicId) -> AgentId:
            return ANYONE

    runtime = await new_runtime().connect()
    with pytest.raises(SubscriptionNotFoundError):
        await runtime.remove_subscription("nothing")
    with pytest.raises(ValueError, match=r"Foreign can't be used.*TypeSubscription, TypePrefixSubscription"):
        await runtime.add_subscription(Foreign())
    subscription = TypeSubscription("t", "agent")
    await runtime.add_subscription(subscription)
    with pytest.raises(ValueError, match="Subscription already exists"):
        await runtime.add_subscription(TypeSubscription("t", "agent"))
    await runtime.remove_subscription(subscription.id)
    with pytest.raises(LookupError):
        await runtime.remove_subscription(subscription.id)


async def test_row_29_the_agents_of_a_worker_that_stands_still_move_on_within_a_bound(
    new_runtime: NewRuntime, processes: AgentProcesses
) -> None:
    # Two bounds: the session's life of 6 s, and the server's own, three of its ping intervals.
    async with EmbeddedServer(config_lines='ping_interval: "2s"') as server:
        stopped, other = await processes.start(2, url=server.url)
        caller = await new_runtime(server.url).connect()

        async def home(key: str) -> int:
            return int((await caller.send_message(Ask(), AgentId(TYPE, key), timeout=10)).pid)

        keys = [f"key {number}" for number in range(32)]
        homes = {key: await home(key) for key in keys}
        moving = [key for key in keys if homes[key] == stopped.pid]
        assert 0 < len(moving) < 32
        stopped.signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            for key in moving:
                while True:
                    try:
                        assert await home(key) == other.pid
                        break
                    except WorkerLostError:
                        pass
        # What the stopped one was sent, it may neither run nor answer when it goes on.
        answered = len(processes.journal)
        stopped.signal(signal.SIGCONT)
        assert {await home(key) for key in moving} <= {stopped.pid, other.pid}
        assert len(processes.journal) == answered + len(moving)
        await caller.stop()
        processes.kill_all()


class Opaque:
    pass


class HandlesOpaque(RoutedAgent):
    @message_handler
    async def handle(self, message: Opaque, ctx: MessageContext) -> None: ...


async def test_row_55_a_registration_that_fails_can_be_repeated(new_runtime: NewRuntime) -> None:
    runtime = new_runtime()
    await runtime.start()
    for _ in range(2):
        with pytest.raises(SerializationError, match="No serializers found"):
            await HandlesOpaque.register(runtime, "agent", HandlesOpaque)
    assert runtime._registry.get("agent") is None
    await Scripted.register(runtime, "agent", Scripted)
    assert await runtime.send_message("hello", ANYONE) == "hello"


async def test_row_70_a_started_runtime_takes_messages_at_once(
    new_runtime: NewRuntime, client: Client, namespace: str
) -> None:
    subjects = Subjects(namespace)
    for number in range(10):
        worker = new_runtime()
        await serve(worker, f"agent{number}")
        await worker.start()
        answer = await client.request(
            subjects.rpc(f"agent{number}", "k"), b"1", headers={"Hw-Type": "int", "Hw-Left": "1000"}, timeout=2
        )
        assert answer.data == b"1"


async def test_two_processes_may_have_the_same_instance_id(new_runtime: NewRuntime) -> None:
    one, two = new_runtime(instance_id=str(os.getpid())), new_runtime(instance_id=str(os.getpid()))
    await serve(one, "agent")
    await serve(two, "agent")
    await one.start()
    await two.start()
    assert await one.send_message("hello", ANYONE) == await two.send_message("hello", ANYONE) == "hello"
