"""The question to a pod what it has counted, and its answer: what `hivewire top` works rates out of."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from hivewire.nats.formats import FORMAT, check_format
from hivewire.telemetry.type_counts import TypeCounts, handler_slots, type_counts

OPERATION: Final = "numbers"
QUESTION: Final = json.dumps({"op": OPERATION}).encode()

_PROCESS: Final = secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNumbers:
    """What a pod has counted since its process began, as of `time_s` by a clock of its own that only goes forward.

    `process` is the same for all sessions of a process, which count together. `turns_running` and `turns_free` are None
    where that is not measured. `left_out` types did not fit into the answer, those that had done the least.
    """

    process: str
    time_s: float
    turns_running: int | None
    turns_free: int | None
    types: Mapping[str, TypeCounts]
    left_out: int = 0

    def to_json(self, *, limit_bytes: int) -> bytes:
        """Write the answer in at most so many bytes, without those types that have done the least if need be."""
        ranked = sorted(self.types.items(), key=lambda item: item[1].total, reverse=True)
        kept = len(ranked)
        while True:
            payload = _json(replace(self, types=dict(ranked[:kept]), left_out=self.left_out + len(ranked) - kept))
            if len(payload) <= limit_bytes or not kept:
                return payload
            kept = min(kept - 1, kept * limit_bytes // len(payload))

    @classmethod
    def from_json(cls, payload: bytes) -> PodNumbers:
        """Read an answer.

        Raises:
            UnsupportedFormatError: a newer version of Hivewire wrote it.
            ValueError, KeyError, TypeError, AttributeError: it is not such an answer.
        """
        data: dict[str, Any] = json.loads(payload)
        check_format(data, "a pod's answer")
        bounds = [float("inf") if bound is None else float(bound) for bound in data["bounds"]]
        turns = data["turns"] or {}
        return cls(
            process=str(data["process"]),
            time_s=float(data["time"]),
            turns_running=_number(turns.get("running")),
            turns_free=_number(turns.get("free")),
            types={name: _counts(counted, bounds) for name, counted in data["types"].items()},
            left_out=int(data["left_out"]),
        )


def own_numbers(namespace: str) -> PodNumbers:
    """Return what this process has counted in a namespace."""
    slots = handler_slots(namespace)
    return PodNumbers(
        process=_PROCESS,
        time_s=time.monotonic(),
        turns_running=slots.get("used"),
        turns_free=slots.get("available"),
        types=type_counts(namespace),
    )


def _json(numbers: PodNumbers) -> bytes:
    bounds = sorted({bound for counts in numbers.types.values() for bound in counts.durations})
    data = {
        "format": FORMAT,
        "process": numbers.process,
        "time": numbers.time_s,
        "turns": {"running": numbers.turns_running, "free": numbers.turns_free},
        "bounds": [None if bound == float("inf") else bound for bound in bounds],
        "types": {
            name: {
                "processed": [[kind, result, number] for (kind, result), number in counts.processed.items() if number],
                "retries": counts.retries,
                "inflight": counts.inflight,
                "durations": [counts.durations.get(bound, 0) for bound in bounds] if counts.durations else [],
            }
            for name, counts in numbers.types.items()
        },
        "left_out": numbers.left_out,
    }
    return json.dumps(data, separators=(",", ":")).encode()


def _counts(data: Mapping[str, Any], bounds: list[float]) -> TypeCounts:
    return TypeCounts(
        processed={(str(kind), str(result)): int(number) for kind, result, number in data["processed"]},
        retries=int(data["retries"]),
        inflight=int(data["inflight"]),
        durations={bound: int(number) for bound, number in zip(bounds, data["durations"], strict=False)},
    )


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None
