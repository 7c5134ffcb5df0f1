"""The streams of server-sent events that a gateway ends when it drains: their clients go on at another one."""

from __future__ import annotations

import random

from hivewire_gateway.outlets import Outlet
from hivewire_gateway.sse import retry_hint


class OpenStreams:
    """The outlets of open streams that can be resumed elsewhere.

    Args:
        retry_s: Their clients are asked to come back after up to twice this time, each after another one: all at once
            they would be a burden.
    """

    def __init__(self, *, retry_s: float = 2.0) -> None:
        self._retry_s = retry_s
        self._outlets: set[Outlet] = set()
        self._draining = False

    def __len__(self) -> int:
        return len(self._outlets)

    @property
    def draining(self) -> bool:
        """Whether no stream should begin any more."""
        return self._draining

    def add(self, outlet: Outlet) -> None:
        self._outlets.add(outlet)
        if self._draining:
            outlet.end()

    def discard(self, outlet: Outlet) -> None:
        self._outlets.discard(outlet)

    def drain(self) -> None:
        """End all streams, also those that begin later."""
        self._draining = True
        for outlet in self._outlets:
            outlet.end(retry_hint(random.uniform(0.1, 2) * self._retry_s))
