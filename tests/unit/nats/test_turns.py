"""The turns of one process: their order, their context, and what becomes of those that are given up."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from hivewire.agents.base import BaseAgent
from hivewire.agents.catalog import AgentCatalog
from hivewire.agents.concurrency import Concurrency
from hivewire.exceptions import AgentNotFoundError, CantHandleException, DeadlineExceededError, SerializationError
from hivewire.local import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext, MessageHandlerContext, current_turn
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.topics import TopicId
from hivewire.nats.turns import Turn, Turns
from hivewire.telemetry import MessageTracer

AGENT = AgentId("agent", "k")


class Agent(BaseAgent):
    """Waits until it is let go, and notes what it does. It keeps state, so it takes one turn at a time."""

    def __init__(self) -> None:
        super().__init__("an agent")
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.contexts: list[MessageContext] = []
        self.chains: list[tuple[str, ...]] = []
        self.at_end: Callable[[], object] = lambda: None

    async def on_message_impl(self, message: str, ctx: MessageContext) -> str:
        assert MessageHandlerContext.agent_id() == self.id
        turn = current_turn()
        assert turn is not None
        self.chains.append(turn.chain)
        self.contexts.append(ctx)
        self.log.append(f"{message} begins")
        if message == "fail":
            raise ValueError("boom")
        if message in self.gates:
            await self.gates[message].wait()
        self.log.append(f"{message} ends")
        self.at_end()
        return message.upper()

    async def save_state(self) -> Mapping[str, Any]:
        return {"log": self.log}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.log = list(state["log"])


class Stateless(Agent):
    save_state = BaseAgent.save_state


def make(cls: type[Agent] = Agent, concurrency: Concurrency | None = None) -> tuple[Turns, AgentCatalog]:
    catalog = AgentCatalog(SingleThreadedAgentRuntime())
    catalog.add_factory(AgentType("agent"), cls, cls)
    tracer = MessageTracer(None, instance="test")
    return Turns(catalog, SerializerRegistry(), tracer, concurrency=concurrency, record_payloads=False), catalog


async def agent_of(catalog: AgentCatalog) -> Agent:
    agent = await catalog.activate(AGENT)
    assert isinstance(agent, Agent)
    return agent


def turn(message: str, **fields: Any) -> Turn:
    return Turn(
        id=fields.pop("id", message),
        agent=fields.pop("agent", AGENT),
        type_name="str",
        content_type="application/json",
        payload=f'"{message}"'.encode(),
        message_id=f"id of {message}",
        **fields,
    )


def begin(turns: Turns, message: str, **fields: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(turns.run(turn(message, **fields)))


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("cls", "concurrency", "overlap"),
    [(Agent, None, False), (Stateless, None, True), (Agent, "interleaved", True), (Stateless, "serial", False)],
)
async def test_an_agent_with_state_takes_one_turn_at_a_time_and_the_others_overlap(
    cls: type[Agent], concurrency: Concurrency | None, overlap: bool
) -> None:
    turns, catalog = make(cls, concurrency)
    agent = await agent_of(catalog)
    agent.gates["a"] = asyncio.Event()
    running = [begin(turns, message) for message in "abc"]
    await until(lambda: turns.started == 3)
    for _ in range(5):
        await asyncio.sleep(0)
    assert ("b ends" in agent.log) is overlap
    agent.gates["a"].set()
    assert await asyncio.gather(*running) == ["A", "B", "C"]
    assert [entry for entry in agent.log if "begins" in entry] == ["a begins", "b begins", "c begins"]
    assert turns._mailboxes == {}


async def test_a_turn_that_a_running_turn_caused_is_let_in() -> None:
    turns, catalog = make()
    agent = await agent_of(catalog)
    agent.gates["outer"] = asyncio.Event()
    outer = begin(turns, "outer")
    waiting = begin(turns, "waiting")
    await until(lambda: turns.running == 2)
    assert await begin(turns, "inner", chain=("outer", "elsewhere")) == "INNER"
    assert not waiting.done()
    agent.gates["outer"].set()
    assert await asyncio.gather(outer, waiting) == ["OUTER", "WAITING"]
    assert agent.chains == [("outer",), ("outer", "elsewhere", "inner"), ("waiting",)]


async def test_turns_of_agents_that_interleave_are_not_named_in_the_chain() -> None:
    turns, catalog = make(Stateless)
    agent = await agent_of(catalog)
    await turns.run(turn("a", chain=("serial",)))
    assert agent.chains == [("serial",)]


async def test_a_waiting_turn_that_is_cancelled_is_not_run_and_lets_the_next_one_in() -> None:
    turns, catalog = make()
    agent = await agent_of(catalog)
    agent.gates["a"] = asyncio.Event()
    running = begin(turns, "a")
    given_up = turn("b")
    waiting = asyncio.create_task(turns.run(given_up))
    last = begin(turns, "c")
    await until(lambda: turns.running == 3)
    given_up.token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    agent.gates["a"].set()
    assert await asyncio.gather(running, last) == ["A", "C"]
    assert "b begins" not in agent.log
    assert turns._mailboxes == {}


@pytest.mark.parametrize("by", ["token", "task"])
async def test_a_turn_that_is_cancelled_in_the_moment_in_which_its_place_comes_gives_it_on(by: str) -> None:
    turns, catalog = make()
    agent = await agent_of(catalog)
    agent.gates["a"] = asyncio.Event()
    running = begin(turns, "a")
    given_up = turn("b")
    waiting = asyncio.create_task(turns.run(given_up))
    last = begin(turns, "c")
    await until(lambda: turns.running == 3)
    # Called after the first turn has ended, and before the second one learns that it may run.
    cancel = given_up.token.cancel if by == "token" else waiting.cancel
    agent.at_end = lambda: asyncio.get_running_loop().call_soon(cancel)
    agent.gates["a"].set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await asyncio.gather(running, last) == ["A", "C"]
    assert "b begins" not in agent.log


async def test_a_waiting_turn_whose_task_is_cancelled_gives_its_place_on() -> None:
    turns, catalog = make()
    agent = await agent_of(catalog)
    agent.gates["a"] = asyncio.Event()
    running, waiting, last = (begin(turns, message) for message in "abc")
    await until(lambda: turns.running == 3)
    waiting.cancel()
    agent.gates["a"].set()
    assert await asyncio.gather(running, last) == ["A", "C"]
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_turn_whose_time_has_passed_is_not_run() -> None:
    turns, catalog = make()
    with pytest.raises(DeadlineExceededError, match="agent/k had expired"):
        await turns.run(turn("late", deadline=time.monotonic()))
    assert (await agent_of(catalog)).log == []


async def test_a_turn_that_was_cancelled_before_is_not_run() -> None:
    turns, catalog = make()
    given_up = turn("a")
    given_up.token.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turns.run(given_up)
    assert (await agent_of(catalog)).log == []


async def test_errors_reach_whoever_started_the_turn_and_leave_the_mailbox_open() -> None:
    turns, catalog = make()
    with pytest.raises(ValueError, match="boom"):
        await turns.run(turn("fail"))
    with pytest.raises(SerializationError):
        await turns.run(Turn(**{**fields_of(turn("bad")), "payload": b"{"}))
    with pytest.raises(AgentNotFoundError):
        await turns.run(turn("a", agent=AgentId("nobody", "k")))
    assert await turns.run(turn("a")) == "A"
    assert (turns.running, turns.started) == (0, 4)
    assert turns.idle.is_set()
    assert (await agent_of(catalog)).log == ["fail begins", "a begins", "a ends"]


def fields_of(turn: Turn) -> dict[str, Any]:
    return {name: getattr(turn, name) for name in turn.__dataclass_fields__}


async def test_idle_is_told_by_the_last_turn() -> None:
    turns, catalog = make(Stateless)
    agent = await agent_of(catalog)
    agent.gates["a"] = asyncio.Event()
    running = begin(turns, "a")
    await until(lambda: turns.running == 1)
    assert await turns.run(turn("b")) == "B"
    assert not turns.idle.is_set()
    agent.gates["a"].set()
    await running
    assert turns.idle.is_set()


async def test_the_context_says_what_kind_of_message_it_is() -> None:
    turns, catalog = make()
    sender, topic = AgentId("s", "x"), TopicId("t", "k")
    await turns.run(turn("call", sender=sender))
    await turns.run(turn("event", topic=topic))
    call, event = (await agent_of(catalog)).contexts
    assert (call.sender, call.topic_id, call.is_rpc, call.message_id) == (sender, None, True, "id of call")
    assert (event.sender, event.topic_id, event.is_rpc, event.message_id) == (None, topic, False, "id of event")


async def test_an_agent_is_described_and_gives_and_takes_its_state_in_turns_of_its_own() -> None:
    turns, catalog = make()
    await turns.run(turn("a"))
    described = await turns.run(turn("x", operation="metadata"))
    assert described == {"type": "agent", "key": "k", "description": "an agent"}
    assert await turns.run(turn("x", operation="save_state")) == {"log": ["a begins", "a ends"]}
    loading = Turn(**{**fields_of(turn("x", operation="load_state")), "payload": b'{"log":["loaded"]}'})
    assert await turns.run(loading) is None
    assert (await agent_of(catalog)).log == ["loaded"]
    with pytest.raises(CantHandleException, match="knows no operation"):
        await turns.run(turn("x", operation="explode"))
