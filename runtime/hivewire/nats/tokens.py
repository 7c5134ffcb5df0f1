"""Any string as one NATS subject token, and the slot that it hashes to.

Agent keys and topic sources are arbitrary strings; a subject token and a part of a key-value key are not. One injective
code serves both, so a reader can always tell which agent a subject means, and two agents never share a subject.

The slot of a key is the value that the server itself computes with ``partition(256, ...)`` in a subject transform:
FNV-1a, 32 bits, over the bytes of the token. A publisher therefore needs no transform and no registry to address a
shard, and the two never disagree. `SLOT_COUNT` is part of the protocol.
"""

import re
from base64 import b32encode
from functools import lru_cache
from hashlib import sha256
from typing import Final

SLOT_COUNT: Final = 256
"""Number of slots; every shard count divides it."""

MAX_TOKEN_BYTES: Final = 128
"""A token that would be longer is replaced by a hash."""

_EMPTY: Final = "="
_HASH_PREFIX: Final = "=="
_CACHED_TEXT_CHARS: Final = 256

_is_plain = re.compile(r"[A-Za-z0-9_-]{1,128}").fullmatch
_is_hashed = re.compile(r"==[A-Z2-7]{52}").fullmatch
_is_escaped = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2}){1,128}").fullmatch
_UNSAFE_BYTE = re.compile(rb"[^A-Za-z0-9_-]")
_ESCAPE = re.compile(rb"=([0-9A-F]{2})")


def token(text: str) -> str:
    """Write any string as one subject token of at most 128 bytes.

    Bytes of the UTF-8 form outside ``[A-Za-z0-9_-]`` become ``=XX``, the empty string becomes ``=``, and a result over
    128 bytes becomes ``==`` and the unpadded base32 of the SHA-256 of the UTF-8 form. Different strings have different
    tokens (for hashed ones: as far as SHA-256 goes).

    Raises:
        ValueError: The string holds a lone surrogate, so it has no UTF-8 form.
    """
    if _is_plain(text):
        return text
    # The cache is bounded in entries, so what it keeps has to be short.
    return _cached_encoding(text) if len(text) <= _CACHED_TEXT_CHARS else _encoding(text)


def untoken(token: str) -> str | None:
    """Read a token back. None stands for a hashed token, whose text it can't tell.

    Raises:
        ValueError: Not a token that `token` makes: each string has exactly one.
    """
    if _is_plain(token):
        return token
    if token == _EMPTY:
        return ""
    if _is_hashed(token):
        return None
    if not _is_escaped(token):
        raise ValueError(f"{token!r} is not a subject token: expected [A-Za-z0-9_-] and =XX escapes, or a hash")
    try:
        text = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), token.encode()).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{token!r} is not a subject token: its escapes are not UTF-8") from error
    if _encoding(text) != token:
        raise ValueError(f"{token!r} is not a subject token: {text!r} is written as {_encoding(text)!r}")
    return text


def is_hashed(token: str) -> bool:
    """Tell whether a token stands for a text that was too long and has to travel beside it."""
    return token.startswith(_HASH_PREFIX)


def slot(key: str) -> int:
    """Return the slot of an agent key or a topic source, 0 to 255.

    Raises:
        ValueError: The key holds a lone surrogate.
    """
    return slot_of_token(token(key))


@lru_cache(maxsize=16_384)
def slot_of_token(token: str) -> int:
    """Return the slot of a token, 0 to 255."""
    return fnv1a32(token.encode("ascii")) % SLOT_COUNT


def fnv1a32(data: bytes) -> int:
    """Hash bytes by FNV-1a with 32 bits: offset basis 0x811C9DC5, prime 0x01000193."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def _encoding(text: str) -> str:
    if not text:
        return _EMPTY
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        shown = ascii(text[:80])
        raise ValueError(
            f"{shown} holds the lone surrogate U+{ord(text[error.start]):04X} and has no UTF-8 form; agent keys, agent "
            "types and topics must be valid Unicode"
        ) from error
    escaped = _UNSAFE_BYTE.sub(lambda byte: b"=%02X" % byte[0][0], data)
    if len(escaped) > MAX_TOKEN_BYTES:
        return _HASH_PREFIX + b32encode(sha256(data).digest()).decode().rstrip("=")
    return escaped.decode()


_cached_encoding = lru_cache(maxsize=16_384)(_encoding)
