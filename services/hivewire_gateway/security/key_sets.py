"""Public keys of an issuer, as it publishes them: a JSON Web Key Set (RFC 7517).

Keys from an address are fetched in a thread, with a deadline, by one request at a time whoever asks. They are fetched
again when they are old, or when a token names a key that is not among them, the latter at the most every ten seconds:
otherwise anybody could make the gateway flood the issuer. Keys that can't be fetched again stay in use.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import jwt

from hivewire_gateway.security.secrets import WatchedFile

log = logging.getLogger("hivewire.gateway")

_MAX_BYTES = 1_000_000
_RETRY_AFTER_S = 10.0


class KeysUnavailableError(Exception):
    """There are no keys yet, and they can't be fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A key. `algorithm` is the only one that it is for, if it says so."""

    id: str | None
    algorithm: str | None
    key: Any


class KeySet:
    """Keys that check signatures. Symmetric ones and those for encryption are left out."""

    def __init__(self, keys: list[PublicKey]) -> None:
        self._keys = keys

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a JSON Web Key Set.

        Raises:
            ValueError: it is none, or has no key that is of use.
        """
        try:
            document: Any = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("it is not JSON") from None
        if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
            raise ValueError("it is no JSON Web Key Set: there is no list of keys in it")
        keys = [key for entry in document["keys"] if (key := _signature_key(entry)) is not None]
        if not keys:
            raise ValueError("no key in it checks signatures of a kind that is known")
        return cls(keys)

    def find(self, key_id: str | None) -> PublicKey | None:
        """Return the key with an id; without an id, the only one."""
        if key_id is None:
            return self._keys[0] if len(self._keys) == 1 else None
        return next((key for key in self._keys if key.id == key_id), None)


class KeySource(Protocol):
    """Where keys are looked up."""

    async def find(self, key_id: str | None) -> PublicKey | None:
        """Return the key with an id, if there is one.

        Raises:
            KeysUnavailableError: it can't be told now.
        """
        ...


class FileKeys:
    """Keys in a file, which may change."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, KeySet.parse)

    async def find(self, key_id: str | None) -> PublicKey | None:
        return self._file.value.find(key_id)


class FetchedKeys:
    """Keys behind an address."""

    def __init__(
        self, url: str, *, refresh_s: float, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = url
        parts = urlsplit(url)
        # What logs may show of it: it may have a password, or a key in its query.
        self._shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        self._refresh_s = refresh_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: KeySet | None = None
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> PublicKey | None:
        if self._keys is None or self._clock() - self._fetched_at >= self._refresh_s:
            await self._fetch()
        keys = self._keys
        if keys is None:
            raise KeysUnavailableError(f"the keys of the issuer can't be fetched from {self._shown}")
        key = keys.find(key_id)
        if key is None:
            await self._fetch()
            key = self._keys.find(key_id) if self._keys is not None else None
        return key

    async def _fetch(self) -> None:
        wanted_at = self._clock()
        async with self._fetching:
            # Somebody else has fetched while this one waited, or it was tried a moment ago.
            if self._tried_at >= wanted_at or self._clock() - self._tried_at < _RETRY_AFTER_S:
                return
            self._tried_at = self._clock()
            try:
                async with asyncio.timeout(self._timeout_s):
                    text = await asyncio.to_thread(_get, self._url, self._timeout_s)
                self._keys = KeySet.parse(text)
            except (OSError, HTTPException, ValueError) as error:
                log.warning(
                    "can't fetch the keys of the issuer from %s: %s", self._shown, str(error) or "no answer in time"
                )
                return
            self._fetched_at = self._clock()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **options: Any) -> None:
        """Make every redirect an error: the address is the operator's choice, and not the answer's."""


def _get(url: str, timeout_s: float) -> str:
    request = urllib.request.Request(url, headers={"Accept": "application/jwk-set+json, application/json"})
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(request, timeout=timeout_s) as response:
        body: bytes = response.read(_MAX_BYTES + 1)
    if len(body) > _MAX_BYTES:
        raise ValueError(f"the answer is larger than {_MAX_BYTES} bytes")
    return body.decode("utf-8")


def _signature_key(entry: Any) -> PublicKey | None:
    if not isinstance(entry, dict) or entry.get("kty") == "oct" or entry.get("use") == "enc":
        return None
    try:
        return PublicKey(id=entry.get("kid"), algorithm=entry.get("alg"), key=jwt.PyJWK(entry).key)
    except jwt.PyJWTError:
        return None
