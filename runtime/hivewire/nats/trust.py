"""Whose signatures on a server's certificate are believed."""

from __future__ import annotations

import os
import ssl

from hivewire.exceptions import BrokerUnavailableError


def trusted() -> ssl.SSLContext | None:
    """Return what TLS to a server takes: the system's certificates, and those of the file that NATS_CA names.

    None where it names none: then the client reads the system's if there is TLS, which takes a while.

    Raises:
        BrokerUnavailableError: that file can't be read.
    """
    path = os.environ.get("NATS_CA")
    if not path:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise BrokerUnavailableError(
            f"The certificates in {path} can't be read ({error.strerror or error}): NATS_CA names a file of them,"
            " as PEM"
        ) from error
    return context
