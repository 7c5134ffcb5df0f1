"""What the routes of one gateway process share."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hivewire.relay import RelayRuntime
from hivewire_gateway.metrics import Metrics
from hivewire_gateway.open_streams import OpenStreams
from hivewire_gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A connection to the agents, and what is set.

    Attributes:
        draining: Set when the gateway is about to stop. What has no end of its own, such as a stream or a WebSocket,
            ends itself then.
    """

    relay: RelayRuntime
    settings: Settings
    metrics: Metrics = field(init=False)
    open_streams: OpenStreams = field(default_factory=OpenStreams)
    draining: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", Metrics(self.relay.namespace))
