"""Names of principals, as they come from files and from tokens of others, and go into logs."""

from __future__ import annotations

_MAX_CHARACTERS = 256


def check_name(name: object, what: str) -> str:
    """Return a name that fits on one line of a log.

    Raises:
        ValueError: it does not. The text says `what` it is.
    """
    if not isinstance(name, str) or not name or len(name) > _MAX_CHARACTERS:
        raise ValueError(f"{what} must be a text of 1 to {_MAX_CHARACTERS} characters")
    if not name.isprintable() or " " in name:
        raise ValueError(f"{what} must have printable characters only, and no spaces")
    return name
