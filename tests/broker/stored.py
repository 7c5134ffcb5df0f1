"""What a test finds stored at the broker."""

import asyncio
import json
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.subjects import Subjects


async def api(client: Client, operation: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
    """Ask the JetStream API."""
    payload = b"" if request is None else json.dumps(request).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{operation}", payload, timeout=10)).data)
    assert "error" not in answer, answer
    return answer


async def take(client: Client, stream: str, consumer: str) -> Msg:
    """Take one message through a durable consumer."""
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
    # It comes under its own subject, by which the client would not find a request of the other kind.
    return await client.request(pull, b'{"batch":1,"expires":15000000000}', timeout=20, old_style=True)


async def dead_letters(client: Client, namespace: str, *, at_least: int = 0) -> list[DeadLetter]:
    """Return the dead letters, once there are so many."""
    stream = Subjects(namespace).dead_stream
    async with asyncio.timeout(30):
        while (number := (await api(client, f"STREAM.INFO.{stream}"))["state"]["messages"]) < at_least:
            await asyncio.sleep(0.05)
    letters = []
    for sequence in range(1, number + 1):
        stored = await client.jetstream().get_msg(stream, sequence)
        letters.append(DeadLetter.decode(stored.headers or {}, stored.data or b""))
    return letters
