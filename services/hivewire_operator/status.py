"""Writes the status of an object, when there is something new to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hivewire_operator.cluster import ApiError, Cluster, Object
from hivewire_operator.conditions import Finding, conditions


async def write_status(
    cluster: Cluster, kind: str, found: Object, findings: Sequence[Finding], fields: Mapping[str, Any], *, now: datetime
) -> None:
    """Bring an object's status up to date. A field that is None goes away. An object that is gone is left alone.

    Raises:
        ApiUnavailableError, ApiError, NotLeadingError: as `Cluster.merge`.
    """
    before: Mapping[str, Any] = found.get("status") or {}
    generation = found["metadata"]["generation"]
    wanted = {
        **fields,
        "observedGeneration": generation,
        "conditions": conditions(before.get("conditions", ()), findings, generation=generation, now=now),
    }
    if all(before.get(name) == value for name, value in wanted.items()):
        return
    metadata = found["metadata"]
    try:
        await cluster.merge(kind, metadata["namespace"], metadata["name"], {"status": wanted}, part="status")
    except ApiError as error:
        if error.status != 404:
            raise
