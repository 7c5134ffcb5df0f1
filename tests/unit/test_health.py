"""The health of a process over HTTP."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from hivewire.health import STUCK_S, HealthServer, Page, Readiness


class Process:
    """What a server is asked about, and its clock."""

    def __init__(self) -> None:
        self.ready = Readiness(True)
        self.now = 1_000.0
        self.server = HealthServer(
            "127.0.0.1",
            0,
            readiness=lambda: self.ready,
            pages={"/count": self.count},
            clock=lambda: self.now,
        )
        self.counted = 0

    def count(self) -> Page:
        self.counted += 1
        return Page(body=f"{self.counted}".encode(), content_type="text/x-count")

    def get(self, path: str, *, method: str = "GET") -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    with process.server:
        yield process


def test_a_ready_process_is_told_so(process: Process) -> None:
    assert process.get("/readyz") == (200, "ok\n")
    assert process.get("/healthz") == (200, "ok\n")
    assert process.get("/readyz?verbose") == (200, "ok\n")


def test_one_that_is_not_ready_says_why_and_lives(process: Process) -> None:
    process.ready = Readiness(False, "the runtime drains")
    assert process.get("/readyz") == (503, "the runtime drains\n")
    assert process.get("/healthz") == (200, "ok\n")


async def test_it_is_dead_when_the_event_loop_has_stood_still_for_a_minute(process: Process) -> None:
    # This blocks the event loop, and is answered all the same.
    process.now += STUCK_S
    assert process.get("/healthz") == (200, "ok\n")
    process.now += 1
    status, reason = process.get("/healthz")
    assert status == 503 and "stood still for 61 s" in reason


def test_nothing_else_is_served(process: Process) -> None:
    assert process.get("/")[0] == process.get("/healthz/x")[0] == 404
    assert process.get("/healthz", method="POST")[0] == 501


def test_a_client_that_says_nothing_holds_nobody_up(process: Process) -> None:
    with socket.create_connection(("127.0.0.1", process.server.port)):
        assert process.get("/healthz") == (200, "ok\n")


def test_its_end_leaves_no_thread_and_frees_the_port() -> None:
    process = Process()
    with process.server:
        process.get("/healthz")
    assert "hivewire-health" not in [thread.name for thread in threading.enumerate()]
    with socket.create_server(("127.0.0.1", process.server.port)):
        pass


def test_other_pages_are_made_anew_for_each_request(process: Process) -> None:
    assert process.get("/count") == (200, "1")
    assert process.get("/count?what") == (200, "2")
    assert process.get("/count/more")[0] == 404


def test_a_port_that_is_taken_or_a_host_that_does_not_exist_is_an_error(process: Process) -> None:
    for address in (("127.0.0.1", process.server.port), ("no-such-host.invalid", 0)):
        with pytest.raises(OSError):
            HealthServer(*address, readiness=lambda: process.ready)
