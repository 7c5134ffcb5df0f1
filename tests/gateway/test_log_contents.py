"""What workers and gateways log, as processes of their own, names types and ids, and never what nobody may read."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from broker.bare_server import bare_server
from broker.cli.commands import CommandLine
from gateway.conftest import DEADLINE_S
from gateway.processes import GatewayProcess
from hivewire.nats.embedded import server_binary
from hivewire_gateway import token_line

MARKER = "melon"
PASSWORD = f"{MARKER}-password"
TOKEN = f"hw_{MARKER}{'0' * 60}"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"

AGENTS = '''
import logging
from dataclasses import dataclass

import structlog
from pydantic import BaseModel

from hivewire import MessageContext, RetryPolicy, RoutedAgent, event, rpc, type_subscription

log = logging.getLogger("shop")


class Order(BaseModel):
    name: str
    count: int


@type_subscription("orders")
class Shop(RoutedAgent):
    """Fails, without a word of what it got."""

    retry_policy = RetryPolicy(attempts=2, first_delay_s=0.01)

    @event
    async def order(self, message: Order, ctx: MessageContext) -> None:
        log.warning("an order")
        structlog.get_logger("shop").warning("an order", sum=3)
        raise ValueError("no stock")

    @rpc
    async def ask(self, message: dict, ctx: MessageContext) -> dict:
        log.warning("a question")
        raise ValueError("no answer")


async def setup(runtime):
    await Shop.register(runtime, "shop", Shop)
'''


@pytest.fixture
async def cli(tmp_path: Path) -> AsyncIterator[CommandLine]:
    """Runs commands against a server that wants a password."""
    config = f'jetstream {{ store_dir: "{tmp_path}" }}\nauthorization {{ user: shop, password: "{PASSWORD}" }}'
    async with bare_server(server_binary(), tmp_path, config=config) as url:
        line = CommandLine(url.replace("//", f"//shop:{PASSWORD}@"), "shop", tmp_path)
        line.environment["HIVEWIRE_LOG_LEVEL"] = "debug"
        yield line
        line.kill_all()


def lines_of(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.splitlines()]


async def test_no_line_holds_a_payload_a_token_or_a_password(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "tokens").write_text(token_line("shop", TOKEN))
    (tmp_path / "gateway.toml").write_text(
        'access_log = true\n[security]\ntokens = { file = "tokens" }\nquery_tokens = true\n'
        '[security.defaults]\npublish = ["*"]\nsend = ["*"]\n'
    )
    worker = cli.start("run", "agents:setup")
    gateway = await asyncio.to_thread(GatewayProcess, cli, "--config", "gateway.toml")
    await asyncio.to_thread(worker.shows, "is served")
    await asyncio.to_thread(_send_what_fails, gateway.url)
    await asyncio.to_thread(worker.shows, "it goes to the dead letters", times=2)
    for process in (worker, gateway.started):
        process.signal(signal.SIGTERM)
        await asyncio.to_thread(process.ends)

    assert MARKER not in worker.output and MARKER not in gateway.started.output
    _check_lines_of_turns(lines_of(worker.output))
    access = [line for line in lines_of(gateway.started.output) if line["logger"] == "hivewire.gateway.access"]
    assert {line["status"] for line in access} == {202, 400, 401, 500}
    assert {line["principal"] for line in access} == {"shop", "-"}
    assert all(0 < line["duration_s"] < DEADLINE_S and line["route"].startswith("/v1/") for line in access)


def _send_what_fails(url: str) -> None:
    """Send what is not let in, what is malformed, and what no handler takes."""
    own = {"Authorization": f"Bearer {TOKEN}", "traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    event = {"ce-specversion": "1.0", "ce-type": "orders", "ce-source": "ada", "ce-dataschema": "Order"}
    with httpx.Client(base_url=url, headers=own, timeout=DEADLINE_S) as client:
        for number, body in enumerate(({"name": MARKER, "count": 1}, {"name": "x", "count": MARKER})):
            assert client.post("/v1/events", json=body, headers={**event, "ce-id": f"m-{number}"}).status_code == 202
        assert client.post("/v1/agents/shop/ada", json={"a": MARKER}).status_code == 500
        broken = client.post(
            "/v1/agents/shop/ada", content=f'{{"{MARKER}', headers={"Content-Type": "application/json"}
        )
        assert broken.status_code == 400
    with httpx.Client(base_url=url, timeout=DEADLINE_S) as stranger:
        wrong = {"Authorization": f"Bearer {MARKER}"}
        assert stranger.post("/v1/agents/shop/ada", json={"a": MARKER}, headers=wrong).status_code == 401
        assert stranger.post(f"/v1/agents/shop/ada?access_token={MARKER}", json={}).status_code == 401


def _check_lines_of_turns(lines: list[dict[str, Any]]) -> None:
    assert {line["level"] for line in lines} == {"debug", "info", "warning", "error"}
    handled = [line for line in lines if line["logger"] == "shop"]
    assert [line["event"] for line in handled].count("an order") == 4
    ended = [line for line in lines if "failed on event" in line["event"]]
    for line in [*handled, *ended]:
        assert line["agent"] == "shop/ada" and line["message_id"], line
    assert {line["trace_id"] for line in [*handled, *ended] if line["message_id"].startswith("m-")} == {TRACE_ID}
    assert {line["message_id"] for line in ended} == {"m-0", "m-1"}
    # An error of a program says what the program put into it.
    assert any(line["exception"].endswith("ValueError: no stock") for line in ended)
