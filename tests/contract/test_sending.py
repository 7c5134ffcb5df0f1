import asyncio
from typing import Any

import pytest

from contract.support import (
    Gate,
    Inbox,
    MakeRuntime,
    Number,
    Runtime,
    Scripted,
    echo,
    ignore,
    only_local,
    only_network,
    serve,
    until,
)
from hivewire import (
    AgentId,
    AgentNotFoundError,
    AgentProxy,
    AgentType,
    MessageContext,
    RuntimeStateError,
    SingleThreadedAgentRuntime,
    UndeliverableException,
)
from hivewire.exceptions import HivewireError

AGENT = AgentId("agent", "k")
ELSEWHERE = AgentId("nobody", "knows/this\nid")


class TestAnswers:
    async def test_the_caller_gets_what_the_handler_returns(self, runtime: Runtime) -> None:
        async def double(agent: Scripted, message: Number, ctx: MessageContext) -> Number:
            return Number(2 * message.value)

        await serve(runtime, "agent", double)

        assert await runtime.send_message(Number(21), AGENT) == Number(42)

    async def test_none_is_an_answer(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", ignore)

        assert await runtime.send_message(Number(1), AGENT) is None

    @pytest.mark.parametrize("value", ["", 0, False, 0.0, [], {}, None])
    async def test_an_answer_that_is_false_is_an_answer(self, runtime: Runtime, value: Any) -> None:
        async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            return value

        await serve(runtime, "agent", answer)
        answered = await runtime.send_message("x", AGENT)

        assert answered == value
        assert type(answered) is type(value)

    async def test_many_calls_at_once_each_get_their_own_answer(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")
        calls = [runtime.send_message(number, AgentId("agent", str(number % 7))) for number in range(300)]

        assert await asyncio.gather(*calls) == list(range(300))

    async def test_answers_may_come_in_another_order_than_their_calls(self, runtime: Runtime) -> None:
        gate = Gate()

        async def wait_if_told(agent: Scripted, message: str, ctx: MessageContext) -> Any:
            return await gate(agent, message, ctx) if message == "wait" else message

        await serve(runtime, "agent", wait_if_told)
        waiting = asyncio.create_task(runtime.send_message("wait", AGENT))
        await until(lambda: gate.entered == 1)
        assert await runtime.send_message("go", AGENT) == "go"
        assert not waiting.done()
        gate.opened.set()

        assert await waiting == "wait"

    async def test_calls_from_one_sender_to_one_agent_start_in_order(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        await asyncio.gather(*(runtime.send_message(number, AGENT) for number in range(200)))

        assert inbox.messages == list(range(200))


class TestRecipients:
    async def test_each_key_is_an_agent_of_its_own(self, runtime: Runtime) -> None:
        async def whoami(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            return str(agent.id)

        await serve(runtime, "agent", whoami)
        ids = [AgentId("agent", key) for key in ("a", "b", "default")]

        assert [await runtime.send_message("who?", id) for id in ids] == ["agent/a", "agent/b", "agent/default"]

    async def test_the_same_key_is_the_same_agent(self, runtime: Runtime) -> None:
        built: list[Scripted] = []

        def factory() -> Scripted:
            built.append(Scripted(echo, Inbox()))
            return built[-1]

        await runtime.register_factory("agent", factory)
        for _ in range(3):
            await runtime.send_message("x", AGENT)

        assert len(built) == 1

    async def test_a_recipient_may_be_named_by_an_agent_type(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")

        assert await runtime.send_message("x", AgentId(AgentType("agent"), "k")) == "x"

    async def test_an_unknown_type_is_an_error_that_says_so(self, runtime: Runtime) -> None:
        with pytest.raises(AgentNotFoundError, match=r"^Recipient not found") as caught:
            await runtime.send_message("x", AgentId("unknown", "k"))

        assert isinstance(caught.value, UndeliverableException)
        assert isinstance(caught.value, LookupError)
        assert isinstance(caught.value, HivewireError)

    async def test_a_type_is_known_once_it_is_registered(self, runtime: Runtime) -> None:
        with pytest.raises(AgentNotFoundError):
            await runtime.send_message("x", AGENT, timeout=0.2)
        await serve(runtime, "agent")

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_an_agent_may_call_another_one_and_use_its_answer(self, runtime: Runtime) -> None:
        async def ask(agent: Scripted, message: int, ctx: MessageContext) -> int:
            answer: int = await agent.send_message(message + 1, AgentId("inner", "i"))
            return 10 * answer

        await serve(runtime, "outer", ask)
        inner = await serve(runtime, "inner")

        assert await runtime.send_message(1, AgentId("outer", "o")) == 20
        assert inner.only.ctx.sender == AgentId("outer", "o")

    async def test_an_agent_may_call_itself(self, runtime: Runtime) -> None:
        async def count_down(agent: Scripted, message: int, ctx: MessageContext) -> list[int]:
            below: list[int] = [] if message == 0 else await agent.send_message(message - 1, agent.id)
            return [message, *below]

        await serve(runtime, "agent", count_down)

        assert await runtime.send_message(3, AGENT) == [3, 2, 1, 0]


class TestWhatTheHandlerLearns:
    async def test_a_call_has_no_topic_and_is_one(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        await runtime.send_message("x", AGENT)

        ctx = inbox.only.ctx
        assert ctx.topic_id is None
        assert ctx.is_rpc is True
        assert not ctx.cancellation_token.is_cancelled

    async def test_without_a_sender_there_is_none(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        await runtime.send_message("x", AGENT)

        assert inbox.only.ctx.sender is None

    async def test_any_agent_id_may_be_the_sender_and_none_is_built_for_it(self, runtime: Runtime) -> None:
        sender = await serve(runtime, "sender")
        inbox = await serve(runtime, "agent")
        for id in (ELSEWHERE, AgentId("sender", "s"), AGENT):
            await runtime.send_message("x", AGENT, sender=id)

        assert [each.ctx.sender for each in inbox.received] == [ELSEWHERE, AgentId("sender", "s"), AGENT]
        assert sender.received == []
        assert await runtime.save_state() == {}

    @pytest.mark.parametrize("message_id", ["my-id", "with space\nand line", "größe-🐝", "%41", "a" * 2000])
    async def test_the_message_id_is_the_one_that_the_caller_gave(self, runtime: Runtime, message_id: str) -> None:
        inbox = await serve(runtime, "agent")
        await runtime.send_message("x", AGENT, message_id=message_id)

        assert inbox.only.ctx.message_id == message_id

    async def test_one_message_id_may_serve_several_calls(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        for number in range(3):
            assert await runtime.send_message(number, AGENT, message_id="same") == number

        assert [each.ctx.message_id for each in inbox.received] == ["same"] * 3

    async def test_generated_message_ids_are_there_and_differ(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        for _ in range(10):
            await runtime.send_message("x", AGENT)

        ids = [each.ctx.message_id for each in inbox.received]
        assert all(isinstance(id, str) and id for id in ids)
        assert len(set(ids)) == 10

    async def test_an_agents_own_calls_name_it_as_the_sender(self, runtime: Runtime) -> None:
        async def forward(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            return await agent.send_message(message, AGENT, message_id="inner")

        await serve(runtime, "forwarder", forward)
        inbox = await serve(runtime, "agent")
        await runtime.send_message("x", AgentId("forwarder", "f"), message_id="outer")

        assert inbox.only.ctx.sender == AgentId("forwarder", "f")
        assert inbox.only.ctx.message_id == "inner"


class TestProxies:
    @pytest.mark.parametrize("method", ["send", "send_message"])
    async def test_a_proxy_calls_its_agent(self, runtime: Runtime, method: str) -> None:
        inbox = await serve(runtime, "agent")
        proxy = AgentProxy(AGENT, runtime)

        assert await getattr(proxy, method)("x", message_id="id") == "x"
        assert proxy.id == AGENT
        assert inbox.only.ctx.sender is None
        assert inbox.only.ctx.message_id == "id"

    async def test_in_a_handler_its_agent_is_the_sender_unless_another_is_named(self, runtime: Runtime) -> None:
        async def forward(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await AgentProxy(AGENT, agent.runtime).send(message)
            await AgentProxy(AGENT, agent.runtime).send(message, sender=ELSEWHERE)

        await serve(runtime, "forwarder", forward)
        inbox = await serve(runtime, "agent")
        await runtime.send_message("x", AgentId("forwarder", "f"))

        assert [each.ctx.sender for each in inbox.received] == [AgentId("forwarder", "f"), ELSEWHERE]

    async def test_it_tells_what_the_agent_is(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")

        assert await AgentProxy(AGENT, runtime).metadata == {"type": "agent", "key": "k", "description": "scripted"}

    async def test_its_agent_need_not_exist(self, runtime: Runtime) -> None:
        proxy = AgentProxy(ELSEWHERE, runtime)

        with pytest.raises(AgentNotFoundError):
            await proxy.send("x", timeout=0.2)


class TestBeforeTheStart:
    @only_local
    async def test_calls_wait_in_the_queue(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await serve(runtime, "agent")
        calls = [asyncio.create_task(runtime.send_message(number, AGENT)) for number in range(3)]
        await asyncio.sleep(0)
        await runtime.start()

        assert await asyncio.gather(*calls) == [0, 1, 2]

    @only_network
    async def test_a_runtime_over_a_network_has_to_be_connected_first(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await serve(runtime, "agent")

        with pytest.raises(RuntimeStateError, match="connect"):
            await runtime.send_message("x", AGENT)

    @only_network
    async def test_calls_of_a_connected_one_wait_until_the_agents_are_served(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime()
        await serve(runtime, "agent")
        assert not isinstance(runtime, SingleThreadedAgentRuntime)
        await runtime.connect()
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await asyncio.sleep(0)
        await runtime.start()

        assert await call == "x"
