from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client

from hivewire.nats.client import BrokerClient


@pytest.mark.parametrize(
    "raw",
    [
        b"Hw-Type: Echo\r\nHw-Left: 300000\r\n\r\n",
        b"Name:no space\r\nOther:\ttab\r\nThird:  both  \r\n\r\n",
        b"Url: nats://host:4222\r\n\r\n",
        b"Same: first\r\nSame: last\r\n\r\n",
        b"no colon\r\nEmpty:\r\n\r\n",
        "Name: Grüße\r\n\r\n".encode(),
        b"Name: \xff\xfe\r\n\r\n",
        b"",
    ],
)
def test_headers_are_read_as_the_library_reads_them(raw: bytes) -> None:
    assert BrokerClient._parse_header_lines(raw) == Client._parse_header_lines(raw)


def test_the_library_calls_the_own_reading_of_headers() -> None:
    assert "_parse_header_lines" in vars(Client)


class _Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, data: list[bytes]) -> None:
        self.written += data


async def test_a_ping_is_sent_after_what_was_to_be_sent_before_it() -> None:
    client = BrokerClient()
    client._transport = wire = _Wire()
    client._flush_queue = asyncio.Queue()
    client._pending = [b"SUB a  1\r\n"]
    client._pongs = []
    await client._send_ping()
    assert wire.written == [b"SUB a  1\r\n", b"PING\r\n"]


async def test_closing_while_the_library_reconnects_is_no_cancellation_of_who_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def close(client: Client) -> None:
        # As a wait for what the library itself has cancelled does.
        cancelled = asyncio.get_running_loop().create_future()
        cancelled.cancel()
        await cancelled

    monkeypatch.setattr(Client, "close", close)
    client = BrokerClient()
    client._flush_queue = asyncio.Queue()
    await client.close_safely()


async def test_who_closes_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close(client: Client) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Client, "close", close)
    client = BrokerClient()
    client._flush_queue = asyncio.Queue()
    closing = asyncio.create_task(client.close_safely())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
