"""Where the processes of a run find each other."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """The NATS server that all sides share, and a free loopback address for a side's own server."""

    nats_url: str
    own: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Addresses:
        return cls(**json.loads(text))


def free_loopback_address() -> str:
    """Return `127.0.0.1:port` with a port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
