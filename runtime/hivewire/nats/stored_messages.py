"""Single messages of a stream, read from its leader: one by one, so that a long stream takes the memory of one."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from hivewire.nats.broker import Broker, JetStreamError

_NO_MESSAGE = 10037


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message, and its place in its stream."""

    sequence: int
    subject: str
    headers: Mapping[str, str]
    payload: bytes


async def messages_of(broker: Broker, stream: str, subject_filter: str) -> AsyncIterator[StoredMessage]:
    """Read what is stored by now under the subjects that match, in the order of the stream.

    Raises:
        JetStreamError: there is no such stream.
        BrokerUnavailableError: nobody answers.
    """
    last = int((await broker.api(f"STREAM.INFO.{stream}"))["state"]["last_seq"])
    sequence = 1
    # What is stored meanwhile may be the consequence of what the caller does with these.
    while sequence <= last:
        message = await _get(broker, stream, {"seq": sequence, "next_by_subj": subject_filter})
        if message is None or message.sequence > last:
            return
        yield message
        sequence = message.sequence + 1


async def last_message_of(broker: Broker, stream: str, subject: str) -> StoredMessage | None:
    """Read the last message of one subject; None when there is none.

    Raises:
        as `messages_of`.
    """
    return await _get(broker, stream, {"last_by_subj": subject})


async def message_from(broker: Broker, stream: str, sequence: int, subject: str) -> StoredMessage | None:
    """Read the first message of one subject at or after a sequence; None when there is none.

    Raises:
        as `messages_of`.
    """
    return await _get(broker, stream, {"seq": sequence, "next_by_subj": subject})


async def delete_message(broker: Broker, stream: str, sequence: int) -> None:
    """Delete one message; one that is gone is no error.

    Raises:
        as `messages_of`.
    """
    try:
        await broker.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
    except JetStreamError:
        # What the server says of one that is gone depends on what is left in the stream.
        if await _get(broker, stream, {"seq": sequence}) is not None:
            raise


async def _get(broker: Broker, stream: str, what: Mapping[str, Any]) -> StoredMessage | None:
    try:
        stored = (await broker.api(f"STREAM.MSG.GET.{stream}", what))["message"]
    except JetStreamError as error:
        if error.code == _NO_MESSAGE:
            return None
        raise
    return StoredMessage(
        sequence=int(stored["seq"]),
        subject=stored["subject"],
        headers=_headers(base64.b64decode(stored.get("hdrs", ""))),
        payload=base64.b64decode(stored.get("data", "")),
    )


def _headers(block: bytes) -> dict[str, str]:
    """Read a header block: a line with the version, and one for each header."""
    lines = block.decode(errors="replace").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.strip(): value.strip() for name, _, value in pairs}
