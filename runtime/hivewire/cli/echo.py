"""Tells whether an installation works: an agent to speak to, and a program that does so through the gateway.

`hivewire run hivewire.cli.echo:setup` serves the agent. `python -m hivewire.cli.echo URL SECONDS` sends to it and
publishes to it until both have an effect, and ends with an error when that took longer. A token is taken from TOKEN.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from hivewire.agents.handlers import event, rpc
from hivewire.agents.routed import RoutedAgent
from hivewire.distributed import NatsAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.subscriptions import type_subscription

ECHO = "hivewire-echo"
_AGAIN_S = 1.0
_REQUEST_TIMEOUT_S = 10.0


@type_subscription(topic_type=ECHO)
class Echo(RoutedAgent):
    """Keeps the texts of its events, and returns them with what it is sent."""

    def __init__(self) -> None:
        super().__init__("tells whether an installation works")
        self._heard: list[str] = []

    @event
    async def hear(self, message: str, ctx: MessageContext) -> None:
        self._heard = [*self._heard, message][-100:]

    @rpc
    async def answer(self, message: str, ctx: MessageContext) -> list[str]:
        return [message, *self._heard]


async def setup(runtime: NatsAgentRuntime) -> None:
    """Serve the agent."""
    await Echo.register(runtime, ECHO, Echo)


def check(gateway: str, *, timeout_s: float, token: str = "") -> None:
    """Publish and send to an agent of a fresh key until it has the event and answers.

    Raises:
        TimeoutError: that took longer; the message tells what went wrong the last time.
    """
    deadline = time.monotonic() + timeout_s
    key = secrets.token_hex(8)
    said = secrets.token_hex(8)
    while True:
        try:
            _post(f"{gateway}/v1/topics/{ECHO}/{key}", said, token)
            answer = json.loads(_post(f"{gateway}/v1/agents/{ECHO}/{key}", "hello", token))
        except HTTPError as error:
            problem = f"{error.code} {error.read(1_000).decode(errors='replace')}"
        except (OSError, HTTPException, ValueError) as error:
            problem = str(error)
        else:
            if answer[0] == "hello" and said in answer:
                return
            problem = f"an event has not arrived: the agent answers {answer}"
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} seconds: {problem}")
        time.sleep(_AGAIN_S)


def _post(url: str, text: str, token: str) -> bytes:
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    with urlopen(Request(url, json.dumps(text).encode(), headers), timeout=_REQUEST_TIMEOUT_S) as response:
        body: bytes = response.read()
    return body


if __name__ == "__main__":
    try:
        check(sys.argv[1], timeout_s=float(sys.argv[2]), token=os.environ.get("TOKEN", ""))
    except TimeoutError as error:
        sys.exit(str(error))
    print("The gateway takes messages, an agent answers, and it gets events.")
