"""Bearer tokens that the gateway's own operator hands out. Only their hashes are stored.

A token has 256 random bits, so a plain SHA-256 hides it: there is nothing to guess, and nothing to slow down.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import sha256
from typing import Self

from hivewire_gateway.security.principal_names import check_name

_PREFIX = "hw_"
_LINE = re.compile(r"(?P<name>\S+)\s+sha256:(?P<hash>[0-9a-fA-F]{64})")


class StaticTokens:
    """Tells whose token one is. A principal may have several, so that they can be changed one by one."""

    def __init__(self, hashes: dict[bytes, str]) -> None:
        self._hashes = tuple(hashes.items())

    def __len__(self) -> int:
        return len(self._hashes)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read lines of a name and `sha256:` with the hash of a token; `#` begins a comment.

        Raises:
            ValueError: a line is none of that; its number is in the text, and nothing else of it.
        """
        hashes: dict[bytes, str] = {}
        for number, line in enumerate(text.splitlines(), 1):
            content = line.partition("#")[0].strip()
            if not content:
                continue
            match = _LINE.fullmatch(content)
            if match is None:
                raise ValueError(f"line {number} is not a name, a space and sha256: with 64 hexadecimal digits")
            name = check_name(match["name"], f"the name in line {number}")
            digest = bytes.fromhex(match["hash"])
            if hashes.setdefault(digest, name) != name:
                raise ValueError(f"line {number} has a token that another principal has too")
        return cls(hashes)

    def principal_name(self, token: str) -> str | None:
        """Return whose token it is. How long it takes says nothing about the tokens that are stored."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, name in self._hashes:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def new_token() -> str:
    """Return a fresh token."""
    return _PREFIX + secrets.token_urlsafe(32)


def token_line(name: str, token: str) -> str:
    """Return the line of a tokens file for a token.

    Raises:
        ValueError: the name can't be a principal's.
    """
    if "#" in name:
        raise ValueError("the name must not have a #, which begins a comment")
    return f"{check_name(name, 'the name')} sha256:{sha256(token.encode()).hexdigest()}"
