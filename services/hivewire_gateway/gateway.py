"""What the routes of one gateway process share."""

from __future__ import annotations

from dataclasses import dataclass

from hivewire.relay import RelayRuntime
from hivewire_gateway.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A connection to the agents, and what is set."""

    relay: RelayRuntime
    settings: Settings
