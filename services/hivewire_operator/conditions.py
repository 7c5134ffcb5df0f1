"""What a status says of an object: conditions, each with the time at which it last changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Truth = Literal["True", "False", "Unknown"]

_MESSAGE_CHARS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found out: `reason` is a word for programs, `message` a sentence for people."""

    type: str
    status: Truth
    reason: str
    message: str = ""


def conditions(
    before: Iterable[Mapping[str, Any]], findings: Sequence[Finding], *, generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Return the conditions of a status. The time of one that says the same as before stays.

    Conditions of other types, which somebody else may have written, stay as they are.
    """
    known = {each["type"]: each for each in before}
    result = {name: dict(each) for name, each in known.items() if name not in {each.type for each in findings}}
    for finding in findings:
        old = known.get(finding.type)
        changed = old is None or old.get("status") != finding.status
        result[finding.type] = {
            "type": finding.type,
            "status": finding.status,
            "reason": finding.reason,
            "message": finding.message[:_MESSAGE_CHARS],
            "lastTransitionTime": _written(now) if changed or old is None else old["lastTransitionTime"],
            "observedGeneration": generation,
        }
    return [result[name] for name in sorted(result)]


def _written(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
