"""Waiting for the first of several."""

import asyncio

import pytest

from hivewire.cli.waiting import first_of


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        ended.append("ended")


async def test_the_others_have_ended_when_the_first_one_has() -> None:
    ended: list[str] = []
    await first_of(forever(ended), asyncio.sleep(0), forever(ended))
    assert ended == ["ended", "ended"]


async def test_what_the_first_one_raises_is_raised() -> None:
    async def fails() -> None:
        raise ValueError("first")

    ended: list[str] = []
    with pytest.raises(ValueError, match="first"):
        await first_of(forever(ended), fails())
    assert ended == ["ended"]


async def test_all_end_when_the_waiting_is_cancelled() -> None:
    ended: list[str] = []
    waiting = asyncio.ensure_future(first_of(forever(ended), forever(ended)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert ended == ["ended", "ended"]
