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


_PARENT = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<rest>-[!-~]{1,200})?"
)
_STATE = re.compile(r"[!-~](?:[ -~]{0,510}[!-~])?")
