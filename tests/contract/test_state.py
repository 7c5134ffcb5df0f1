"""Agents' states and descriptions through the runtime."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from contract.support import Inbox, MakeRuntime, Runtime, Scripted, ignore, only_local, serve
from hivewire import AgentId, AgentNotFoundError, AgentProxy, BaseAgent, MessageContext

AGENT = AgentId("agent", "k")
UNKNOWN = AgentId("unknown", "k")


class Remembering(BaseAgent):
    """Answers with all that it was ever sent."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> Any:
        self.seen.append(message)
        return list(self.seen)

    async def save_state(self) -> Mapping[str, Any]:
        return {"seen": list(self.seen)}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.seen = list(state["seen"])


class TestOfAllAgents:
    async def test_it_names_the_agents_that_are_alive_and_have_state(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)
        await serve(runtime, "forgetful", ignore)
        for key in ("a", "b/c"):
            await runtime.send_message(f"for {key}", AgentId("agent", key))
        await runtime.send_message("x", AgentId("forgetful", "f"))
        state = await runtime.save_state()

        assert state == {"agent/a": {"seen": ["for a"]}, "agent/b/c": {"seen": ["for b/c"]}}
        assert json.loads(json.dumps(state)) == state

    async def test_it_moves_from_one_runtime_to_another(self, make_runtime: MakeRuntime) -> None:
        first, second = make_runtime(), make_runtime()
        for runtime in (first, second):
            await runtime.register_factory("agent", Remembering)
            await runtime.start()
        await first.send_message(1, AGENT)
        await second.load_state(await first.save_state())

        assert await second.send_message(2, AGENT) == [1, 2]
        assert await first.send_message(3, AGENT) == [1, 3]

    async def test_unknown_types_in_it_are_ignored(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)
        await runtime.load_state({"unknown/k": {"seen": [0]}, "agent/k": {"seen": [1]}})

        assert await runtime.send_message(2, AGENT) == [1, 2]

    async def test_without_agents_there_is_none(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)

        assert await runtime.save_state() == {}


class TestOfOneAgent:
    async def test_it_can_be_saved_and_loaded(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)
        await runtime.send_message(1, AGENT)
        state = await runtime.agent_save_state(AGENT)
        await runtime.agent_load_state(AgentId("agent", "other"), state)

        assert state == {"seen": [1]}
        assert await runtime.send_message(2, AgentId("agent", "other")) == [1, 2]

    async def test_it_can_be_loaded_into_an_agent_that_does_not_live_yet(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)
        await runtime.agent_load_state(AGENT, {"seen": [{"nested": [1, None]}]})

        assert await runtime.agent_save_state(AGENT) == {"seen": [{"nested": [1, None]}]}

    async def test_a_proxy_does_the_same(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)
        proxy = AgentProxy(AGENT, runtime)
        await proxy.load_state({"seen": [1]})

        assert await proxy.send(2) == [1, 2]
        assert await proxy.save_state() == {"seen": [1, 2]}

    async def test_one_without_state_has_an_empty_one(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", ignore)

        assert await runtime.agent_save_state(AGENT) == {}

    async def test_of_an_unknown_one_it_is_an_error(self, runtime: Runtime) -> None:
        with pytest.raises(AgentNotFoundError):
            await runtime.agent_save_state(UNKNOWN)

    async def test_what_the_agent_raises_reaches_the_caller(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)

        with pytest.raises(KeyError, match="seen"):
            await runtime.agent_load_state(AGENT, {"wrong": 1})

    async def test_it_is_taken_between_messages_of_an_agent_with_state(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)
        for number in range(10):
            await runtime.send_message(number, AGENT)
            assert (await runtime.agent_save_state(AGENT))["seen"] == list(range(number + 1))


class TestMetadata:
    async def test_it_names_the_agent_and_describes_it(self, runtime: Runtime) -> None:
        await runtime.register_factory("agent", Remembering)

        assert await runtime.agent_metadata(AGENT) == {
            "type": "agent",
            "key": "k",
            "description": "Answers with all that it was ever sent.",
        }

    async def test_of_an_instance_it_does_too(self, runtime: Runtime) -> None:
        await runtime.register_agent_instance(Scripted(ignore, Inbox()), AGENT)

        assert await runtime.agent_metadata(AGENT) == {"type": "agent", "key": "k", "description": "scripted"}

    async def test_of_an_unknown_agent_it_is_an_error(self, runtime: Runtime) -> None:
        with pytest.raises(AgentNotFoundError, match=r"^Recipient not found"):
            await runtime.agent_metadata(UNKNOWN)

    async def test_a_factory_that_raises_is_an_error(self, runtime: Runtime) -> None:
        def factory() -> Remembering:
            raise KeyError("boom")

        await runtime.register_factory("agent", factory)
        with pytest.raises(KeyError, match="boom"):
            await runtime.agent_metadata(AGENT)

    @only_local
    async def test_in_one_process_it_is_also_there_before_the_start(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await runtime.register_factory("agent", Remembering)

        assert (await runtime.agent_metadata(AGENT))["key"] == "k"
