"""Server-sent events as text (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import re

MEDIA_TYPE = "text/event-stream"

HEARTBEAT = b": \n"
"""A comment without an empty line after it: parsers that take each empty line for an event see none."""

_LINE_END = re.compile(r"\r\n|\r|\n")


def server_sent_event(data: str, *, event: str = "", id: str | None = None, **fields: str) -> bytes:
    """Write an event. `fields` are ones that the specification does not know; browsers pass over them.

    Raises:
        ValueError: a value other than `data` has a line end, or the id has a NUL, which would undo it.
    """
    named = {**({"event": event} if event else {}), **({} if id is None else {"id": id}), **fields}
    for name, value in named.items():
        if _LINE_END.search(value) or "\0" in value:
            raise ValueError(f"the {name} of a server-sent event can't be {value!r}")
    lines = [f"{name}: {value}" for name, value in named.items()]
    lines += [f"data: {line}" for line in _LINE_END.split(data)]
    # A lone surrogate has no UTF-8 form; in JSON it would be escaped.
    return ("\n".join(lines) + "\n\n").encode(errors="replace")


def retry_hint(seconds: float) -> bytes:
    """Write how long a client should wait before it comes back. It is no event, so no empty line follows."""
    return f"retry: {round(seconds * 1000)}\n".encode()


def accepts_event_stream(accept: str) -> bool:
    """Tell whether an `Accept` header asks for server-sent events by name."""
    for part in accept.split(","):
        media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if media_type == MEDIA_TYPE and not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters):
            return True
    return False
