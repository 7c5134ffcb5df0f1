"""What requests say in headers and paths, beside their body, about the message that they bring."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from starlette.requests import Request

from hivewire import TopicId
from hivewire_gateway.event_attributes import check_text
from hivewire_gateway.media_types import MediaType
from hivewire_gateway.problems import Problem


def idempotency_key(request: Request) -> str:
    """Return the `Idempotency-Key` of a request, bare or as a quoted string; empty without one.

    Raises:
        Problem: it is malformed, or there are several.
    """
    keys = request.headers.getlist("idempotency-key")
    if not keys:
        return ""
    found = _is_key(keys[0])
    if len(keys) > 1 or found is None:
        raise Problem(400, "The header Idempotency-Key has to be one text of 1 to 255 printable ASCII characters.")
    return found["quoted"] or found["bare"]


def topic_of_path(request: Request) -> TopicId:
    """Return the topic that the path of a request names.

    Raises:
        Problem: there can't be such a topic.
    """
    try:
        # The server replaces what is not UTF-8, so two topics could become one.
        unquote_to_bytes(request.scope["raw_path"]).decode()
        check_text(request.path_params["source"])
        if not request.path_params["source"]:
            raise ValueError("is empty")
    except ValueError:
        raise Problem(
            400, "The path has to end in a topic type and a source, with everything but ASCII percent-encoded as UTF-8."
        ) from None
    try:
        return TopicId(request.path_params["type"], request.path_params["source"])
    except ValueError:
        raise Problem(
            400, "There can't be such a topic type: use letters, digits and the characters _ - . : = only."
        ) from None


def check_plain_json(request: Request) -> None:
    """Check that a request says it brings JSON, and no CloudEvent, whose attributes would be lost.

    Raises:
        Problem: it says something else.
    """
    if any(name.startswith("ce-") for name in request.headers):
        raise Problem(400, "This is a CloudEvent: post it to /v1/events, which takes its topic from the event.")
    content_types = request.headers.getlist("content-type")
    try:
        media_types = [MediaType.parse(text) for text in content_types]
    except ValueError as error:
        raise Problem(415, f"The content type is {error}.", headers={"Accept": "application/json"}) from None
    if any(media_type.essence.startswith("application/cloudevents") for media_type in media_types):
        raise Problem(415, "This is a CloudEvent: post it to /v1/events, which takes its topic from the event.")
    if len(media_types) > 1 or not all(media_type.is_json for media_type in media_types):
        raise Problem(415, "Send JSON, with Content-Type: application/json.", headers={"Accept": "application/json"})


_is_key = re.compile(r'"(?P<quoted>[!#-\[\]-~]{1,255})"|(?P<bare>[!#-~]{1,255})').fullmatch
