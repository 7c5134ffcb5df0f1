"""How a command that only talks to agents reaches the broker.

Such a command makes nothing there. A runtime makes the streams of its namespace when it connects, so it is first seen
that the namespace exists: a mistyped one would otherwise leave streams behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hivewire.cli.errors import CommandError, UsageError
from hivewire.distributed import NatsAgentRuntime
from hivewire.nats.addresses import checked_url
from hivewire.nats.broker import Broker, JetStreamError
from hivewire.nats.options import RuntimeOptions
from hivewire.nats.subjects import Subjects

_STREAM_NOT_FOUND = 10059


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """An open connection to a namespace that exists."""

    broker: Broker
    subjects: Subjects
    stream_created: str
    last_sequence: int


def checked_broker(url: str) -> str:
    """Return a broker's address.

    Raises:
        UsageError: there is none, or it is malformed.
    """
    if url == "embedded":
        raise UsageError("an embedded broker has no agents to talk to: give the address that `hivewire dev` prints")
    return checked_worker_broker(url)


def checked_worker_broker(url: str) -> str:
    """Do the same for a process that may have a broker of its own.

    Raises:
        UsageError: there is none, or it is malformed.
    """
    if not url:
        raise UsageError("no broker address: use --broker nats://host:4222, or set BROKER_URL")
    if url == "embedded":
        return url
    try:
        return checked_url(url)
    except ValueError as error:
        raise UsageError(str(error)) from None


def checked_subjects(namespace: str) -> Subjects:
    """Return the names of a namespace.

    Raises:
        UsageError: it is malformed.
    """
    try:
        return Subjects(namespace)
    except ValueError as error:
        raise UsageError(str(error)) from None


@asynccontextmanager
async def open_namespace(url: str, namespace: str, *, name: str, credentials: str = "") -> AsyncIterator[Namespace]:
    """Connect to a namespace, with a credentials file if one is named.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace, or JetStream refused something in it.
        BrokerUnavailableError: nobody answers there, or the login is refused.
    """
    subjects = checked_subjects(namespace)
    broker = Broker(
        checked_broker(url),
        name=f"hivewire {name}",
        credentials=credentials or None,
        inbox=subjects.replies(RuntimeOptions().deployment),
    )
    await broker.open()
    try:
        info = await _events_stream(broker, subjects)
        yield Namespace(
            broker=broker,
            subjects=subjects,
            stream_created=str(info["created"]),
            last_sequence=int(info["state"]["last_seq"]),
        )
    except JetStreamError as error:
        raise CommandError(f"NATS at {broker.address}: {error}") from error
    finally:
        await broker.close()


@asynccontextmanager
async def open_runtime(
    url: str, namespace: str, *, name: str, credentials: str = ""
) -> AsyncIterator[NatsAgentRuntime]:
    """Connect a runtime that sends and publishes in a namespace, and serves nothing.

    Raises:
        as `open_namespace`.
    """
    async with open_namespace(url, namespace, name=name, credentials=credentials):
        pass
    runtime = NatsAgentRuntime(url, namespace=namespace, instance_id=name, credentials=credentials or None)
    await runtime.connect()
    try:
        yield runtime
    finally:
        await runtime.stop()


async def _events_stream(broker: Broker, subjects: Subjects) -> dict[str, Any]:
    try:
        return await broker.api(f"STREAM.INFO.{subjects.events_stream}")
    except JetStreamError as error:
        if error.code != _STREAM_NOT_FOUND:
            raise CommandError(f"NATS at {broker.address}: {error}") from error
        raise CommandError(
            f"there is no namespace {subjects.namespace!r} at {broker.address}: no process that serves agents has "
            "been there; check --namespace"
        ) from None
