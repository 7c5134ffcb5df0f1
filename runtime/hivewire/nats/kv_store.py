"""A key-value store for programs, on the broker of their runtime."""

from __future__ import annotations

import json
from typing import Any

from hivewire.exceptions import SerializationError, StateConflictError
from hivewire.nats.broker import JetStreamError
from hivewire.nats.buckets import Bucket, WriteConflictError
from hivewire.nats.provisioner import provision_bucket
from hivewire.nats.runtime import NatsAgentRuntime
from hivewire.nats.tokens import token

_WRITE_ATTEMPTS = 20


class KvStore:
    """An asynchronous store of JSON values that all processes share. The bucket is made at the first use.

    Keys may be any string. Every value has a revision, which `compare_and_set` names.
    """

    def __init__(self, runtime: NatsAgentRuntime, bucket: str) -> None:
        self._broker = runtime._broker
        self._bucket = Bucket(self._broker, f"{runtime._subjects.namespace}_KV_{token(bucket)}")
        self._made = False

    async def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or `default` if there is none."""
        await self._make()
        entry = await self._bucket.get(token(key))
        return default if entry.value is None else json.loads(entry.value)

    async def get_with_revision(self, key: str) -> tuple[Any, int]:
        """Return a value and its revision, for `compare_and_set`; None for a key that is not there, with the revision 0
        if it never was."""
        await self._make()
        entry = await self._bucket.get(token(key))
        return (None if entry.value is None else json.loads(entry.value)), entry.revision

    async def set(self, key: str, value: Any) -> None:
        """Write a value, whatever was there.

        Raises:
            SerializationError: it is not a JSON value.
            StateConflictError: others write the key all the time.
        """
        payload = _encoded(value)
        await self._make()
        for _ in range(_WRITE_ATTEMPTS):
            entry = await self._bucket.get(token(key))
            try:
                await self._bucket.put(token(key), payload, revision=entry.revision)
                return
            except WriteConflictError:
                continue
        raise StateConflictError(f"Key {key!r} is written all the time by others")

    async def compare_and_set(self, key: str, value: Any, revision: int) -> int:
        """Write a value if the key is still at `revision`; return the new one.

        Raises:
            StateConflictError: the key is at another revision.
            SerializationError: it is not a JSON value.
        """
        payload = _encoded(value)
        await self._make()
        try:
            return await self._bucket.put(token(key), payload, revision=revision)
        except WriteConflictError as error:
            raise StateConflictError(f"Key {key!r} was changed since revision {revision}") from error

    async def delete(self, key: str) -> None:
        """Delete a key; one that is not there is no error."""
        await self._make()
        entry = await self._bucket.get(token(key))
        if entry.value is not None:
            try:
                await self._bucket.delete(token(key), revision=entry.revision)
            except (WriteConflictError, JetStreamError) as error:
                raise StateConflictError(f"Key {key!r} was changed while it was deleted") from error

    async def _make(self) -> None:
        if not self._made:
            await provision_bucket(self._broker, self._bucket.name)
            self._made = True


def _encoded(value: Any) -> bytes:
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise SerializationError(f"Not a JSON value: {error}") from error
