"""What waits for one client of server-sent events."""

import asyncio

from hivewire_gateway.open_streams import OpenStreams
from hivewire_gateway.outlets import Outlet


async def test_pieces_are_taken_in_order_and_as_many_as_fit():
    taken = []
    outlet = Outlet(on_take=lambda: taken.append(outlet.waiting))
    for piece in (b"aa", b"bb", b"cc"):
        outlet.push(piece)
    assert (outlet.waiting, outlet.waiting_bytes) == (3, 6)
    assert outlet.take(5) == b"aabb"
    # A piece is never cut, however large.
    assert outlet.take(1) == b"cc"
    assert outlet.take(1) == b""
    assert (outlet.waiting_bytes, taken) == (0, [1, 0])


async def test_who_fills_waits_for_room_and_who_empties_for_something():
    outlet = Outlet()
    assert not await outlet.changed(0.01)
    outlet.push(b"a")
    assert await outlet.changed(0.01)
    waiting = asyncio.create_task(outlet.room(1))
    await asyncio.sleep(0)
    assert not waiting.done()
    outlet.take(10)
    assert await waiting


async def test_after_the_end_nothing_is_taken_in_and_nobody_waits():
    outlet = Outlet()
    outlet.push(b"a")
    waiting = asyncio.create_task(outlet.room(1))
    await asyncio.sleep(0)
    outlet.end(b"last")
    outlet.push(b"late")
    assert not await waiting
    await outlet.until_ended()
    assert outlet.take(100) == b"alast"
    assert await outlet.changed(0.01)


async def test_streams_that_begin_while_the_gateway_drains_end_at_once():
    streams, early, late = OpenStreams(retry_s=1), Outlet(), Outlet()
    streams.add(early)
    streams.drain()
    assert early.take(100).startswith(b"retry: ")
    streams.add(late)
    assert late.ended
    assert len(streams) == 2
    streams.discard(late)
    assert len(streams) == 1
