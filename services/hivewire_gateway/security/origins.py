"""Which web pages may reach a gateway that asks for no token.

A browser sends requests to this machine for any page that is open in it, and a page's own name may be made to point
here (DNS rebinding). Requests without a token therefore need a `Host` that belongs to this gateway, and must not come
from a page of somebody else. Decided here without I/O.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from starlette.datastructures import Headers

from hivewire_gateway.problems import Problem

_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")
_SIMPLE_CONTENT_TYPES = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches a host: `localhost` or an address of the loopback interface."""
    name = host.removeprefix("[").removesuffix("]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def check_host_name(host: str) -> str:
    """Return the name in a `Host` header in lower case; a port must not be in it.

    Raises:
        ValueError: it is none.
    """
    match = _HOST.fullmatch(host)
    if match is None or match["port"]:
        raise ValueError(f"{host!r} is no host name: write it without scheme and port, such as gateway.example.com")
    return match["name"].lower()


def check_origin(origin: str) -> str:
    """Return an origin as browsers write it: scheme and host, and a port unless it is the scheme's own.

    Raises:
        ValueError: it is none.
    """
    parsed = _origin(origin)
    if parsed is None:
        raise ValueError(f"{origin!r} is no origin: write scheme and host, such as https://app.example.com")
    scheme, name, port = parsed
    return f"{scheme}://{name}" if port == _DEFAULT_PORTS[scheme] else f"{scheme}://{name}:{port}"


def check_anonymous(
    headers: Headers, *, method: str, loopback_only: bool, hosts: Collection[str], cors_origins: Collection[str]
) -> None:
    """Let a request without a token pass.

    Args:
        loopback_only: Whether `Host` must name this machine, or be one of `hosts`.

    Raises:
        Problem: 403, it is for another host or comes from another site; 415, a web form could have sent it.
    """
    host = headers.get("host", "")
    match = _HOST.fullmatch(host)
    name = match["name"].lower() if match else ""
    if (loopback_only or hosts) and name not in hosts and not (loopback_only and is_loopback(name)):
        raise Problem(
            403,
            f"The Host header {host!r} is not a name of this gateway: without a token, requests go to localhost, or to "
            "a name in [security] hosts.",
        )
    _check_site(headers, method=method, host=host, cors_origins=cors_origins)
    content_type = headers.get("content-type", "").split(";")[0].strip().lower()
    # Only these reach a server from another site without asking it first (Fetch, CORS-safelisted request-header), and
    # an old browser may name no origin with them. Any header of our own means that it was asked.
    if method == "POST" and content_type in _SIMPLE_CONTENT_TYPES and not _has_own_header(headers):
        raise Problem(
            415,
            f"Without a token, {content_type} is refused, as web forms send it: use Content-Type: application/json.",
        )


def _check_site(headers: Headers, *, method: str, host: str, cors_origins: Collection[str]) -> None:
    origin = headers.get("origin")
    if origin is None:
        site = headers.get("sec-fetch-site", "none")
        link = method in ("GET", "HEAD") and headers.get("sec-fetch-mode") == "navigate"
        if site in ("same-origin", "none") or link:
            return
        raise _cross_site(f"A {site} request")
    if "*" in cors_origins or origin in cors_origins:
        return
    parsed = _origin(origin)
    if parsed is None or parsed[1:] != _authority(host, parsed[0]):
        raise _cross_site(f"A request of a page of {origin!r}")


def _cross_site(what: str) -> Problem:
    return Problem(403, f"{what} needs a token, or its origin in [security] cors_origins.")


def _has_own_header(headers: Headers) -> bool:
    return any(name.startswith(("ce-", "hivewire-")) for name in headers)


def _origin(text: str) -> tuple[str, str, int] | None:
    scheme, separator, authority = text.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _DEFAULT_PORTS:
        return None
    place = _authority(authority, scheme)
    return None if place is None else (scheme, *place)


def _authority(host: str, scheme: str) -> tuple[str, int] | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    return match["name"].lower(), int(match["port"] or _DEFAULT_PORTS[scheme])
