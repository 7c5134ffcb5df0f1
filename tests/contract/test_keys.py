"""Agent keys and topic sources are arbitrary strings: each is an agent of its own and comes through unchanged."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.support import Inbox, Runtime, Scripted, Settle, echo, ignore, serve, until
from hivewire import AgentId, MessageContext, MessageTooLargeError, TopicId

KEYS = {
    "empty": "",
    "space": " ",
    "dot": ".",
    "dots": "a.b..c.",
    "star": "*",
    "wildcard": ">",
    "wildcards in between": "a.*.>",
    "slashes": "a/b/c/",
    "newline": "a\nb",
    "line ends": "\r\n\r\nNATS/1.0 503\r\n",
    "tab and zero": "\t\x00\x7f",
    "spaces around": "  a  ",
    "unicode": "größe",
    "composed": "\u00e9",
    "decomposed": "e\u0301",
    "another script": "代理人",
    "right to left": "\u202eשבת",
    "emoji": "🐝🧑‍💻",
    "percent": "%41%0A",
    "equals": "=41=",
    "escaped looking": "==AAAA",
    "quotes": "\"'`\\",
    "dollar": "$JS.API.>",
    "underscore": "_INBOX.x",
    "upper": "KEY",
    "lower": "key",
    "long": "k" * 129,
    "300 characters": "ä" * 300,
    "10,000 characters": "x" * 10_000,
    "10,000 characters that differ at the end": "x" * 9_999 + "y",
    "4,000 characters of two bytes": "é" * 4_000,
}


class TestAnyString:
    async def test_is_a_key_that_can_be_called(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        for key in KEYS.values():
            assert await runtime.send_message(key, AgentId("agent", key)) == key

        assert inbox.keys == list(KEYS.values())

    async def test_is_a_source_that_can_be_published_to(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for key in KEYS.values():
            await runtime.publish_message(key, TopicId("t", key))
        await settle(runtime)

        assert sorted(inbox.keys) == sorted(KEYS.values())
        assert [each.ctx.topic_id for each in inbox.received] == [TopicId("t", key) for key in inbox.messages]

    async def test_is_an_agent_of_its_own(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", echo, "t")
        await asyncio.gather(*(runtime.send_message(key, AgentId("agent", key)) for key in KEYS.values()))
        await asyncio.gather(*(runtime.publish_message(key, TopicId("t", key)) for key in KEYS.values()))
        await settle(runtime)

        assert len(inbox) == 2 * len(KEYS)
        assert inbox.keys == inbox.messages

    async def test_can_be_the_key_of_a_sender(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for key in KEYS.values():
            await runtime.send_message(key, AgentId("agent", "k"), sender=AgentId("sender", key))
            await runtime.publish_message(key, TopicId("t", "k"), sender=AgentId("sender", key))
        await settle(runtime)

        assert len(inbox) == 2 * len(KEYS)
        assert [each.ctx.sender for each in inbox.received] == [AgentId("sender", key) for key in inbox.messages]

    async def test_can_be_the_key_of_an_instance(self, runtime: Runtime, settle: Settle) -> None:
        agents = {key: Scripted(echo, Inbox()) for key in KEYS.values()}
        for key, agent in agents.items():
            await agent.register_instance(runtime, AgentId("single", key))
            assert await runtime.send_message("call", AgentId("single", key)) == "call"
            await runtime.publish_message(key, TopicId("single:", key))
        await settle(runtime)

        assert {key: agent.inbox.messages for key, agent in agents.items()} == {key: ["call", key] for key in agents}

    async def test_does_not_get_its_own_events(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", ignore, "t")
        for key in KEYS.values():
            await runtime.publish_message("own", TopicId("t", key), sender=AgentId("agent", key))
            await runtime.publish_message("other", TopicId("t", key))
        await settle(runtime)

        assert inbox.messages == ["other"] * len(KEYS)

    async def test_has_metadata_and_state(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")
        for key in KEYS.values():
            assert (await runtime.agent_metadata(AgentId("agent", key)))["key"] == key
            assert await runtime.agent_save_state(AgentId("agent", key)) == {}


async def test_a_huge_one_can_be_called_and_as_a_source_works_or_is_a_clear_error(
    runtime: Runtime, settle: Settle, kind: str
) -> None:
    key = "🐝" * 10_000
    inbox = await serve(runtime, "agent", echo, "t")

    assert await runtime.send_message("x", AgentId("agent", key)) == "x"
    if kind != "local":
        # The server takes 64 KiB of headers with a stored message, and the source is one.
        with pytest.raises(MessageTooLargeError, match=r"\d+ bytes of headers"):
            await runtime.publish_message("y", TopicId("t", key))
    else:
        await runtime.publish_message("y", TopicId("t", key))
    await runtime.publish_message("z", TopicId("t", "k"))
    await settle(runtime)
    assert inbox.messages == (["x", "y", "z"] if kind == "local" else ["x", "z"])


class Meeting:
    """A runtime whose one agent type says who it is, and remembers what each key heard."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.inbox = Inbox()

    async def open(self) -> None:
        async def whoami(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            return agent.id.key

        self.inbox = await serve(self.runtime, "agent", whoami, "t")


@pytest.fixture
async def meeting(runtime: Runtime) -> AsyncIterator[Meeting]:
    meeting = Meeting(runtime)
    await meeting.open()
    yield meeting


strings = (
    st.text(max_size=40) | st.text(alphabet=".=*>% /\n_-aA\u00e9", max_size=200) | st.text(min_size=100, max_size=300)
)


@given(keys=st.lists(strings, unique=True, min_size=2, max_size=6))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_two_different_strings_never_meet(meeting: Meeting, keys: list[str]) -> None:
    runtime, inbox = meeting.runtime, meeting.inbox
    inbox.received.clear()

    assert await asyncio.gather(*(runtime.send_message("who?", AgentId("agent", key)) for key in keys)) == keys
    for key in keys:
        await runtime.publish_message(f"for {key}", TopicId("t", key))
    await until(lambda: len(inbox) == 2 * len(keys))
    assert all(each.message in ("who?", f"for {each.agent.key}") for each in inbox.received)
