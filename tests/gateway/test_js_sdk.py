"""The CloudEvents SDK for JavaScript as a producer, in a process of its own."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from gateway.stored_events import StoredEvent, stored_events
from hivewire_gateway import GatewayServer

PRODUCER = Path(__file__).parent / "js" / "producer.cjs"
MODULES = Path(__file__).parents[2] / ".tools" / "js" / "node_modules"
NODE = shutil.which("node")
DEADLINE_S = 30
EVENT = {"source": "/js", "type": "orders", "time": "2018-04-05T17:31:00.000Z"}

pytestmark = pytest.mark.skipif(
    NODE is None or not (MODULES / "cloudevents").is_dir(),
    reason="needs Node.js and the modules that `make js-tools` installs",
)


async def produce(gateway: GatewayServer, *sendings: dict[str, Any]) -> list[Any]:
    """Send events by the SDK, and return what it was answered."""
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(PRODUCER),
        f"{gateway.url}/v1/events",
        env={**os.environ, "NODE_PATH": str(MODULES)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        output, _ = await process.communicate(json.dumps(sendings).encode())
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


def attributes_of(event: StoredEvent) -> dict[str, str]:
    return {name: value for name, value in event.headers.items() if name not in ("ce-id", "Nats-Msg-Id")}


async def test_an_event_of_the_sdk_means_the_same_in_all_modes(
    gateway: GatewayServer, nats_url: str, namespace: str
) -> None:
    event = {
        **EVENT,
        "subject": "tea",
        "dataschema": "https://example.com/order.json",
        "datacontenttype": "application/json",
        "ext": "x",
        "number": 7,
        "yes": True,
        "data": {"item": "ä€😀", "numbers": [1, 2.5, None]},
    }
    answers = await produce(
        gateway,
        {"mode": "binary", "events": [{**event, "id": "1"}]},
        {"mode": "structured", "events": [{**event, "id": "2"}]},
        {"mode": "batch", "events": [{**event, "id": "3"}]},
    )
    assert [answer["status"] for answer in answers] == [202, 202, 202]
    stored = await stored_events(nats_url, namespace)
    assert [each.id for each in stored] == ["1", "2", "3"]
    assert all(each.data == event["data"] for each in stored)
    assert attributes_of(stored[0]) == attributes_of(stored[1]) == attributes_of(stored[2])
    assert stored[0].headers["ce-number"] == "7"
    assert stored[0].headers["ce-yes"] == "true"


async def test_bytes_and_text_of_the_sdk_come_through(gateway: GatewayServer, nats_url: str, namespace: str) -> None:
    image = {**EVENT, "datacontenttype": "image/png", "data_hex": "00ff80"}
    text = {**EVENT, "datacontenttype": "text/plain", "data": "ä€"}
    nothing = {**EVENT, "datacontenttype": "application/json"}
    for mode in ("binary", "structured"):
        events = [{**event, "id": f"{mode}{index}"} for index, event in enumerate((image, text, nothing))]
        answers = await produce(gateway, {"mode": mode, "events": events})
        assert [answer["status"] for answer in answers] == [202, 202, 202], answers
    stored = await stored_events(nats_url, namespace)
    assert [each.payload for each in stored] == [b"\x00\xff\x80", "ä€".encode(), b"null"] * 2
    assert [each.headers["content-type"] for each in stored] == ["image/png", "text/plain", "application/json"] * 2


async def test_an_event_that_the_sdk_sends_again_is_stored_once(
    gateway: GatewayServer, nats_url: str, namespace: str
) -> None:
    event = {**EVENT, "id": "1", "data": {}}
    first, second, third = await produce(
        gateway, {"mode": "binary", "events": [event, event]}, {"mode": "structured", "events": [event]}
    )
    assert (first["duplicate"], second["duplicate"], third["duplicate"]) == (False, True, True)
    assert first["body"] == second["body"] == third["body"]
    assert len(await stored_events(nats_url, namespace)) == 1
