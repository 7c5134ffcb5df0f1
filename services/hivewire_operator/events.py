"""What the operator tells in the Events of Kubernetes: what `kubectl describe` shows of an object."""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Literal

from hivewire_operator.cluster import ApiError, ApiUnavailableError, Cluster, Object
from hivewire_operator.resources.fields import GROUP, VERSION

log = logging.getLogger("hivewire.operator")

_NOTE_CHARS = 1_000


class Recorder:
    """Writes Events. One that can't be written is logged, as nothing depends on it."""

    def __init__(self, cluster: Cluster, *, instance: str) -> None:
        self._cluster = cluster
        self._instance = instance

    async def tell(self, kind: str, about: Object, reason: str, note: str) -> None:
        """Tell that something happened as it should."""
        await self._record("Normal", kind, about, reason, note)

    async def warn(self, kind: str, about: Object, reason: str, note: str) -> None:
        """Tell that something is wrong."""
        await self._record("Warning", kind, about, reason, note)

    async def _record(
        self, level: Literal["Normal", "Warning"], kind: str, about: Object, reason: str, note: str
    ) -> None:
        metadata = about["metadata"]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
            "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": f"{GROUP}/operator",
            "reportingInstance": self._instance,
            "type": level,
            "action": reason,
            "reason": reason,
            "note": note[:_NOTE_CHARS],
            "regarding": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": kind,
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        }
        log.info("%s %s/%s: %s: %s", kind, metadata["namespace"], metadata["name"], reason, note)
        try:
            await self._cluster.create("Event", event)
        except (ApiError, ApiUnavailableError) as error:
            log.warning("an Event can't be written: %s", error)
