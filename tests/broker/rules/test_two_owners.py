"""Two processes that both take themselves for the owner: the stored state decides."""

import asyncio
import json
from collections import Counter
from typing import Any
from unittest.mock import AsyncMock

import pytest

from broker.conftest import NewRuntime
from broker.rules.ledger import TOPIC_TYPE, Ledger, comes_true, serve
from broker.rules.stored import Stored
from hivewire import AgentId, MessageContext, NatsAgentRuntime, StateConflictError, TopicId, TypeSubscription

KEYS = [f"k{number}" for number in range(12)]


def usurp(runtime: NatsAgentRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a runtime take everybody else for dead, and claim all."""
    shards = runtime._serving._shards
    every_session = shards._live_sessions
    monkeypatch.setattr(shards, "_has_ended", AsyncMock(return_value=True))
    monkeypatch.setattr(
        shards,
        "_live_sessions",
        lambda: {session: record for session, record in every_session().items() if session == shards._keeper.id},
    )


async def test_what_two_owners_handle_at_once_is_in_the_state_once_and_in_order(
    new_runtime: NewRuntime, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[str] = Counter()

    def running_in(name: str) -> Any:
        async def pause(agent: Ledger, message: Any, ctx: MessageContext) -> None:
            runs[name] += 1
            await asyncio.sleep(0.005)

        return pause

    rightful, usurper, caller = new_runtime(), new_runtime(), await new_runtime().connect()
    await serve(rightful, running_in("rightful"))
    events = 40

    async def publish_on(key: str) -> None:
        for number in range(events):
            await caller.publish_message(number, TopicId(TOPIC_TYPE, key))

    publishing = asyncio.gather(*(publish_on(key) for key in KEYS))
    await Ledger.register(usurper, "ledger", lambda: Ledger(running_in("usurper")))
    await usurper.add_subscription(TypeSubscription(TOPIC_TYPE, "ledger"))
    await usurper.connect()
    usurp(usurper, monkeypatch)
    await usurper.start()
    applied: Counter[tuple[str, str]] = Counter()

    async def call_on(key: str) -> None:
        for number in range(20):
            text = f"call {number}"
            try:
                await caller.send_message(text, AgentId("ledger", key))
                applied[key, text] = 1
            except StateConflictError:
                applied[key, text] = 0

    await asyncio.gather(publishing, *(call_on(key) for key in KEYS))

    async def complete() -> bool:
        for key in KEYS:
            record = await stored.state(AgentId("ledger", key))
            if record is None or f"{events - 1}" not in (record.state or ""):
                return False
        return True

    await comes_true(complete, 40)
    for key in KEYS:
        # What an agent answers may be what its process believes; what is stored is what holds.
        record = await stored.state(AgentId("ledger", key))
        assert record is not None
        seen = json.loads(record.state or "")["seen"]
        assert [each for each in seen if isinstance(each, int)] == list(range(events))
        calls = Counter(each for each in seen if isinstance(each, str))
        assert calls == Counter(text for (of, text), once in applied.items() if of == key and once)
    assert runs["rightful"]
    assert runs["usurper"]
    assert await stored.dead_letters() == []
