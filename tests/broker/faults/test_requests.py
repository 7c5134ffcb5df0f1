"""Requests that get lost on their way."""

from time import monotonic

import nats
from nats.aio.msg import Msg

from hivewire.nats.broker import Broker


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
