"""The consent that senders of WebHooks ask for (HTTP 1.1 Web Hooks for Event Delivery 1.0.2, 4).

Consent lies in the headers of the answer alone; who gets none is told nothing else. It is no authorization. A callback
URL is never called: whoever can reach the gateway could make it send requests anywhere inside of its network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from starlette.responses import Response

from hivewire_gateway.ingestion_settings import IngestionSettings
from hivewire_gateway.problems import Problem

ALLOW = "POST, OPTIONS"


def answer_to_options(headers: Mapping[str, str], settings: IngestionSettings) -> Response:
    """Answer an `OPTIONS` request, which may be a sender's validation request.

    Raises:
        Problem: the rate that is asked for is malformed.
    """
    rate = headers.get("webhook-request-rate")
    if rate is not None and _is_rate(rate) is None:
        raise Problem(400, "The header WebHook-Request-Rate has to be a positive number of requests per minute.")
    answer = {"Allow": ALLOW}
    origin = headers.get("webhook-request-origin", "").lower()
    allowed = {name.lower() for name in settings.webhook_origins}
    if origin and ("*" in allowed or origin in allowed):
        answer["WebHook-Allowed-Origin"] = "*" if "*" in allowed else origin
        answer["WebHook-Allowed-Rate"] = "*" if settings.webhook_rate is None else str(settings.webhook_rate)
    return Response(headers=answer)


_is_rate = re.compile(r"[1-9][0-9]{0,8}").fullmatch
