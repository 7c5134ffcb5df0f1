"""How many stored messages wait behind a place in a stream, and which place belongs to a time: asked of the server.

A consumer that is made there answers at once how many messages it would get, and where it begins.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hivewire.nats.broker import Broker

_LIVES_S = 5
_TIMEOUT_S = 10.0
_NANOSECONDS = 1_000_000_000


async def count_waiting(broker: Broker, stream: str, filters: Sequence[str], *, start: int, tidy: bool = True) -> int:
    """Return how many messages from a sequence on match some filters.

    Args:
        tidy: Delete the consumer that tells. Else the server does so after some seconds: whoever serves agents has no
            right to delete any.

    Raises:
        JetStreamError: the server refuses to make the consumer.
        BrokerUnavailableError: nobody answered in time.
    """
    where = {"deliver_policy": "by_start_sequence", "opt_start_seq": start, "filter_subjects": list(filters)}
    return int((await _probe(broker, stream, where, tidy=tidy))["num_pending"])


async def first_since(broker: Broker, stream: str, seconds: float) -> int:
    """Return the first sequence that was stored at or after a time, in seconds since 1970; one that there is not yet,
    if nothing was.

    Raises:
        as `count_waiting`.
    """
    begin = datetime.fromtimestamp(seconds, UTC).isoformat()
    made = await _probe(broker, stream, {"deliver_policy": "by_start_time", "opt_start_time": begin})
    return int(made["delivered"]["stream_seq"]) + 1


async def _probe(broker: Broker, stream: str, where: Mapping[str, Any], *, tidy: bool = True) -> dict[str, Any]:
    name = secrets.token_hex(8)
    config = {
        "name": name,
        "ack_policy": "none",
        "num_replicas": 1,
        "mem_storage": True,
        "inactive_threshold": _LIVES_S * _NANOSECONDS,
        **where,
    }
    body = {"stream_name": stream, "config": config, "action": "create"}
    made = await broker.api(f"CONSUMER.CREATE.{stream}.{name}", body, timeout=_TIMEOUT_S)
    if tidy:
        await broker.api(f"CONSUMER.DELETE.{stream}.{name}", timeout=_TIMEOUT_S)
    return made
