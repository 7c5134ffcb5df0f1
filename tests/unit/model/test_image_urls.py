import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any, Self

import pytest

from hivewire.model import image_urls
from hivewire.model.image_urls import UrlAccess, fetch, is_public

ANYWHERE = UrlAccess(hosts=None)
PUBLIC_ADDRESS = "93.184.215.14"


class PlainSocket(socket.socket):
    """Stands in for a TLS socket, so that the tests need no certificates."""

    def do_handshake(self) -> None:
        pass


class PlainContext:
    def __init__(self) -> None:
        self.server_names: list[str] = []

    def wrap_socket(self, raw: socket.socket, *, server_hostname: str, do_handshake_on_connect: bool) -> PlainSocket:
        self.server_names.append(server_hostname)
        timeout = raw.gettimeout()
        plain = PlainSocket(raw.family, raw.type, raw.proto, fileno=raw.detach())
        plain.settimeout(timeout)
        return plain


class Web:
    """One server on this machine that the code under test takes for any public one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses: dict[str, list[str]] = {}
        self.responses: list[bytes] = []
        self.requests: list[bytes] = []
        self.connected_to: list[tuple[str, int]] = []
        self.context = PlainContext()
        self.hold_open = threading.Event()
        self.hold_open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._connect = socket.create_connection
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)
        monkeypatch.setattr(socket, "create_connection", self._connect_here)
        monkeypatch.setattr(ssl, "create_default_context", lambda: self.context)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold_open.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _resolve(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        if host not in self.addresses:
            raise socket.gaierror("no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.addresses[host]]

    def _connect_here(self, address: tuple[str, int], timeout: float) -> socket.socket:
        self.connected_to.append(address)
        connection = socket.socket()
        connection.settimeout(timeout)
        connection.connect(self._listener.getsockname())
        return connection

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.requests.append(connection.recv(65536))
                try:
                    connection.sendall(self.responses.pop(0))
                except OSError:
                    continue  # the client had read enough
                self.hold_open.wait(10)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with Web(monkeypatch) as web:
        web.addresses["example.com"] = [PUBLIC_ADDRESS]
        yield web


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_the_body_is_returned(web: Web) -> None:
    web.responses = [response(b"picture")]
    assert fetch("https://example.com/a%20b/ü.png?size=1&x=y#part", ANYWHERE) == b"picture"
    head = web.requests[0].decode().split("\r\n")
    assert head[0] == "GET /a%20b/%C3%BC.png?size=1&x=y HTTP/1.1"
    assert "Host: example.com" in head


def test_the_connection_goes_to_the_address_that_was_checked_under_the_hosts_name(web: Web) -> None:
    web.responses = [response(b"picture")]
    fetch("https://Example.com:8443/", ANYWHERE)
    assert web.connected_to == [(PUBLIC_ADDRESS, 8443)]
    assert web.context.server_names == ["example.com"]
    assert b"Host: example.com:8443\r\n" in web.requests[0]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "file:///etc/passwd",
        "ftp://example.com/a.png",
        "example.com/a.png",
        "",
        "https://",
        "https:///a.png",
        "https://user@example.com/a.png",
        "https://user:secret@example.com/a.png",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://[::1/",
    ],
)
def test_other_urls_are_refused_before_anything_is_connected(web: Web, url: str) -> None:
    with pytest.raises(ValueError):
        fetch(url, ANYWHERE)
    assert web.connected_to == []


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "64:ff9b:1::1",
        "2002:7f00:1::",
        "2001:0:0:0:0:0:80ff:fffe",
    ],
)
def test_addresses_inside_a_network_are_not_public_and_refused(web: Web, address: str) -> None:
    assert not is_public(address)
    web.addresses["example.com"] = [address]
    with pytest.raises(ValueError, match="not public"):
        fetch("https://example.com/a.png", ANYWHERE)
    assert web.connected_to == []


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse(web: Web) -> None:
    web.addresses["example.com"] = [PUBLIC_ADDRESS, "10.0.0.1"]
    with pytest.raises(ValueError, match="not public"):
        fetch("https://example.com/a.png", ANYWHERE)


def test_a_host_without_address_is_refused(web: Web) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.example"):
        fetch("https://nowhere.example/a.png", ANYWHERE)


def test_with_a_list_of_hosts_no_other_is_fetched_from(web: Web) -> None:
    web.responses = [response(b"picture")]
    access = UrlAccess(hosts=frozenset({"example.com"}))
    assert fetch("https://example.com./a.png", access) == b"picture"
    with pytest.raises(ValueError, match="allow_urls"):
        fetch("https://sub.example.com/a.png", access)


def test_redirects_are_followed(web: Web) -> None:
    web.addresses["cdn.example"] = [PUBLIC_ADDRESS]
    web.responses = [
        response(b"", "302 Found", Location="/b.png"),
        response(b"", "307 Temporary Redirect", Location="https://cdn.example/c.png"),
        response(b"picture"),
    ]
    assert fetch("https://example.com/a.png", ANYWHERE) == b"picture"
    assert [request.split()[1] for request in web.requests] == [b"/a.png", b"/b.png", b"/c.png"]


@pytest.mark.parametrize("location", ["http://example.com/b.png", "https://inside.example/b.png", "file:///etc/passwd"])
def test_redirects_are_checked_as_the_first_url_was(web: Web, location: str) -> None:
    web.addresses["inside.example"] = ["127.0.0.1"]
    web.responses = [response(b"", "301 Moved Permanently", Location=location)]
    with pytest.raises(ValueError):
        fetch("https://example.com/a.png", ANYWHERE)
    assert len(web.connected_to) == 1


def test_redirects_come_to_an_end(web: Web) -> None:
    web.responses = [response(b"", "302 Found", Location="/again")] * 4
    with pytest.raises(ValueError, match="redirects more than 3 times"):
        fetch("https://example.com/a.png", ANYWHERE)


@pytest.mark.parametrize("status", ["404 Not Found", "500 Internal Server Error", "204 No Content", "302 Found"])
def test_other_answers_are_an_error(web: Web, status: str) -> None:
    web.responses = [response(b"", status)]
    with pytest.raises(ValueError, match=status[:3]):
        fetch("https://example.com/a.png", ANYWHERE)


def test_a_body_that_says_it_is_too_large_is_not_read(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "MAX_SIZE_BYTES", 10)
    web.responses = [b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"]
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        fetch("https://example.com/a.png", ANYWHERE)


def test_a_body_that_does_not_say_its_size_is_read_up_to_the_limit(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "MAX_SIZE_BYTES", 10)
    web.responses = [b"HTTP/1.1 200 OK\r\n\r\n0123456789", b"HTTP/1.1 200 OK\r\n\r\n0123456789+"]
    assert fetch("https://example.com/a.png", ANYWHERE) == b"0123456789"
    with pytest.raises(ValueError, match="larger than 10 bytes"):
        fetch("https://example.com/a.png", ANYWHERE)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"])
def test_a_broken_answer_is_an_error(web: Web, answer: bytes) -> None:
    web.responses = [answer]
    with pytest.raises(ValueError, match="failed"):
        fetch("https://example.com/a.png", ANYWHERE)


def test_a_server_that_keeps_silent_is_given_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "_SILENCE_TIMEOUT_S", 0.05)
    web.responses = [b"HTTP/1.1 200 OK\r\n"]
    web.hold_open.clear()
    with pytest.raises(ValueError, match="failed"):
        fetch("https://example.com/a.png", ANYWHERE)


def test_a_server_that_never_ends_is_cut_off(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_urls, "_FETCH_TIMEOUT_S", 0.05)
    web.responses = [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"]
    web.hold_open.clear()
    with pytest.raises(ValueError, match="failed"):
        fetch("https://example.com/a.png", ANYWHERE)


def test_the_limit_is_twenty_megabytes() -> None:
    assert image_urls.MAX_SIZE_BYTES == 20_000_000
