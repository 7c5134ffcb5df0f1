"""What a worker and a gateway say to each other, as bytes: a JSON header and a payload.

A frame is four bytes, the length of the header (unsigned, big-endian), the header, and the payload, which is never
looked into. See `docs/worker-protocol.md`.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Final

__all__ = [
    "HEADER_BYTES",
    "PING_INTERVAL_S",
    "PING_TIMEOUT_S",
    "SUBPROTOCOL",
    "FrameError",
    "Header",
    "decode_frame",
    "encode_frame",
]

SUBPROTOCOL: Final = "hivewire.v1"
"""The WebSocket subprotocol that both sides have to name."""

HEADER_BYTES: Final = 256 * 1024
"""The longest header. A frame is at most so much longer than the largest payload that the broker takes."""

PING_INTERVAL_S: Final = 8.0
PING_TIMEOUT_S: Final = 10.0
"""Both sides ping each other, and leave a peer that does not answer: within these two times together."""

Header = dict[str, Any]

_LENGTH: Final = struct.Struct(">I")


class FrameError(ValueError):
    """Bytes that are not a frame."""


def encode_frame(header: Header, payload: bytes = b"") -> bytes:
    """Write a frame.

    Raises:
        ValueError: the header is longer than `HEADER_BYTES`.
    """
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > HEADER_BYTES:
        raise ValueError(f"{len(text)} bytes of names and ids go with a message, and at most {HEADER_BYTES} may")
    return b"%b%b%b" % (_LENGTH.pack(len(text)), text, payload)


def decode_frame(frame: bytes) -> tuple[Header, bytes]:
    """Read a frame.

    Raises:
        FrameError: it is none.
    """
    if len(frame) < _LENGTH.size:
        raise FrameError(f"a frame of {len(frame)} bytes")
    (length,) = _LENGTH.unpack_from(frame)
    end = _LENGTH.size + length
    if length > HEADER_BYTES or end > len(frame):
        raise FrameError(f"a frame of {len(frame)} bytes whose header is to have {length}")
    try:
        header = json.loads(frame[_LENGTH.size : end])
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a header that is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise FrameError("a header that is not a JSON object")
    return header, frame[end:]
