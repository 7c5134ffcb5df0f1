"""Web pages of others don't reach a gateway that asks for no token."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from hivewire_gateway.problems import Problem
from hivewire_gateway.security.origins import check_anonymous, check_host_name, check_origin, is_loopback


def status(
    headers: dict[str, str],
    *,
    method: str = "POST",
    loopback_only: bool = True,
    hosts: tuple[str, ...] = (),
    cors_origins: tuple[str, ...] = (),
) -> int:
    try:
        check_anonymous(
            Headers(headers), method=method, loopback_only=loopback_only, hosts=hosts, cors_origins=cors_origins
        )
    except Problem as problem:
        return problem.status
    return 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST", 200),
        ("app.localhost:80", 200),
        ("127.0.0.1:9000", 200),
        ("127.1.2.3", 200),
        ("[::1]:8080", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evil.example#localhost", 403),
        ("localhost@evil.example", 403),
        ("10.0.0.1", 403),
        ("[::2]", 403),
        ("", 403),
        ("localhost:8080:1", 403),
    ],
)
def test_the_host_is_this_machine(host: str, expected: int) -> None:
    assert status({"host": host}) == expected


def test_further_hosts_may_be_named() -> None:
    assert status({"host": "gateway.test:8080"}, hosts=("gateway.test",)) == 200
    assert status({"host": "gateway.test"}, hosts=("gateway.test",), loopback_only=False) == 200
    assert status({"host": "localhost"}, hosts=("gateway.test",), loopback_only=False) == 403
    assert status({"host": "anything.example"}, loopback_only=False) == 200


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "http://localhost:8080"}, 200),
        ({"origin": "https://localhost:8080"}, 200),
        ({"origin": "HTTP://LOCALHOST:8080"}, 200),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "http://localhost"}, 403),
        ({"origin": "http://127.0.0.1:8080"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"origin": "file://"}, 403),
        ({"origin": "chrome-extension://abc"}, 403),
        ({"origin": "https://app.example"}, 200),
        ({"origin": "https://app.example", "sec-fetch-site": "cross-site"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({}, 200),
    ],
)
def test_pages_of_other_sites_are_refused(headers: dict[str, str], expected: int) -> None:
    assert status({"host": "localhost:8080", **headers}, cors_origins=("https://app.example",)) == expected


def test_the_ports_of_the_schemes_may_be_left_out() -> None:
    assert status({"host": "localhost", "origin": "http://localhost:80"}) == 200
    assert status({"host": "localhost:443", "origin": "https://localhost"}) == 200


def test_a_link_to_a_page_is_followed_but_no_form_is_sent() -> None:
    link = {"host": "localhost", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert status(link, method="GET") == 200
    assert status(link, method="POST") == 403


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "Text/Plain; charset=utf-8"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
        ({"content-type": "application/json"}, 200),
        ({"content-type": "text/plain", "ce-id": "1"}, 200),
        ({"content-type": "text/plain", "hivewire-message-type": "Greeting"}, 200),
    ],
)
def test_what_a_form_could_send_is_refused(headers: dict[str, str], expected: int) -> None:
    assert status({"host": "localhost", **headers}) == expected


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_host_and_no_origin_breaks_it(host: str, origin: str) -> None:
    headers = Headers(raw=[(b"host", host.encode("utf-8")), (b"origin", origin.encode("utf-8"))])
    try:
        check_anonymous(headers, method="POST", loopback_only=True, hosts=(), cors_origins=())
    except Problem as problem:
        assert problem.status == 403


def test_loopback_hosts_are_known() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "::1", "[::1]", "a.localhost"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "10.0.0.1", "gateway.example", "localhost.example"]))


@pytest.mark.parametrize("origin", ["app.example", "https://app.example/", "ftp://app.example", "https://", "null"])
def test_an_origin_in_the_settings_is_one(origin: str) -> None:
    with pytest.raises(ValueError, match="no origin"):
        check_origin(origin)


def test_an_origin_is_written_as_browsers_do() -> None:
    assert check_origin("HTTPS://App.Example:443") == "https://app.example"
    assert check_origin("http://localhost:3000") == "http://localhost:3000"


@pytest.mark.parametrize("host", ["https://a", "a:80", "a/b", "", "a b"])
def test_a_host_in_the_settings_is_a_name(host: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        check_host_name(host)
