from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from hivewire.agents.proxy import AgentProxy
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageHandlerContext
from hivewire.model.ids import AgentId
from hivewire.model.runtime import AgentRuntime

TARGET = AgentId("worker", "k")
SENDER = AgentId("caller", "k")


@pytest.fixture
def runtime() -> Any:
    mock = Mock(spec=AgentRuntime)
    mock.send_message = AsyncMock(return_value="answer")
    return mock


@pytest.mark.parametrize("method", ["send", "send_message"])
async def test_it_sends_to_its_agent(runtime: Any, method: str) -> None:
    proxy = AgentProxy(TARGET, runtime)
    token = CancellationToken()

    answer = await getattr(proxy, method)("x", sender=SENDER, cancellation_token=token, message_id="7", timeout=2)

    assert answer == "answer"
    runtime.send_message.assert_awaited_once_with(
        "x", TARGET, sender=SENDER, cancellation_token=token, message_id="7", timeout=2
    )


async def test_outside_of_handlers_there_is_no_sender(runtime: Any) -> None:
    await AgentProxy(TARGET, runtime).send("x")

    assert runtime.send_message.await_args.kwargs["sender"] is None


async def test_in_a_handler_its_agent_is_the_sender(runtime: Any) -> None:
    with MessageHandlerContext.populate_context(SENDER):
        await AgentProxy(TARGET, runtime).send("x")

    assert runtime.send_message.await_args.kwargs["sender"] == SENDER


async def test_it_asks_the_runtime_for_metadata_and_state(runtime: Any) -> None:
    runtime.agent_metadata = AsyncMock(return_value={"type": "worker"})
    runtime.agent_save_state = AsyncMock(return_value={"a": 1})
    proxy = AgentProxy(TARGET, runtime)

    assert proxy.id == TARGET
    assert await proxy.metadata == {"type": "worker"}
    assert await proxy.save_state() == {"a": 1}
    await proxy.load_state({"a": 2})
    runtime.agent_load_state.assert_awaited_once_with(TARGET, {"a": 2})
    assert repr(proxy) == "AgentProxy(AgentId(type='worker', key='k'))"
