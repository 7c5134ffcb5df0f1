"""What the broker keeps of a namespace: states, positions and dead letters, read and changed by a raw client."""

import json
from dataclasses import replace
from typing import Any

from nats.aio.client import Client
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from hivewire import AgentId
from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.positions import Position
from hivewire.nats.state_records import StateRecord
from hivewire.nats.subjects import Subjects
from hivewire.nats.tokens import slot


class Stored:
    """The records of one namespace. Its writes look like those of another process."""

    def __init__(self, client: Client, namespace: str) -> None:
        self._js = client.jetstream()
        self._subjects = Subjects(namespace)

    async def state(self, agent: AgentId) -> StateRecord | None:
        entry = await self._entry(self._subjects.state_bucket, self._subjects.state_key(agent.type, agent.key))
        return None if entry is None else StateRecord.from_json(entry.data or b"")

    async def raw_state(self, agent: AgentId) -> bytes | None:
        entry = await self._entry(self._subjects.state_bucket, self._subjects.state_key(agent.type, agent.key))
        return None if entry is None else entry.data

    async def revision(self, agent: AgentId) -> int:
        entry = await self._entry(self._subjects.state_bucket, self._subjects.state_key(agent.type, agent.key))
        return 0 if entry is None or entry.seq is None else entry.seq

    async def write_state(self, agent: AgentId, state: Any, **changes: Any) -> None:
        """Write an agent's state past whoever owns it."""
        record = await self.state(agent) or StateRecord(agent=agent, state=None, stream="")
        record = replace(record, state=json.dumps(state), writer="another", **changes)
        await self.write_raw_state(agent, record.to_json())

    async def write_raw_state(self, agent: AgentId, payload: bytes) -> None:
        key = self._subjects.state_key(agent.type, agent.key)
        await self._js.publish(self._subjects.bucket_subject(self._subjects.state_bucket, key), payload)

    async def position(self, agent: AgentId, shards: int = 16) -> Position:
        """Return the position of the shard that an agent is in."""
        entry = await self._entry(self._subjects.positions_bucket, self._position_key(agent, shards))
        assert entry is not None
        return Position.from_json(entry.data or b"")

    async def position_size(self, agent: AgentId, shards: int = 16) -> int:
        entry = await self._entry(self._subjects.positions_bucket, self._position_key(agent, shards))
        assert entry is not None
        return len(entry.data or b"")

    async def write_position(self, agent: AgentId, position: Position, shards: int = 16) -> None:
        subject = self._subjects.bucket_subject(self._subjects.positions_bucket, self._position_key(agent, shards))
        await self._js.publish(subject, position.to_json())

    async def delete_position(self, agent: AgentId, shards: int = 16) -> None:
        subject = self._subjects.bucket_subject(self._subjects.positions_bucket, self._position_key(agent, shards))
        await self._js.publish(subject, b"", headers={"KV-Operation": "DEL"})

    async def dead_letters(self) -> list[DeadLetter]:
        """Return all dead letters, the oldest first."""
        stream = self._subjects.dead_stream
        info = await self._js.stream_info(stream)
        letters = []
        for sequence in range(max(info.state.first_seq, 1), info.state.last_seq + 1):
            message = await self._js.get_msg(stream, sequence)
            letters.append(DeadLetter.decode(message.headers or {}, message.data or b""))
        return letters

    async def events(self) -> list[RawStreamMsg]:
        """Return all messages of the event stream, markers apart."""
        stream = self._subjects.events_stream
        info = await self._js.stream_info(stream)
        messages = [
            await self._js.get_msg(stream, number)
            for number in range(max(info.state.first_seq, 1), info.state.last_seq + 1)
        ]
        prefix = self._subjects.markers.removesuffix("*")
        return [message for message in messages if not (message.subject or "").startswith(prefix)]

    def _position_key(self, agent: AgentId, shards: int) -> str:
        return self._subjects.position_key(agent.type, slot(agent.key) % shards)

    async def _entry(self, bucket: str, key: str) -> RawStreamMsg | None:
        try:
            entry = await self._js.get_last_msg(f"KV_{bucket}", self._subjects.bucket_subject(bucket, key))
        except NotFoundError:
            return None
        return None if entry.headers and "KV-Operation" in entry.headers else entry
