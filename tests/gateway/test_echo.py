"""The program that tells whether an installation works."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.conftest import NewGateway, NewRuntime
from hivewire.cli.echo import check, setup


async def test_an_installation_that_works_passes(new_runtime: NewRuntime, new_gateway: NewGateway) -> None:
    runtime = new_runtime()
    await setup(runtime)
    await runtime.start()
    gateway = await new_gateway()
    await asyncio.to_thread(check, gateway.url, timeout_s=20)


async def test_one_without_agents_does_not_and_says_why(new_gateway: NewGateway) -> None:
    gateway = await new_gateway()
    begin = time.monotonic()
    with pytest.raises(TimeoutError, match=r"not within 0 seconds: 404 .*hivewire-echo"):
        await asyncio.to_thread(check, gateway.url, timeout_s=0)
    assert time.monotonic() - begin < 10


def test_one_without_a_gateway_does_not_and_says_why() -> None:
    with pytest.raises(TimeoutError, match="refused"):
        check("http://127.0.0.1:1", timeout_s=0)
