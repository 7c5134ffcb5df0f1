"""Whose signatures on a server's certificate are believed."""

from __future__ import annotations

import os
import ssl

from hivewire.exceptions import BrokerUnavailableError


def trusted() -> ssl.SSLContext:
    """Return what TLS to a server takes: the system's certificates, and those of the file that NATS_CA names.

    Raises:
        BrokerUnavailableError: that file can't be read.
    """
    context = ssl.create_default_context()
    path = os.environ.get("NATS_CA")
    if path:
        try:
            context.load_verify_locations(path)
        except OSError as error:
            raise BrokerUnavailableError(
                f"The certificates in {path} can't be read ({error.strerror or error}): NATS_CA names a file of them,"
                " as PEM"
            ) from error
    return context
