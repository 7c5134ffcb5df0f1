"""What queries of dashboards and rules share."""

from __future__ import annotations

IN_SYSTEM = 'system=~"$namespace"'
"""The label `system` is Hivewire's namespace; `namespace` is the one of Kubernetes, which a scrape may add."""

OF_TYPE = f'{IN_SYSTEM}, agent_type=~"$agent_type"'
JOBS = 'job=~"hivewire.*"'
"""The scrape jobs of workers, gateways and operators."""

FAILED = 'result=~"error|dead_letter"'
HANDLED = 'result!="duplicate"'
"""A duplicate was handled before, and says nothing of how that went."""

GATEWAY_ERROR = 'code=~"5.."'
RATE_WINDOW = "$__rate_interval"


def total(selector: str, *by: str) -> str:
    """Return the sum of gauges that each process has for itself, by labels."""
    return f"sum by ({', '.join(by)}) ({selector})"


def watched(selector: str, *by: str) -> str:
    """Return gauges of the whole system, which one process exports, or two while another takes over."""
    return f"max by ({', '.join(by)}) ({selector})"


def rate(selector: str, *by: str, over: str = RATE_WINDOW) -> str:
    """Return the rate of a counter a second, by labels."""
    return f"sum by ({', '.join(by)}) (rate({selector}[{over}]))"


def quantile(share: float, histogram: str, selector: str, *by: str, over: str = RATE_WINDOW) -> str:
    """Return a quantile of a histogram, such as 0.99, by labels."""
    labels = ", ".join(("le", *by))
    braces = f"{{{selector}}}" if selector else ""
    return f"histogram_quantile({share:g}, sum by ({labels}) (rate({histogram}_bucket{braces}[{over}])))"


def share_of(part: str, whole: str) -> str:
    """Return the share of two rates with the same labels: 0 where the part has no series yet, none while all rests."""
    return f"({part} or {whole} * 0) / ({whole} > 0)"
