"""A bucket whose keys are read by subjects that name them, so that a user of the broker can be allowed to read some.

Such a read may be answered by a replica that lags behind. So the leader is asked at the same time for the revision of
the key: by a write that names a revision which there never is, and is refused with the one that there is.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from hivewire.exceptions import BrokerUnavailableError
from hivewire.nats.broker import JetStreamError, is_status
from hivewire.nats.buckets import WRONG_LAST_SEQUENCE, Bucket, Entry

_NOT_FOUND: Final = "404"
_NEVER: Final = str(2**53 - 1)
_AGAIN_S: Final = 0.01
_TOLD = re.compile(r"wrong last sequence: (\d+)")


class AddressedBucket(Bucket):
    """One bucket, with `allow_direct`."""

    async def get(self, key: str, *, timeout: float = 10.0) -> Entry:
        """Read a key as the stream's leader has it, so a write of this process is seen.

        Raises:
            BrokerUnavailableError: nobody answered in time, or no replica caught up.
        """
        try:
            async with asyncio.timeout(timeout):
                while True:
                    entry, newest = await asyncio.gather(self._copy(key, timeout), self._revision(key, timeout))
                    if newest is not None and entry.revision >= newest:
                        return entry
                    await asyncio.sleep(_AGAIN_S)
        except TimeoutError:
            raise BrokerUnavailableError(f"{key} of {self.name} could not be read within {timeout:g} s") from None

    async def _copy(self, key: str, timeout: float) -> Entry:
        """Read a key from some replica."""
        answer = await self._broker.ask(f"$JS.API.DIRECT.GET.{self.stream}.{self._subject(key)}", timeout=timeout)
        if is_status(answer, _NOT_FOUND):
            return Entry(None, 0)
        headers = answer.headers or {}
        gone = "KV-Operation" in headers or "Nats-Marker-Reason" in headers
        return Entry(None if gone else answer.data, int(headers["Nats-Sequence"]))

    async def _revision(self, key: str, timeout: float) -> int | None:
        """Ask the leader for the revision of a key; None: a write to it is under way just now."""
        try:
            await self._broker.store(
                self._subject(key),
                b"",
                headers={"Nats-Expected-Last-Subject-Sequence": _NEVER},
                timeout=timeout,
                longest_pause_s=self._longest_pause_s,
            )
        except JetStreamError as error:
            if error.code not in WRONG_LAST_SEQUENCE:
                # Such as one that is full: then nobody else writes either.
                return 0
            told = _TOLD.search(str(error))
            return None if told is None else int(told[1])
        raise BrokerUnavailableError(f"{self.name} takes a write that it has to refuse")
