"""Some messages of a stream at once: a reader that ends when it has them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import Broker
from hivewire.nats.stream_reader import StreamMessage, StreamReader
from hivewire.nats.task_scope import TaskScope

_TIMEOUT_S: Final = 10.0
_UNKNOWN_BYTES: Final = 1024


async def read_batch(
    broker: Broker,
    stream: str,
    tasks: TaskScope,
    *,
    filters: Sequence[str],
    start: int,
    limit: int,
    max_bytes: int | None = None,
) -> list[StreamMessage]:
    """Return the first messages from a sequence on that match, at most `limit`, and hardly more than `max_bytes` of
    payloads. It makes a consumer and deletes it: callers see to it that there are never many at a time.

    Raises:
        BrokerUnavailableError: they could not be read within 10 seconds, or the runtime stops.
    """
    found: list[StreamMessage] = []
    complete = asyncio.Event()
    size = 0

    def take(message: StreamMessage) -> None:
        nonlocal size
        if complete.is_set():
            return
        found.append(message)
        size += len(message.payload)
        is_large = max_bytes is not None and size >= max_bytes
        if message.pending == 0 or len(found) >= limit or is_large:
            complete.set()

    def made(waiting: int) -> None:
        if waiting == 0:
            complete.set()

    def room() -> int:
        left = limit - len(found)
        if max_bytes is None:
            return left
        # As much as fits for certain, should all be as large as the ones before.
        return min(left, max(1, (max_bytes - size) // max(size // max(len(found), 1), _UNKNOWN_BYTES)))

    reader = StreamReader(
        broker,
        stream,
        filters=lambda: filters,
        start=lambda: found[-1].sequence + 1 if found else start,
        on_message=take,
        room=room,
        on_made=made,
        tidy=True,
    )
    if tasks.closing:
        raise BrokerUnavailableError("The runtime stops")
    reading = tasks.start(reader.run(), name="hivewire: past events")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await complete.wait()
    except TimeoutError:
        raise BrokerUnavailableError("Past events could not be read in time") from None
    finally:
        reading.cancel()
    return found
