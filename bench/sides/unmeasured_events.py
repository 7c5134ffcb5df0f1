"""The same events without instruments."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from bench.addresses import Addresses
from bench.load import Call
from bench.sides import hivewire_events
from bench.unmeasured import take_instruments_out


def client(addresses: Addresses) -> AbstractAsyncContextManager[Call]:
    take_instruments_out()
    return hivewire_events.publishing(addresses.nats_url, namespace="unmeasured")
