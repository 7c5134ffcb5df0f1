"""Fetching a file whose address somebody else may have chosen.

Whoever chooses the URL must not get to talk to what only this process can reach. A host is therefore resolved once,
refused if any of its addresses is not public, and the connection is made to the address that was checked: a second
look-up could answer something else (DNS rebinding). Redirects go through the same checks.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import urllib.parse
from dataclasses import dataclass

__all__ = ["MAX_SIZE_BYTES", "UrlAccess", "fetch", "is_public"]

MAX_SIZE_BYTES = 20_000_000
_MAX_REDIRECTS = 3
_SILENCE_TIMEOUT_S = 10.0
_FETCH_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlAccess:
    """Which hosts may be fetched from, in lower case; None for all public ones."""

    hosts: frozenset[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    host: str
    port: int
    request_target: str


def fetch(url: str, access: UrlAccess) -> bytes:
    """Return the body of an https URL. Blocks, at most about 30 seconds per redirect plus name resolution.

    Raises:
        ValueError: the URL or an address behind it is refused, the body is over `MAX_SIZE_BYTES`, or the fetch failed.
    """
    for _ in range(_MAX_REDIRECTS + 1):
        target = _parse(url, access)
        body, location = _get(target, _public_address(target))
        if location is None:
            return body
        url = urllib.parse.urljoin(url, location)
    raise ValueError(f"The image URL redirects more than {_MAX_REDIRECTS} times.")


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the open internet; an IPv4 address inside an IPv6 one counts itself."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        carried = _carried_ipv4(ip)
        if carried is not None:
            return is_public(str(carried))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _carried_ipv4(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _parse(url: str, access: UrlAccess) -> _Target:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https":
        raise ValueError(f"Images are fetched over https only, not {parts.scheme or 'without a scheme'}.")
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError("An image URL needs a host name and no user name or password.")
    host = parts.hostname.rstrip(".").encode("idna").decode("ascii").lower()
    if access.hosts is not None and host not in access.hosts:
        raise ValueError(f"Images are not fetched from {host}; Image.allow_urls() names the hosts that are allowed.")
    path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return _Target(host=host, port=parts.port or 443, request_target=f"{path}?{query}" if query else path)


def _public_address(target: _Target) -> str:
    try:
        answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"The host {target.host} of the image URL cannot be resolved: {error}.") from error
    addresses = [str(answer[4][0]) for answer in answers]
    if not addresses or not all(is_public(address) for address in addresses):
        raise ValueError(f"The host {target.host} of the image URL has an address that is not public; it is refused.")
    return addresses[0]


def _get(target: _Target, address: str) -> tuple[bytes, str | None]:
    """Return the body, or where it redirects to."""
    try:
        raw = socket.create_connection((address, target.port), timeout=_SILENCE_TIMEOUT_S)
        with (
            raw,
            ssl.create_default_context().wrap_socket(
                raw, server_hostname=target.host, do_handshake_on_connect=False
            ) as tls,
        ):
            # The socket's own timeout counts silence only: a server that sends a byte now and then would hold us for
            # ever.
            watchdog = threading.Timer(_FETCH_TIMEOUT_S, _cut, (tls,))
            watchdog.daemon = True
            watchdog.start()
            try:
                tls.do_handshake()
                return _exchange(target, tls)
            finally:
                watchdog.cancel()
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"Fetching the image from {target.host} failed: {error!r}.") from error


def _cut(connection: ssl.SSLSocket) -> None:
    try:
        # Below TLS: the TLS object itself belongs to the thread that reads from it.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        pass  # it was closed in the meantime


def _exchange(target: _Target, tls: ssl.SSLSocket) -> tuple[bytes, str | None]:
    connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = tls
    connection.auto_open = 0
    host = f"[{target.host}]" if ":" in target.host else target.host
    headers = {
        "Host": host if target.port == 443 else f"{host}:{target.port}",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "User-Agent": "hivewire",
    }
    connection.request("GET", target.request_target, headers=headers)
    response = connection.getresponse()
    location = response.headers.get("Location")
    if response.status in (301, 302, 303, 307, 308) and location:
        return b"", location
    if response.status != 200:
        raise ValueError(f"Fetching the image from {target.host} failed: HTTP status {response.status}.")
    return _read(response), None


def _read(response: http.client.HTTPResponse) -> bytes:
    declared = response.length or 0
    body = b"" if declared > MAX_SIZE_BYTES else response.read(MAX_SIZE_BYTES + 1)
    if max(declared, len(body)) > MAX_SIZE_BYTES:
        raise ValueError(f"The image is larger than {MAX_SIZE_BYTES} bytes.")
    if len(body) < declared:
        raise http.client.IncompleteRead(body, declared - len(body))
    return body
