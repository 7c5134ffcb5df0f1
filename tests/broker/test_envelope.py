"""Envelopes through a real server and client: what is sent is what arrives, whatever the text in it."""

import asyncio

import nats
import pytest
from nats.aio.msg import Msg

from hivewire.model.ids import AgentId
from hivewire.model.topics import TopicId
from hivewire.nats.envelope import CallEnvelope, EventEnvelope, decode_call, decode_event, encode_call, encode_event

TEXTS = ["plain", "", " spaces ", "line\r\nNats-Msg-Id: x\r\n\r\n", "100%", 'quo"te', "é𝄞\0", "x" * 2000]


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
async def test_any_text_survives_in_the_headers(nats_url: str, namespace: str, text: str) -> None:
    event = EventEnvelope(
        topic=TopicId("t", text), message_id=text, sender=AgentId("a", text), type_name=text, payload=b"\0"
    )
    call = CallEnvelope(
        type_name=text,
        payload=b"",
        left_ms=1,
        sender=AgentId("a", text),
        message_id=text,
        key=text,
        chain=("t1", text + ","),
    )
    client = await nats.connect(nats_url)
    arrived: asyncio.Queue[Msg] = asyncio.Queue()
    await client.subscribe(namespace, cb=arrived.put)
    for headers, payload in (encode_event(event), encode_call(call)):
        await client.publish(namespace, payload, headers=headers)
    first, second = await asyncio.wait_for(arrived.get(), 5), await asyncio.wait_for(arrived.get(), 5)
    assert decode_event(first.headers, first.data) == event
    assert decode_call(second.headers, second.data) == call
    await client.close()
