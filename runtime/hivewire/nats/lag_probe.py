"""How many stored messages wait behind a place in a stream: asked of the server.

A consumer that is made there answers at once how many messages it would get.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from hivewire.nats.broker import Broker

_LIVES_S = 5
_TIMEOUT_S = 10.0
_NANOSECONDS = 1_000_000_000


async def count_waiting(broker: Broker, stream: str, filters: Sequence[str], *, start: int) -> int:
    """Return how many messages from a sequence on match some filters.

    Raises:
        JetStreamError: the server refuses to make the consumer.
        BrokerUnavailableError: nobody answered in time.
    """
    name = secrets.token_hex(8)
    config = {
        "name": name,
        "ack_policy": "none",
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": start,
        "filter_subjects": list(filters),
        "num_replicas": 1,
        "mem_storage": True,
        "inactive_threshold": _LIVES_S * _NANOSECONDS,
    }
    body = {"stream_name": stream, "config": config, "action": "create"}
    made = await broker.api(f"CONSUMER.CREATE.{stream}.{name}", body, timeout=_TIMEOUT_S)
    await broker.api(f"CONSUMER.DELETE.{stream}.{name}", timeout=_TIMEOUT_S)
    return int(made["num_pending"])
