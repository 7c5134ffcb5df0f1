"""An agent, a store and a process's `Turns` without a broker."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hivewire.agents.base import BaseAgent
from hivewire.agents.catalog import AgentCatalog
from hivewire.exceptions import BrokerUnavailableError
from hivewire.local import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext, MessageHandlerContext, TurnContext, current_turn
from hivewire.model.ids import AgentId, AgentType
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.topics import TopicId
from hivewire.nats.activations import Activations
from hivewire.nats.buckets import Bucket, Entry, WriteConflictError
from hivewire.nats.state_records import StateRecord
from hivewire.nats.subjects import Subjects
from hivewire.nats.turn import Turn
from hivewire.nats.turns import Turns
from hivewire.telemetry import MessageTracer, RuntimeMetrics

AGENT = AgentId("agent", "k")
TOPIC = TopicId("t", "k")
STREAM = "2026-01-01"


class MemoryBucket(Bucket):
    """Keeps its keys in memory. `writes` lists the keys in the order in which they were written.

    `fail_next` is raised by the next `put`, and `written` tells whether that one is stored nevertheless.
    """

    def __init__(self) -> None:
        self.name = "memory"
        self.entries_by_key: dict[str, Entry] = {}
        self.revision = 0
        self.reads: list[str] = []
        self.writes: list[str] = []
        self.unreadable = False
        self.fail_next: BaseException | None = None
        self.written = False
        self.before_write: Callable[[], Any] = lambda: None

    async def get(self, key: str, *, timeout: float = 10.0) -> Entry:
        await asyncio.sleep(0)
        self.reads.append(key)
        if self.unreadable:
            raise BrokerUnavailableError("nobody answered")
        return self.entries_by_key.get(key, Entry(None, 0))

    async def put(
        self, key: str, value: bytes, *, revision: int, ttl_s: int | None = None, timeout: float = 10.0
    ) -> int:
        await asyncio.sleep(0)
        self.before_write()
        error, self.fail_next = self.fail_next, None
        if error is not None and not self.written:
            raise error
        found = self.entries_by_key.get(key, Entry(None, 0))
        if found.revision != revision:
            raise WriteConflictError(f"{key}: expected revision {revision}, found {found.revision}")
        self.revision += 1
        self.entries_by_key[key] = Entry(value, self.revision)
        self.writes.append(key)
        if error is not None:
            raise error
        return self.revision


class Recorder(BaseAgent):
    """Waits until it is let go, and notes what it does. It keeps state, so it takes one turn at a time.

    The message "fail" fails, and "look" changes nothing. `calls` are what it does in the middle of a message.
    """

    closed = 0

    def __init__(self) -> None:
        super().__init__("an agent")
        self.log: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.contexts: list[MessageContext] = []
        self.turns: list[TurnContext] = []
        self.calls: dict[str, Callable[[], Any]] = {}
        self.at_end: Callable[[], object] = lambda: None

    async def on_message_impl(self, message: str, ctx: MessageContext) -> str:
        assert MessageHandlerContext.agent_id() == self.id
        turn = current_turn()
        assert turn is not None
        self.turns.append(turn)
        self.contexts.append(ctx)
        if message == "look":
            return ", ".join(self.log)
        self.log.append(f"{message} begins")
        if message == "fail":
            raise ValueError("boom")
        if message in self.gates:
            await self.gates[message].wait()
        if message in self.calls:
            await self.calls[message]()
        self.log.append(f"{message} ends")
        self.at_end()
        return message.upper()

    @property
    def chains(self) -> list[tuple[str, ...]]:
        return [each.chain for each in self.turns]

    async def save_state(self) -> Mapping[str, Any]:
        return {"log": self.log}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.log = list(state["log"])


class Stateless(Recorder):
    save_state = BaseAgent.save_state


class Process:
    """One process: its agents, its turns, and the bucket that it may share with others."""

    def __init__(self, cls: type[Recorder] = Recorder, *, bucket: MemoryBucket | None = None, **options: Any) -> None:
        self.bucket = bucket or MemoryBucket()
        self.subjects = Subjects("test")
        self.stream = STREAM
        self.holds_session = True
        self.gates: dict[str, asyncio.Event] = {}
        self.calls: dict[str, Callable[[], Any]] = {}
        self.runtime = SingleThreadedAgentRuntime()
        self.catalog = AgentCatalog(self.runtime)
        for agent_type in ("agent", "other"):
            self.catalog.add_factory(AgentType(agent_type), lambda: self._built(cls), cls)
        self.serializers = SerializerRegistry()
        self.metrics = RuntimeMetrics("test", component="worker", version="0")
        self.activations = Activations(
            self.catalog,
            self.serializers,
            self.bucket,
            self.subjects,
            self.metrics,
            stream=lambda: self.stream,
        )
        tracer = MessageTracer(None, instance="test")
        options = {"concurrency": None, "record_payloads": False, **options}
        self.turns = Turns(
            self.catalog,
            self.serializers,
            tracer,
            self.metrics,
            self.activations,
            may_start=lambda: self.holds_session,
            **options,
        )
        self.built: list[Recorder] = []

    def _built(self, cls: type[Recorder]) -> Recorder:
        agent = cls()
        # Whichever agent handles a message, the test lets it go.
        agent.gates, agent.calls = self.gates, self.calls
        self.built.append(agent)
        return agent

    async def agent(self, agent_id: AgentId = AGENT) -> Recorder:
        agent = await self.catalog.activate(agent_id)
        assert isinstance(agent, Recorder)
        return agent

    @property
    def begun(self) -> list[str]:
        """The messages that any agent has begun with, those that the agents were loaded with among them."""
        return [entry.split()[0] for agent in self.built for entry in agent.log if entry.endswith(" begins")]

    def live(self, agent_id: AgentId = AGENT) -> Recorder | None:
        agent = self.catalog.live(agent_id)
        assert agent is None or isinstance(agent, Recorder)
        return agent

    def begin(self, message: str, **fields: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.turns.run(turn(message, **fields)))

    def begin_event(self, message: str, sequence: int, **fields: Any) -> asyncio.Task[Any]:
        return asyncio.create_task(self.turns.run(event(message, sequence, **fields)))

    def gate(self, message: str) -> asyncio.Event:
        """Make the handler of a message wait."""
        gate = self.gates[message] = asyncio.Event()
        return gate

    def record(self, agent_id: AgentId = AGENT) -> StateRecord | None:
        """Return what is stored of an agent."""
        entry = self.bucket.entries_by_key.get(self.subjects.state_key(agent_id.type, agent_id.key))
        return None if entry is None or entry.value is None else StateRecord.from_json(entry.value)

    def store(self, state: str | None, *, agent_id: AgentId = AGENT, **fields: Any) -> None:
        """Store a record as another process would."""
        record = StateRecord(agent=agent_id, state=state, **{"stream": STREAM, "writer": "another", **fields})
        self.bucket.revision += 1
        key = self.subjects.state_key(agent_id.type, agent_id.key)
        self.bucket.entries_by_key[key] = Entry(record.to_json(), self.bucket.revision)


def turn(message: str, **fields: Any) -> Turn:
    values: dict[str, Any] = {
        "id": message,
        "agent": AGENT,
        "type_name": "str",
        "content_type": "application/json",
        "payload": f'"{message}"'.encode(),
        "message_id": f"id of {message}",
        "stream": STREAM,
        **fields,
    }
    return Turn(**values)


def event(message: str, sequence: int, **fields: Any) -> Turn:
    return turn(message, **{"sequence": sequence, "topic": TOPIC, "origin": f"agent/k/{STREAM}/{sequence}", **fields})


async def called(answer: Awaitable[Any]) -> Any:
    """Await something as a call of the turn that runs."""
    running = current_turn()
    nested = running.nested if running is not None else None
    if nested is None:
        return await answer
    nested.step_out()
    try:
        return await answer
    finally:
        await nested.step_in()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def rounds(count: int = 20) -> None:
    """Let everything go as far as it can."""
    for _ in range(count):
        await asyncio.sleep(0)
