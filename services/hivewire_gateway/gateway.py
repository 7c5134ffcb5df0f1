"""What the routes of one gateway process share."""

from __future__ import annotations

from dataclasses import dataclass, field

from hivewire.relay import RelayRuntime
from hivewire_gateway.open_streams import OpenStreams
from hivewire_gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A connection to the agents, and what is set."""

    relay: RelayRuntime
    settings: Settings
    open_streams: OpenStreams = field(default_factory=OpenStreams)
