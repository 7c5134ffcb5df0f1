"""Hivewire over NATS without instruments."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from bench.addresses import Addresses
from bench.load import Call
from bench.sides import hivewire_nats
from bench.unmeasured import take_instruments_out

NAMESPACE = "unmeasured"


def server(addresses: Addresses) -> AbstractAsyncContextManager[None]:
    take_instruments_out()
    return hivewire_nats.server(addresses, namespace=NAMESPACE)


def client(addresses: Addresses) -> AbstractAsyncContextManager[Call]:
    take_instruments_out()
    return hivewire_nats.client(addresses, namespace=NAMESPACE)
