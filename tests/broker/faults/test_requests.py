"""Requests that get lost on their way."""

import asyncio
from time import monotonic

import nats
import pytest
from nats.aio.msg import Msg

from hivewire import BrokerUnavailableError
from hivewire.nats.broker import Broker, UnansweredError
from hivewire.nats.embedded import EmbeddedServer


async def test_a_message_that_a_dying_leader_did_not_acknowledge_is_sent_again_soon(nats_url: str) -> None:
    """The answer to whichever of them counts, also one that comes late."""
    received: list[Msg] = []

    async def answer_the_second(message: Msg) -> None:
        received.append(message)
        if len(received) == 2:
            await received[0].respond(b'{"seq":1}')

    server = await nats.connect(nats_url)
    broker = Broker(nats_url, name="test")
    await broker.open()
    try:
        await server.subscribe("lost.once", cb=answer_the_second)
        await server.flush()
        begun = monotonic()
        assert (await broker.store("lost.once", b"")).sequence == 1
        assert len(received) == 2
        assert monotonic() - begun < 4.5, "it was sent again only after the whole wait for an answer"
        assert received[0].reply == received[1].reply
    finally:
        await broker.close()
        await server.close()


async def test_what_was_sent_and_not_acknowledged_may_be_stored_and_what_nobody_took_is_not(nats_url: str) -> None:
    async def say_nothing(message: Msg) -> None:
        """Take it, as a stream whose answer is lost."""

    server = await nats.connect(nats_url)
    broker = Broker(nats_url, name="test")
    await broker.open()
    try:
        await server.subscribe("lost.taken", cb=say_nothing)
        await server.flush()
        with pytest.raises(UnansweredError):
            await broker.store("lost.taken", b"", timeout=0.2)
        with pytest.raises(BrokerUnavailableError) as caught:
            await broker.store("lost.nobody", b"", timeout=0.2)
        assert not isinstance(caught.value, UnansweredError)
    finally:
        await broker.close()
        await server.close()


async def test_a_message_that_was_sent_before_the_connection_broke_may_be_stored_whatever_comes_then() -> None:
    sent = asyncio.Event()

    async def note(message: Msg) -> None:
        sent.set()

    async with EmbeddedServer() as embedded:
        server = await nats.connect(embedded.url)
        broker = Broker(embedded.url, name="test")
        await broker.open()
        try:
            await server.subscribe("lost.taken", cb=note)
            await server.flush()
            storing = asyncio.create_task(broker.store("lost.taken", b"", timeout=1))
            await sent.wait()
            await server.close()
            embedded.kill()
            with pytest.raises(UnansweredError, match="no connection"):
                await storing
            with pytest.raises(BrokerUnavailableError) as caught:
                await broker.store("lost.taken", b"", timeout=0.2)
            assert not isinstance(caught.value, UnansweredError)
        finally:
            await broker.close()
