"""One event in and one direct message through a gateway, over real sockets and a real broker."""

import asyncio
from dataclasses import dataclass

import httpx

from gateway.conftest import DEADLINE_S, NewRuntime
from hivewire import MessageContext, RoutedAgent, TypeSubscription, message_handler


@dataclass
class Greeting:
    text: str


class Greeter(RoutedAgent):
    def __init__(self, seen: asyncio.Queue[str]) -> None:
        super().__init__("greets")
        self.seen = seen

    @message_handler
    async def greet(self, message: Greeting, ctx: MessageContext) -> Greeting:
        self.seen.put_nowait(f"{self.id.key}: {message.text}")
        return Greeting(f"Hello {message.text}")


async def test_an_event_and_a_message_reach_an_agent(http: httpx.AsyncClient, new_runtime: NewRuntime) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()
    runtime = new_runtime()
    await Greeter.register(runtime, "greeter", lambda: Greeter(seen))
    await runtime.add_subscription(TypeSubscription("greetings", "greeter"))
    await runtime.start()

    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "greetings", "ce-source": "shop"}
    headers = {**event, "ce-dataschema": "Greeting"}
    first = await http.post("/v1/events", json={"text": "an event"}, headers=headers)
    again = await http.post("/v1/events", json={"text": "an event"}, headers=headers)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["x-duplicate"] == "true"
    async with asyncio.timeout(DEADLINE_S):
        assert await seen.get() == "shop: an event"

    reply = await http.post(
        "/v1/agents/greeter/someone", json={"text": "you"}, headers={"Hivewire-Message-Type": "Greeting"}
    )
    assert reply.status_code == 200
    assert reply.json() == {"text": "Hello you"}
    assert seen.qsize() == 1
