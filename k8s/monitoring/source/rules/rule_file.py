"""Rules, and the file that Prometheus reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

RUNBOOKS = "docs/runbooks"
"""Where the pages of alerts are. Set to the address of a web server that shows them, and they are links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A query whose result is stored under a name, `level:metric:operation`."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """When somebody is told.

    Args:
        severity: `critical` wakes somebody up, `warning` waits for the morning.
        holds_for: How long the expression has to hold.
        summary: One line, with labels as `{{ $labels.system }}`.
        description: What it means and what to look at first.
    """

    name: str
    severity: Literal["critical", "warning"]
    expr: str
    holds_for: str
    summary: str
    description: str

    @property
    def runbook_url(self) -> str:
        return f"{RUNBOOKS}/{self.name}.md"


Group = tuple[str, Iterable[Recording | Alert]]


def rule_file(groups: Iterable[Group]) -> str:
    """Return the text of a rule file."""
    lines = ["# Written by `make monitoring` from k8s/monitoring/source. Change it there.", "groups:"]
    for name, rules in groups:
        lines += [f"- name: {name}", "  rules:"]
        for rule in rules:
            lines += _entry(_fields(rule))
    return "\n".join(lines) + "\n"


def _fields(rule: Recording | Alert) -> dict[str, str | Mapping[str, str]]:
    if isinstance(rule, Recording):
        return {"record": rule.name, "expr": rule.expr}
    annotations = {"summary": rule.summary, "description": rule.description, "runbook_url": rule.runbook_url}
    return {
        "alert": rule.name,
        "expr": rule.expr,
        "for": rule.holds_for,
        "labels": {"severity": rule.severity},
        "annotations": annotations,
    }


def _entry(fields: Mapping[str, str | Mapping[str, str]]) -> list[str]:
    """One item of a YAML list."""
    lines: list[str] = []
    for key, value in fields.items():
        lines += [f"{key}: {_scalar(value)}"] if isinstance(value, str) else [f"{key}:"]
        if not isinstance(value, str):
            lines += [f"  {name}: {_scalar(text)}" for name, text in value.items()]
    indented = "\n".join(lines).splitlines()
    return [f"  {'- ' if index == 0 else '  '}{line}" for index, line in enumerate(indented)]


def _scalar(text: str) -> str:
    """A string of JSON is one of YAML; what has several lines is a block."""
    if "\n" in text:
        return "|-\n" + "\n".join(f"  {line}" for line in text.splitlines())
    return text if text.replace("_", "").replace(":", "").isalnum() and not text.endswith(":") else json.dumps(text)
