from __future__ import annotations

import pytest
from nats.aio.client import Client

from hivewire.nats.connection import _Client


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
    assert _Client._parse_header_lines(raw) == Client._parse_header_lines(raw)


def test_the_library_calls_the_own_reading_of_headers() -> None:
    assert "_parse_header_lines" in vars(Client)
