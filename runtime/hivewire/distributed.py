"""The distributed runtime, by its public names."""

from __future__ import annotations

import os

from typing_extensions import Unpack

from hivewire.nats.kv_store import KvStore
from hivewire.nats.options import OptionKeywords
from hivewire.nats.runtime import NatsAgentRuntime

__all__ = ["KvStore", "NatsAgentRuntime", "create_distributed_runtime"]


async def create_distributed_runtime(
    broker_url: str | None = None, instance_id: str | None = None, **options: Unpack[OptionKeywords]
) -> NatsAgentRuntime:
    """Return a runtime that is connected: it can send and register, and receives once it is started.

    Args:
        broker_url: `nats://host:4222`, `tls://...`, several separated by commas, or `"embedded"`. Default: the
            environment's BROKER_URL. A `grpc://` address is read as that of a NATS server, with a warning.
        instance_id: A label of this process; several may have the same one. Default: INSTANCE_ID, else the host's name.
        options: See `NatsAgentRuntime`.

    Raises:
        BrokerUnavailableError: no server answers there, or it is too old or has no JetStream.
        ValueError: no address is given, or its scheme is unknown.
    """
    url = broker_url or os.environ.get("BROKER_URL")
    if not url:
        raise ValueError(
            "No broker address: pass broker_url='nats://host:4222', set BROKER_URL, or use broker_url='embedded' for a "
            "server of its own"
        )
    return await NatsAgentRuntime(url, instance_id=instance_id, **options).connect()
