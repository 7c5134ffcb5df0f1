"""Looks at a system from outside of its processes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from hivewire.nats.broker import Broker
from hivewire.nats.event_stream import EventStream
from hivewire.nats.observation import Observation, TypeObservation
from hivewire.nats.observer import Observer
from hivewire.nats.provisioner import provision
from hivewire.nats.subjects import Subjects

Observe = Callable[[], Awaitable[Observation]]


async def observer_of(broker: Broker, namespace: str) -> Observer:
    """Return what looks at a namespace, which is made if need be."""
    subjects = Subjects(namespace)
    await provision(broker, subjects)
    created = (await broker.api(f"STREAM.INFO.{subjects.events_stream}"))["created"]
    return Observer(broker, subjects, EventStream(broker, subjects.events_stream, created))


async def only_type(observe: Observe) -> TypeObservation:
    """Look at a system with one agent type."""
    (found,) = (await observe()).types
    return found


async def seen(observe: Observe, condition: Callable[[TypeObservation], object], timeout_s: float = 20) -> None:
    """Wait until a condition holds of the only type."""
    found = None
    try:
        async with asyncio.timeout(timeout_s):
            while not condition(found := await only_type(observe)):
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"last seen: {found}")
