"""Whether the handlers of one agent overlap."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from contract.support import (
    DEADLINE_S,
    Gate,
    Inbox,
    MakeRuntime,
    Runtime,
    Scripted,
    Settle,
    echo,
    only_network,
    serve,
    until,
)
from hivewire import AgentId, MessageContext, TopicId, TypeSubscription, stateless_worker

AGENT = AgentId("agent", "k")


class Serial(Scripted):
    concurrency = "serial"


class Interleaved(Scripted):
    concurrency = "interleaved"


class Persisting(Scripted):
    async def save_state(self) -> Mapping[str, Any]:
        return {"count": len(self.inbox)}

    async def load_state(self, state: Mapping[str, Any]) -> None: ...


async def started(make_runtime: MakeRuntime, **options: Any) -> Runtime:
    runtime = make_runtime(**options)
    await runtime.start()
    return runtime


async def register(runtime: Runtime, cls: type[Scripted], handle: Any, agent_type: str = "agent") -> Inbox:
    inbox = Inbox()
    await runtime.register_factory(agent_type, lambda: cls(handle, inbox), expected_class=cls)
    await runtime.add_subscription(TypeSubscription("t", agent_type))
    return inbox


class Overlap:
    """A handler that notes how many of it run at once for one agent, and in all."""

    def __init__(self) -> None:
        self.running: dict[AgentId, int] = {}
        self.most_of_one = 0
        self.most = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        self.running[agent.id] = self.running.get(agent.id, 0) + 1
        self.most_of_one = max(self.most_of_one, self.running[agent.id])
        self.most = max(self.most, sum(self.running.values()))
        await asyncio.sleep(0.002)
        self.running[agent.id] -= 1
        return message


class TestInterleaving:
    async def test_an_agent_without_state_handles_several_messages_at_once(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate)
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(10)]
        await until(lambda: gate.entered == 10)
        gate.opened.set()

        assert await asyncio.gather(*calls) == list(range(10))

    async def test_so_it_does_with_events(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate, "t")
        for number in range(10):
            await runtime.publish_message(number, TopicId("t", "k"))
        await until(lambda: gate.entered == 10)
        gate.opened.set()
        await until(lambda: gate.left == 10)

    async def test_a_class_may_ask_for_it_where_the_runtime_says_otherwise(self, make_runtime: MakeRuntime) -> None:
        runtime = await started(make_runtime, concurrency="serial")
        gate = Gate()
        await register(runtime, Interleaved, gate)
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(3)]
        await until(lambda: gate.entered == 3)
        gate.opened.set()

        await asyncio.gather(*calls)

    async def test_a_runtime_may_ask_for_it_also_for_agents_with_state(self, make_runtime: MakeRuntime) -> None:
        runtime = await started(make_runtime, concurrency="interleaved")
        gate = Gate()
        await register(runtime, Persisting, gate)
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(3)]
        await until(lambda: gate.entered == 3)
        gate.opened.set()

        await asyncio.gather(*calls)

    @only_network
    async def test_events_of_agents_with_state_follow_one_another_nevertheless(
        self, make_runtime: MakeRuntime, settle: Settle
    ) -> None:
        runtime = await started(make_runtime, concurrency="interleaved")
        overlap = Overlap()
        inbox = await register(runtime, Persisting, overlap)
        for number in range(10):
            await runtime.publish_message(number, TopicId("t", "k"))
        await settle(runtime)

        assert inbox.messages == list(range(10))
        assert overlap.most_of_one == 1


SERIAL = [
    pytest.param(Serial, {}, id="attribute"),
    pytest.param(Scripted, {"concurrency": "serial"}, id="option"),
    pytest.param(Persisting, {"concurrency": None}, id="state"),
]


@pytest.mark.parametrize(("cls", "options"), SERIAL)
class TestOneAtATime:
    async def test_calls_of_one_agent_do_not_overlap_and_keep_their_order(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        runtime = await started(make_runtime, **options)
        overlap = Overlap()
        inbox = await register(runtime, cls, overlap)
        answers = await asyncio.gather(*(runtime.send_message(number, AGENT) for number in range(20)))

        assert answers == inbox.messages == list(range(20))
        assert overlap.most_of_one == 1

    async def test_calls_and_events_of_one_agent_do_not_overlap(
        self, make_runtime: MakeRuntime, settle: Settle, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        runtime = await started(make_runtime, **options)
        overlap = Overlap()
        inbox = await register(runtime, cls, overlap)
        await asyncio.gather(
            *(runtime.publish_message(number, TopicId("t", "k")) for number in range(10)),
            *(runtime.send_message(number, AGENT) for number in range(10)),
        )
        await settle(runtime)

        assert len(inbox) == 20
        assert overlap.most_of_one == 1

    async def test_other_keys_do_not_wait(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        runtime = await started(make_runtime, **options)
        gate = Gate()
        await register(runtime, cls, gate)
        calls = [asyncio.create_task(runtime.send_message(key, AgentId("agent", str(key)))) for key in range(10)]
        await until(lambda: gate.entered == 10)
        gate.opened.set()

        assert await asyncio.gather(*calls) == list(range(10))

    async def test_the_next_one_starts_after_one_failed(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        async def fail_odd(agent: Scripted, message: int, ctx: MessageContext) -> int:
            await asyncio.sleep(0)
            if message % 2:
                raise ValueError(message)
            return message

        runtime = await started(make_runtime, **options)
        await register(runtime, cls, fail_odd)
        calls = [runtime.send_message(number, AGENT) for number in range(6)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert [outcome if isinstance(outcome, int) else type(outcome) for outcome in outcomes] == [
            0,
            ValueError,
            2,
            ValueError,
            4,
            ValueError,
        ]

    async def test_an_agent_may_call_itself_and_others_that_call_it_back(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        other = AgentId("other", "o")

        async def go(agent: Scripted, message: str, ctx: MessageContext) -> str:
            path, _, rest = message.partition(" ")
            if not path:
                return str(agent.id)
            answer = await agent.send_message(rest, {"A": AGENT, "B": other}[path])
            return f"{agent.id} {answer}"

        runtime = await started(make_runtime, **options)
        for agent_type in ("agent", "other"):
            await register(runtime, cls, go, agent_type)
        async with asyncio.timeout(DEADLINE_S):
            assert await runtime.send_message("A", AGENT) == "agent/k agent/k"
            assert await runtime.send_message("B A", AGENT) == "agent/k other/o agent/k"
            assert await runtime.send_message("B A B A", AGENT) == "agent/k other/o agent/k other/o agent/k"

    async def test_a_chain_that_comes_back_passes_those_that_wait(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        gate = Gate()
        order: list[str] = []

        async def go(agent: Scripted, message: str, ctx: MessageContext) -> None:
            order.append(message)
            if message == "outer":
                await gate(agent, message, ctx)
                await agent.send_message("through", AgentId("other", "o"))
            elif message == "through":
                await agent.send_message("inner", AGENT)

        runtime = await started(make_runtime, **options)
        for agent_type in ("agent", "other"):
            await register(runtime, cls, go, agent_type)
        outer = asyncio.create_task(runtime.send_message("outer", AGENT))
        await until(lambda: gate.entered == 1)
        unrelated = asyncio.create_task(runtime.send_message("unrelated", AGENT))
        # What was sent before has arrived when this is answered.
        await runtime.send_message("x", AgentId("agent", "elsewhere"))
        order.remove("x")
        gate.opened.set()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(outer, unrelated)

        assert order == ["outer", "through", "inner", "unrelated"]

    async def test_a_chain_that_began_with_an_event_comes_back_too(
        self, make_runtime: MakeRuntime, settle: Settle, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        async def go(agent: Scripted, message: str, ctx: MessageContext) -> None:
            if message == "event":
                await agent.send_message("through", AgentId("other", "o"))
            elif message == "through":
                await agent.send_message("inner", AGENT)

        runtime = await started(make_runtime, **options)
        inbox = await register(runtime, cls, go)
        other: Inbox = Inbox()
        await runtime.register_factory("other", lambda: cls(go, other), expected_class=cls)
        await runtime.publish_message("event", TopicId("t", "k"))
        await settle(runtime)

        assert inbox.messages == ["event", "inner"]

    async def test_several_inner_calls_at_once_come_back(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        async def go(agent: Scripted, message: int, ctx: MessageContext) -> int:
            if message == 0:
                return 1
            answers = await asyncio.gather(*(agent.send_message(message - 1, agent.id) for _ in range(2)))
            return sum(answers)

        runtime = await started(make_runtime, **options)
        await register(runtime, cls, go)
        async with asyncio.timeout(DEADLINE_S):
            assert await runtime.send_message(3, AGENT) == 8

    async def test_a_task_that_outlives_its_handler_waits_its_turn_like_anybody(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        tasks: list[asyncio.Task[Any]] = []
        go_on = asyncio.Event()
        gate = Gate()

        async def leave_a_task(agent: Scripted, message: str, ctx: MessageContext) -> Any:
            async def later() -> Any:
                await go_on.wait()
                return await agent.send_message("from the task", agent.id)

            if message == "outer":
                tasks.append(asyncio.create_task(later()))
            elif message == "holding":
                await gate(agent, message, ctx)
            return message

        runtime = await started(make_runtime, **options)
        inbox = await register(runtime, cls, leave_a_task)
        await runtime.send_message("outer", AGENT)
        holding = asyncio.create_task(runtime.send_message("holding", AGENT))
        await until(lambda: gate.entered == 1)
        go_on.set()
        # What was sent before has arrived when this is answered.
        await runtime.send_message("x", AgentId("agent", "elsewhere"))
        assert inbox.messages == ["outer", "holding", "x"]
        gate.opened.set()

        async with asyncio.timeout(DEADLINE_S):
            assert await asyncio.gather(holding, *tasks) == ["holding", "from the task"]

    async def test_two_chains_that_wait_for_each_other_end_at_their_deadline(
        self, make_runtime: MakeRuntime, cls: type[Scripted], options: dict[str, Any]
    ) -> None:
        both = asyncio.Barrier(2)
        other = AgentId("other", "o")

        async def cross(agent: Scripted, message: str, ctx: MessageContext) -> str:
            if message == "inner":
                return "never in time"
            await both.wait()
            try:
                answer: str = await agent.send_message("inner", other if agent.id == AGENT else AGENT, timeout=0.5)
            except TimeoutError:
                return "deadline"
            return answer

        runtime = await started(make_runtime, **options)
        for agent_type in ("agent", "other"):
            await register(runtime, cls, cross, agent_type)
        async with asyncio.timeout(DEADLINE_S):
            outcomes = await asyncio.gather(runtime.send_message("outer", AGENT), runtime.send_message("outer", other))

        assert "deadline" in outcomes
        assert await runtime.send_message("inner", AGENT) == "never in time"


class TestStatelessWorkers:
    async def test_they_answer_calls_and_handle_events(self, runtime: Runtime, settle: Settle) -> None:
        @stateless_worker
        class Worker(Scripted):
            pass

        inbox = await register(runtime, Worker, echo)
        keys = ["a", "b", "", "ünicode 🐝", "x" * 1000]
        for key in keys:
            assert await runtime.send_message(key, AgentId("agent", key)) == key
            await runtime.publish_message(f"event {key}", TopicId("t", key))
        await settle(runtime)

        assert sorted(inbox.messages) == sorted([*keys, *(f"event {key}" for key in keys)])
        assert all(each.message in (each.agent.key, f"event {each.agent.key}") for each in inbox.received)

    async def test_they_handle_many_at_once(self, runtime: Runtime) -> None:
        @stateless_worker()
        class Worker(Scripted):
            pass

        gate = Gate()
        await register(runtime, Worker, gate)
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(5)]
        for number in range(5):
            await runtime.publish_message(number, TopicId("t", "k"))
        await until(lambda: gate.entered == 10)
        gate.opened.set()

        assert await asyncio.gather(*calls) == list(range(5))

    async def test_their_subscriptions_can_change(self, runtime: Runtime, settle: Settle) -> None:
        @stateless_worker
        class Worker(Scripted):
            pass

        inbox = await register(runtime, Worker, echo)
        later = TypeSubscription("later", "agent")
        await runtime.add_subscription(later)
        await runtime.publish_message("with", TopicId("later", "k"))
        await settle(runtime)
        await runtime.remove_subscription(later.id)
        await runtime.publish_message("without", TopicId("later", "k"))
        await runtime.publish_message("other", TopicId("t", "k"))
        await settle(runtime)

        assert inbox.messages == ["with", "other"]

    async def test_one_that_fails_affects_no_other(self, runtime: Runtime, settle: Settle) -> None:
        @stateless_worker
        class Worker(Scripted):
            pass

        async def fail_odd(agent: Scripted, message: int, ctx: MessageContext) -> int:
            if message % 2:
                raise ValueError(message)
            return message

        inbox = await register(runtime, Worker, fail_odd)
        for number in range(6):
            await runtime.publish_message(number, TopicId("t", str(number)))
        await settle(runtime)

        assert sorted(set(inbox.messages)) == list(range(6))
