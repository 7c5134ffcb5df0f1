"""Addresses of brokers: how they are read, and how they are shown."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

log = logging.getLogger("hivewire.broker")

_PASSWORD = re.compile(r"(?<=//)[^/]*@|^[^/]*@")


def checked_url(url: str) -> str:
    """Return the address to connect to.

    Raises:
        ValueError: the scheme is unknown.
    """
    addresses = []
    for address in url.split(","):
        parts = urlsplit(address.strip())
        if parts.scheme == "grpc":
            shown = without_password(parts.netloc)
            log.warning("grpc://%s is taken as the address of a NATS server: use nats://%s", shown, shown)
            addresses.append(f"nats://{parts.netloc}")
        elif parts.scheme in ("nats", "tls", "ws", "wss") and parts.hostname:
            addresses.append(address.strip())
        else:
            raise ValueError(
                f"{without_password(address)!r} is not a broker address: use nats://host:4222 or tls://host:4222 "
                "(several separated by commas), or 'embedded' for a server of its own"
            )
    return ",".join(addresses)


def without_password(url: str) -> str:
    """Return addresses without user and password, as texts may show them."""
    return ",".join(_PASSWORD.sub("", address) for address in url.split(","))
