"""The W3C trace context that comes with a request or with an event."""

from __future__ import annotations

import re
from collections.abc import Mapping


def trace_context(headers: Mapping[str, str]) -> dict[str, str]:
    """Return `traceparent` and `tracestate` of some headers or attributes; what is malformed counts as not sent.

    Ignoring it is what the specification asks for (Trace Context, 3.2), and these values become headers as they are.
    """
    parent = headers.get("traceparent", "")
    found = _PARENT.fullmatch(parent)
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["rest"]):
        return {}
    state = headers.get("tracestate", "")
    return {"traceparent": parent, **({"tracestate": state} if _STATE.fullmatch(state) else {})}


def trace_of_event(attributes: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, str]:
    """Return the trace context that an event names, if that is another trace than the one of its request.

    An event carries the trace that it began in, and the request the last hop (CloudEvents, Distributed Tracing
    Extension 1.0.2). Within one trace the hop says more.
    """
    own, hop = trace_context(attributes), trace_context(headers)
    return {} if own and hop and _trace_id(own) == _trace_id(hop) else own


def _trace_id(context: Mapping[str, str]) -> str:
    return context["traceparent"].split("-")[1]


_PARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<rest>-[!-~]{1,200})?"
)
_STATE = re.compile(r"[!-~](?:[ -~]{0,510}[!-~])?")
