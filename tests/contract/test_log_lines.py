"""Lines that are written while a message is handled, and about its end, name the message."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from contract.support import MakeRuntime, Runtime, Scripted, Settle, Text, fail, serve
from hivewire import AgentId, MessageContext, TopicId
from hivewire.telemetry.log_rendering import line_handler

TOPIC = TopicId("t", "k")
AGENT = AgentId("agent", "k")

shop = logging.getLogger("shop")


class Lines(logging.Handler):
    """Keeps lines as they are written, where they are written."""

    def __init__(self) -> None:
        super().__init__()
        self._formatter = line_handler(as_text=False).formatter
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert self._formatter is not None
        self.lines.append(json.loads(self._formatter.format(record)))

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"].startswith(logger)]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    caplog.set_level(logging.INFO)
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler
    logging.getLogger().removeHandler(handler)


async def talk(agent: Scripted, message: Any, ctx: MessageContext) -> str:
    shop.info("at work")
    return "done"


async def test_what_a_handler_logs_names_its_agent_and_message(runtime: Runtime, settle: Settle, lines: Lines) -> None:
    await serve(runtime, "agent", talk, "t")
    await runtime.send_message(Text("x"), AGENT, message_id="call")
    await runtime.publish_message(Text("x"), TOPIC, message_id="event")
    await settle(runtime)

    shop.info("afterwards")
    named = [(line.get("agent"), line.get("message_id")) for line in lines.of("shop")]
    assert named == [("agent/k", "call"), ("agent/k", "event"), (None, None)]


async def test_an_inner_message_has_its_own_name(runtime: Runtime, lines: Lines) -> None:
    async def ask(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        shop.info("before")
        await agent.send_message(Text("y"), AGENT)
        shop.info("after")

    await serve(runtime, "agent", talk)
    await serve(runtime, "outer", ask)
    await runtime.send_message(Text("x"), AgentId("outer", "o"), message_id="first")

    before, inner, after = [(line["agent"], line["message_id"]) for line in lines.of("shop")]
    assert before == after == ("outer/o", "first")
    assert inner[0] == "agent/k" and inner[1] != "first"


async def test_what_is_logged_of_a_failure_names_the_message(
    make_runtime: MakeRuntime, settle: Settle, lines: Lines
) -> None:
    runtime = make_runtime()
    await runtime.start()
    await serve(runtime, "agent", fail, "t")
    await runtime.publish_message(Text("x"), TOPIC, message_id="event")
    await settle(runtime)

    failed = [line for line in lines.of("hivewire") if "boom" in line.get("exception", "")]
    assert failed and all((line["agent"], line["message_id"]) == ("agent/k", "event") for line in failed)
