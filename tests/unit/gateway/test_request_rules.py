"""What the middleware decides before a route sees a request, without sockets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from hivewire_gateway.security.body_stream import BodyPace
from hivewire_gateway.security.principals import principal_of
from hivewire_gateway.security.route_classes import is_public, route_class
from hivewire_gateway.security.secrets import WatchedFile


def scope(method: str, path: str, kind: str = "http") -> dict[str, Any]:
    return {"type": kind, "method": method, "path": path, "headers": []}


@pytest.mark.parametrize(
    ("method", "path", "accept", "expected"),
    [
        ("POST", "/v1/events", "", "events"),
        ("POST", "/v1/topics/orders/shop", "application/json", "events"),
        ("POST", "/v1/hooks/github", "", "events"),
        ("GET", "/v1/topics/orders/events", "", "streams"),
        ("GET", "/v1/streams/1", "", "streams"),
        ("DELETE", "/v1/streams/1", "", "calls"),
        ("POST", "/v1/agents/a/b", "", "calls"),
        ("POST", "/v1/agents/a/b", "application/json, Text/Event-Stream;q=1", "streams"),
        ("GET", "/openapi.json", "", "other"),
        ("GET", "/v1", "", "other"),
    ],
)
def test_requests_have_a_class(method: str, path: str, accept: str, expected: str) -> None:
    assert route_class(scope(method, path), accept) == expected


def test_a_websocket_is_a_worker() -> None:
    assert route_class(scope("GET", "/v1/workers", "websocket")) == "workers"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("OPTIONS", "/v1/events", True),
        ("POST", "/v1/hooks/github", True),
        ("POST", "/v1/hooks", False),
        ("POST", "/v1/hooksy/github", False),
        ("POST", "//v1/hooks/github", False),
        ("POST", "/v1/events", False),
        ("GET", "/", False),
    ],
)
def test_few_requests_need_no_token(method: str, path: str, expected: bool) -> None:
    assert is_public(scope(method, path)) is expected
    assert not is_public(scope(method, path, "websocket"))


def test_nobody_may_do_anything_past_the_authentication() -> None:
    with pytest.raises(RuntimeError, match="past the authentication"):
        principal_of(HTTPConnection(scope("POST", "/v1/events")))


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_body_has_ever_more_time_up_to_its_end(one: int, other: int) -> None:
    pace = BodyPace(timeout_s=60.0, grace_s=10.0, min_bytes_per_s=1000.0)
    less, more = sorted((one, other))
    assert 110.0 <= pace.deadline(100.0, less) <= pace.deadline(100.0, more) <= 160.0


def test_a_mounted_secret_is_read_again_when_its_link_moves(tmp_path: Path) -> None:
    # As Kubernetes does: the files are links into a folder that is a link, and that one is replaced.
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tokens").write_text(f"version {version}")
    (tmp_path / "..data").symlink_to("1")
    (tmp_path / "tokens").symlink_to("..data/tokens")
    now = 0.0
    file = WatchedFile(tmp_path / "tokens", str, clock=lambda: now)
    assert file.value == "version 1"
    (tmp_path / "new").symlink_to("2")
    os.replace(tmp_path / "new", tmp_path / "..data")
    now = 0.5
    assert file.value == "version 1"
    now = 1.0
    assert file.value == "version 2"
    (tmp_path / "..data").unlink()
    now = 2.0
    assert file.value == "version 2"
