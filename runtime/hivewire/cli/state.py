"""`hivewire state`: what is stored of agents."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from hivewire.cli.arguments import agent_id, agent_type
from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.errors import CommandError, complain, one_line
from hivewire.cli.messages import payload_as_json
from hivewire.cli.terminal import json_text
from hivewire.exceptions import UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.model.serialization import UnknownPayload
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.state_values import decode_state
from hivewire.nats.buckets import Bucket, Entry, WriteConflictError
from hivewire.nats.state_records import StateRecord
from hivewire.nats.subjects import type_token

_AT_ONCE = 64
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


def get(agent: str, *, whole_record: bool, broker: str, namespace: str, credentials: str = "") -> None:
    """Print the state of an agent, or its whole record as it is stored.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace or state, or the state can't be read.
        UnsupportedFormatError: a newer version wrote it.
        HivewireError: there is no broker.
    """
    wanted = agent_id(agent)
    entry = asyncio.run(_get(wanted, open_namespace(broker, namespace, name="state", credentials=credentials)))
    assert entry.value is not None
    try:
        record = StateRecord.from_json(entry.value)
        shown = json.loads(entry.value) if whole_record else readable(record)
    except UnsupportedFormatError:
        raise
    except _UNREADABLE as error:
        raise CommandError(f"the state of {agent} can't be read: {error!r}") from error
    print(json_text(shown))


def ls(only_type: str | None, *, as_json: bool, broker: str, namespace: str, credentials: str = "") -> None:
    """Print which agents have a stored state, its size, and the sequence of the last event that it knows.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace.
        HivewireError: there is no broker.
    """
    pattern = "*.*" if only_type is None else f"{type_token(agent_type(only_type))}.*"
    asyncio.run(_ls(pattern, as_json, open_namespace(broker, namespace, name="state", credentials=credentials)))


def rm(agent: str, *, broker: str, namespace: str, credentials: str = "") -> None:
    """Remove the state of an agent.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace or state, or it was written meanwhile.
        UnsupportedFormatError: a newer version wrote it.
        HivewireError: there is no broker.
    """
    asyncio.run(_rm(agent_id(agent), open_namespace(broker, namespace, name="state", credentials=credentials)))


def readable(record: StateRecord) -> Any:
    """Return a state as JSON values. An object in it becomes the JSON that it is stored as, or, where that is none, an
    object with its bytes in base64.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it can't be read.
    """
    if record.state is None:
        return None
    # This process has none of the agents' classes, which is what the warnings tell.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        value = decode_state(record.state, _NO_CLASSES, strict=False)
    return json.loads(json.dumps(value, default=_as_json))


def _as_json(value: Any) -> Any:
    if not isinstance(value, UnknownPayload):
        encoded = _NO_CLASSES.encode(value)
        value = UnknownPayload(encoded.type_name, encoded.content_type, encoded.payload)
    return json.loads(payload_as_json(value.type_name, value.data_content_type, value.payload))


async def _get(agent: AgentId, opening: AbstractAsyncContextManager[Namespace]) -> Entry:
    async with opening as opened:
        return await _stored(opened, agent)


async def _stored(opened: Namespace, agent: AgentId) -> Entry:
    subjects = opened.subjects
    entry = await Bucket(opened.broker, subjects.state_bucket).get(subjects.state_key(agent.type, agent.key))
    if entry.value is None:
        raise CommandError(f"there is no state of {agent}: `hivewire state ls` shows what there is")
    return entry


async def _ls(pattern: str, as_json: bool, opening: AbstractAsyncContextManager[Namespace]) -> None:
    async with opening as opened:
        found = False
        async for key, entry in _entries(opened, pattern):
            if not found and not as_json:
                print(f"{'BYTES':>9} {'LAST EVENT':>12}   AGENT")
            found = True
            assert entry.value is not None
            _print_row(key, entry.value, as_json)
        if not found and not as_json:
            print("There is no stored state.")


async def _entries(opened: Namespace, pattern: str) -> AsyncIterator[tuple[str, Entry]]:
    """Read the keys that there are, and then their values, a few at a time."""
    bucket = Bucket(opened.broker, opened.subjects.state_bucket)
    keys = await bucket.keys(pattern)
    for begin in range(0, len(keys), _AT_ONCE):
        some = keys[begin : begin + _AT_ONCE]
        for key, entry in zip(some, await asyncio.gather(*map(bucket.get, some)), strict=True):
            if entry.value is not None:
                yield key, entry


def _print_row(key: str, value: bytes, as_json: bool) -> None:
    try:
        record = StateRecord.from_json(value)
    except _UNREADABLE as error:
        complain(f"the record {key} can't be read: {error}")
        return
    if as_json:
        row = {"agent": str(record.agent), "bytes": len(value), "last": record.last, "dead": record.dead}
        print(json.dumps(row, ensure_ascii=False))
    else:
        print(f"{len(value):>9} {record.last:>12}   {one_line(record.agent)}")


async def _rm(agent: AgentId, opening: AbstractAsyncContextManager[Namespace]) -> None:
    async with opening as opened:
        entry = await _stored(opened, agent)
        assert entry.value is not None
        try:
            what = f"last event {StateRecord.from_json(entry.value).last}"
        except UnsupportedFormatError:
            raise
        except _UNREADABLE:
            what = "which could not be read"
        subjects = opened.subjects
        try:
            await Bucket(opened.broker, subjects.state_bucket).delete(
                subjects.state_key(agent.type, agent.key), revision=entry.revision
            )
        except WriteConflictError:
            raise CommandError(f"the state of {agent} was written meanwhile, and is still there: try again") from None
    print(f"removed the state of {one_line(agent)}: {len(entry.value)} bytes, {what}")


_NO_CLASSES = SerializerRegistry()
