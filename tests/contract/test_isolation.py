"""What sender and receivers share: objects in one process, nothing between processes."""

from typing import Any

from contract.support import MakeRuntime, Number, Runtime, Scripted, Settle, echo, ignore, only_local, serve
from hivewire import AgentId, MessageContext, TopicId

AGENT = AgentId("agent", "k")
TOPIC = TopicId("t", "k")


async def add_one(agent: Scripted, message: Number, ctx: MessageContext) -> Number:
    message.value += 1
    return message


class TestByReference:
    pytestmark = only_local

    async def test_a_message_and_its_answer_are_the_very_objects(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", echo)
        message = Number(1)

        assert await runtime.send_message(message, AGENT) is message
        assert inbox.only.message is message

    async def test_what_a_handler_changes_its_sender_sees(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", add_one)
        message = Number(1)
        await runtime.send_message(message, AGENT)

        assert message == Number(2)

    async def test_subscribers_share_the_event(self, runtime: Runtime, settle: Settle) -> None:
        inboxes = [await serve(runtime, type, add_one, "t") for type in "ab"]
        message = Number(1)
        await runtime.publish_message(message, TOPIC)
        await settle(runtime)

        assert [inbox.only.message for inbox in inboxes] == [message, message]
        assert message == Number(3)

    async def test_messages_need_no_serializer(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", echo, "t")
        message = object()

        assert await runtime.send_message(message, AGENT) is message
        await runtime.publish_message(message, TOPIC)
        await settle(runtime)
        assert inbox.messages == [message, message]


class TestByCopy:
    """On the runtime over NATS always; on the local one when it is told to serialize messages."""

    async def test_a_message_and_its_answer_are_copies(self, copying_runtime: Runtime) -> None:
        answers: list[Any] = []

        async def keep(agent: Scripted, message: Number, ctx: MessageContext) -> Number:
            answers.append(Number(message.value))
            return answers[-1]  # type: ignore[no-any-return]

        inbox = await serve(copying_runtime, "agent", keep)
        message = Number(1)
        answer = await copying_runtime.send_message(message, AGENT)

        assert answer == inbox.only.message == message
        assert len({id(each) for each in (answer, answers[0], inbox.only.message, message)}) == 4

    async def test_what_a_handler_changes_nobody_else_sees(self, copying_runtime: Runtime, settle: Settle) -> None:
        inboxes = [await serve(copying_runtime, type, add_one, "t") for type in "ab"]
        message = Number(1)
        await copying_runtime.publish_message(message, TOPIC)
        assert await copying_runtime.send_message(message, AgentId("a", "k")) == Number(2)
        await settle(copying_runtime)

        assert message == Number(1)
        assert [each.message for inbox in inboxes for each in inbox.received] == [Number(2)] * 3

    async def test_the_sender_may_change_the_message_afterwards(self, copying_runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(copying_runtime, "agent", ignore, "t")
        message = Number(1)
        await copying_runtime.publish_message(message, TOPIC)
        message.value = 2
        await settle(copying_runtime)

        assert inbox.messages == [Number(1)]

    async def test_agents_of_one_process_share_nothing_either(self, copying_runtime: Runtime) -> None:
        async def pass_on(agent: Scripted, message: Number, ctx: MessageContext) -> list[int]:
            answer = await agent.send_message(message, AGENT)
            return [message.value, answer.value]

        await serve(copying_runtime, "agent", add_one)
        await serve(copying_runtime, "outer", pass_on)

        assert await copying_runtime.send_message(Number(1), AgentId("outer", "o")) == [1, 2]


async def test_a_nested_change_does_not_travel_between_processes(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(copies=True)
    await runtime.start()

    async def append(agent: Scripted, message: dict[str, list[int]], ctx: MessageContext) -> dict[str, list[int]]:
        message["a"].append(2)
        return message

    await serve(runtime, "agent", append)
    message = {"a": [1]}

    assert await runtime.send_message(message, AGENT) == {"a": [1, 2]}
    assert message == {"a": [1]}
