"""What others write to the broker, and what moves away, does no harm to a serving process."""

import asyncio
from collections.abc import Callable
from typing import Any

import nats
import pytest

from hivewire import AgentId, MessageContext, NatsAgentRuntime, RoutedAgent, RuntimeStateError, TopicId, message_handler
from hivewire.nats.subjects import Subjects


async def until(condition: Callable[[], Any], timeout: float = 20) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)


class Echo(RoutedAgent):
    closed = 0

    @message_handler
    async def on_text(self, message: str, ctx: MessageContext) -> str:
        return message

    async def close(self) -> None:
        type(self).closed += 1


async def serve(nats_url: str, namespace: str, agent_type: str = "echo") -> NatsAgentRuntime:
    runtime = NatsAgentRuntime(nats_url, namespace=namespace)
    await Echo.register(runtime, agent_type, lambda: Echo("echoes"))
    await runtime.start()
    return runtime


async def test_a_message_to_a_request_subject_without_a_reply_subject_is_dropped(nats_url: str, namespace: str) -> None:
    runtime = await serve(nats_url, namespace)
    foreign = await nats.connect(nats_url)
    await foreign.publish(Subjects(namespace).rpc("echo", "k"), b'"x"', headers={"Hw-Type": "str", "Hw-Left": "1000"})
    await foreign.flush()
    assert await runtime.send_message("still here", AgentId("echo", "k")) == "still here"
    await foreign.close()
    await runtime.stop()


@pytest.mark.parametrize("bucket", ["leases", "positions", "registry"])
async def test_a_record_that_nobody_can_read_does_not_stop_a_process(
    nats_url: str, namespace: str, bucket: str
) -> None:
    first = await serve(nats_url, namespace)
    foreign = await nats.connect(nats_url)
    for key, payload in (("garbage.1", b"{"), ("garbage.2", b"[]"), ("other.3", b'{"session": 1}')):
        await foreign.jetstream().publish(f"$KV.{namespace}_{bucket}.{key}", payload)
    second = await serve(nats_url, namespace)
    for runtime in (first, second):
        for number in range(20):
            assert await runtime.send_message("ok", AgentId("echo", f"k{number}")) == "ok"
    await foreign.close()
    await second.stop()
    await first.stop()


async def test_an_agent_type_with_a_name_of_5000_characters_is_served(nats_url: str, namespace: str) -> None:
    runtime = await serve(nats_url, namespace, "t" * 5_000)
    assert await runtime.send_message("x", AgentId("t" * 5_000, "k")) == "x"
    await runtime.publish_message("x", TopicId("some", "source"))
    await runtime.stop()


async def test_agents_whose_shard_moves_to_another_process_leave_memory(nats_url: str, namespace: str) -> None:
    first = await serve(nats_url, namespace)
    keys = [f"k{number}" for number in range(40)]
    for key in keys:
        await first.send_message("x", AgentId("echo", key))
    assert len(first._catalog.live_ids()) == 40
    before = Echo.closed
    second = await serve(nats_url, namespace)
    await until(lambda: len(first._catalog.live_ids()) < 40)
    await until(lambda: Echo.closed - before == 40 - len(first._catalog.live_ids()))
    for key in keys:
        await second.send_message("x", AgentId("echo", key))
    here = {agent.key for agent in first._catalog.live_ids()}
    there = {agent.key for agent in second._catalog.live_ids()}
    assert not here & there
    assert here | there == set(keys)
    await second.stop()
    await first.stop()


async def test_a_fault_in_the_runtime_ends_it_and_says_so(nats_url: str, namespace: str) -> None:
    runtime = await serve(nats_url, namespace)

    async def fail() -> None:
        raise ZeroDivisionError("a fault")

    runtime._tasks.start(fail())
    with pytest.raises(RuntimeStateError, match="failed and has stopped"):
        async with asyncio.timeout(20):
            await runtime.wait_until_stopped()
    with pytest.raises(RuntimeStateError):
        await runtime.send_message("x", AgentId("echo", "k"))
