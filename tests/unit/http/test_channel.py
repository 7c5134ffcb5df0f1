"""Two sides of a channel, with nothing but queues between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hivewire.exceptions import OverloadedError
from hivewire.http import channel as channel_module
from hivewire.http.channel import ITEM_WINDOW, Channel, ChannelClosedError, IncomingRequest
from hivewire.http.frames import Header, decode_frame, encode_frame

Serve = Callable[[IncomingRequest], Awaitable[tuple[Header, bytes]]]


class Pipe:
    """One end of a connection. `stuck`: it takes nothing."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.other: Pipe
        self.sent: list[tuple[Header, bytes]] = []
        self.stuck = False

    async def send(self, frame: bytes) -> None:
        if self.stuck:
            await asyncio.get_running_loop().create_future()
        self.sent.append(decode_frame(frame))
        self.other.incoming.put_nowait(frame)

    async def receive(self) -> bytes:
        frame = await self.incoming.get()
        if frame is None:
            raise ChannelClosedError("cut")
        return frame

    def cut(self) -> None:
        self.incoming.put_nowait(None)
        self.other.incoming.put_nowait(None)


async def refuse(request: IncomingRequest) -> tuple[Header, bytes]:
    raise ValueError("no")


@asynccontextmanager
async def connected(serve: Serve) -> AsyncIterator[tuple[Channel, Pipe]]:
    """Yield the side that asks; the other one serves."""
    near, far = Pipe(), Pipe()
    near.other, far.other = far, near
    asking, serving = Channel(near, refuse), Channel(far, serve)
    async with asyncio.TaskGroup() as group:
        group.create_task(asking.run())
        group.create_task(serving.run())
        yield asking, near
        near.cut()


async def test_answers_come_to_their_requests_in_whatever_order() -> None:
    gates = {str(number): asyncio.Event() for number in range(3)}

    async def serve(request: IncomingRequest) -> tuple[Header, bytes]:
        await gates[request.op].wait()
        return {"op was": request.op}, request.payload

    async with connected(serve) as (asking, _):
        requests = [await asking.ask(op, {}, op.encode()) for op in gates]
        for request, (op, gate) in reversed(list(zip(requests, gates.items(), strict=True))):
            gate.set()
            answer = (await request.answer).checked()
            assert (answer.header["op was"], answer.payload) == (op, op.encode())


async def test_an_error_comes_as_itself() -> None:
    async with connected(refuse) as (asking, _):
        with pytest.raises(ValueError, match="no"):
            await asking.answer_to("x")


async def test_items_wait_for_leave() -> None:
    given = 0

    async def serve(request: IncomingRequest) -> tuple[Header, bytes]:
        nonlocal given
        for number in range(100):
            await request.give({"number": number}, b"")
            given += 1
        return {}, b""

    async with connected(serve) as (asking, _):
        request = await asking.ask("x", {"credit": ITEM_WINDOW})
        for _ in range(50):
            await asyncio.sleep(0)
        assert given == ITEM_WINDOW
        numbers = []
        while (item := await request.next_item()) is not None:
            numbers.append(item.header["number"])
            assert given <= len(numbers) + ITEM_WINDOW
        assert numbers == list(range(100))
        (await request.answer).checked()


async def test_a_cancelled_request_cancels_its_task_and_an_early_cancel_is_kept() -> None:
    ends: list[str] = []

    async def serve(request: IncomingRequest) -> tuple[Header, bytes]:
        request.on_cancel = ends.append
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ends.append("task")
            raise
        raise AssertionError

    async with connected(serve) as (asking, _):
        request = await asking.ask("x")
        await asyncio.sleep(0.01)
        request.cancel("deadline")
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            (await request.answer).checked()
    assert ends == ["deadline", "abort", "task"]


async def test_the_end_of_the_connection_ends_all_requests_and_tells_which_were_sent() -> None:
    async def serve(request: IncomingRequest) -> tuple[Header, bytes]:
        return await asyncio.get_running_loop().create_future()

    async with connected(serve) as (asking, pipe):
        sent = await asking.ask("x")
        await asyncio.sleep(0.01)
        pipe.stuck = True
        under_way = await asking.ask("x")
        await asyncio.sleep(0.01)
        waiting = await asking.ask("x")
        pipe.cut()
        lost = [(await each.answer).lost for each in (sent, under_way, waiting)]
        assert [isinstance(each, ChannelClosedError) and each.sent for each in lost] == [True, True, False]
        with pytest.raises(ChannelClosedError):
            await asking.ask("x")
        asking.post({"id": 1, "credit": 1})


async def test_who_has_much_to_say_waits_and_a_peer_that_takes_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "SEND_TIMEOUT_S", 0.2)
    async with connected(refuse) as (asking, pipe):
        pipe.stuck = True

        async def ask() -> None:
            await asking.ask("x", {}, b"x" * 600_000)

        asks = [asyncio.create_task(ask()) for _ in range(10)]
        await asyncio.sleep(0.05)
        assert sum(each.done() for each in asks) == 2
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
        assert sum(isinstance(each, ChannelClosedError) for each in outcomes) == 8
        assert asking.closed is not None
        assert "took nothing" in asking.closed.reason


async def test_too_many_requests_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "_MAX_REQUESTS", 2)
    gate = asyncio.Event()

    async def serve(request: IncomingRequest) -> tuple[Header, bytes]:
        await gate.wait()
        return {}, b""

    async with connected(serve) as (asking, _):
        requests = [await asking.ask("x") for _ in range(3)]
        with pytest.raises(OverloadedError):
            (await requests[2].answer).checked()
        gate.set()
        for request in requests[:2]:
            (await request.answer).checked()


@pytest.mark.parametrize("frame", [b"", b"\x00\x00\x00\x01{", encode_frame({"id": 1}), encode_frame({"re": []})])
async def test_a_peer_that_does_not_speak_the_protocol_is_left(frame: bytes) -> None:
    async with connected(refuse) as (asking, pipe):
        pipe.incoming.put_nowait(frame)
        if frame == encode_frame({"id": 1}):
            # A word about a request that is over is none of a fault.
            pipe.incoming.put_nowait(b"")
        while asking.closed is None:
            await asyncio.sleep(0)
        assert "protocol" in asking.closed.reason
