import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest

from contract.support import (
    DEADLINE_S,
    Handle,
    MakeRuntime,
    Number,
    Runtime,
    Scripted,
    Settle,
    Text,
    echo,
    fail,
    ignore,
    serve,
    until,
)
from hivewire import (
    AgentId,
    AgentNotFoundError,
    AgentProxy,
    CancellationToken,
    ClosureAgent,
    ClosureContext,
    DeadlineExceededError,
    DefaultInterventionHandler,
    DropMessage,
    MessageContext,
    MessageDroppedException,
    MessageStream,
    RoutedAgent,
    RpcCall,
    TopicId,
    message_handler,
    rpc,
)
from hivewire.model import grace

AGENT = AgentId("agent", "k")

FEW = 64
"""More chunks than a handler is ever ahead of its reader."""


class Producer:
    """A handler that yields numbers, as many as its message says, and notes how far it came and how it ended."""

    def __init__(self) -> None:
        self.yielded = 0
        self.entered = 0
        self.ended = 0
        self.contexts: list[MessageContext] = []

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[int]:
        self.entered += 1
        self.contexts.append(ctx)
        return self._numbers(message)

    async def _numbers(self, count: int) -> AsyncIterator[int]:
        try:
            for number in range(count):
                yield number
                self.yielded += 1
        finally:
            self.ended += 1

    @property
    def told(self) -> bool:
        """Whether the handler's token says that nobody reads any more."""
        return bool(self.contexts[0].cancellation_token.is_cancelled)


class Waiting(Producer):
    """Yields one number, and then waits for something that its token has nothing to do with."""

    async def _numbers(self, count: int) -> AsyncIterator[int]:
        try:
            yield 0
            self.yielded += 1
            await asyncio.get_running_loop().create_future()
        finally:
            self.ended += 1


def yielding(*chunks: Any, error: Exception | None = None) -> Handle:
    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
        async def numbers() -> AsyncIterator[Any]:
            for chunk in chunks:
                yield chunk
            if error is not None:
                raise error

        return numbers()

    return handle


def passing_on(to: AgentId) -> Handle:
    """A handler that yields what another agent yields for the same message."""

    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
        async def chunks() -> AsyncIterator[Any]:
            async with agent.stream_message(message, to) as stream:
                async for chunk in stream:
                    yield chunk

        return chunks()

    return handle


async def read(stream: MessageStream) -> list[Any]:
    async with asyncio.timeout(DEADLINE_S):
        return [chunk async for chunk in stream]


async def outcome(stream: MessageStream) -> tuple[list[Any], type[BaseException] | None]:
    """Return the chunks, and the class of what came after them."""
    chunks = []
    async with asyncio.timeout(DEADLINE_S):
        try:
            async for chunk in stream:
                chunks.append(chunk)
        except Exception as error:
            return chunks, type(error)
    return chunks, None


class Streaming(RoutedAgent):
    def __init__(self) -> None:
        super().__init__("streams")
        self.events = 0

    @message_handler
    async def on_text(self, message: Text, ctx: MessageContext) -> AsyncIterator[Text]:
        for letter in message.value:
            yield Text(letter)
        self.events += not ctx.is_rpc

    @message_handler
    async def on_number(self, message: Number, ctx: MessageContext) -> AsyncIterator[Number]:
        yield Number(1)
        yield Text("no number")  # type: ignore[misc]

    @rpc
    async def count(self, *, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number


class TestChunks:
    async def test_come_in_order_and_as_what_they_are(self, copying_runtime: Runtime) -> None:
        await Streaming.register(copying_runtime, "agent", Streaming)

        assert await read(copying_runtime.stream_message(Text("xyz"), AGENT)) == [Text("x"), Text("y"), Text("z")]

    async def test_are_any_messages(self, copying_runtime: Runtime) -> None:
        chunks = ["text", 1, 2.5, True, None, {"a": [1]}, [1, "b"], Text("x"), Number(1)]
        copying_runtime.add_message_serializer([*Scripted._message_serializers()])
        await serve(copying_runtime, "agent", yielding(*chunks))

        assert await read(copying_runtime.stream_message("go", AGENT)) == chunks

    @pytest.mark.parametrize("count", [0, 1, 10_000])
    async def test_may_be_none_or_many(self, runtime: Runtime, count: int) -> None:
        await serve(runtime, "agent", Producer())

        assert await read(runtime.stream_message(count, AGENT)) == list(range(count))

    async def test_of_1_byte_and_of_512_kib_arrive_whole(self, copying_runtime: Runtime) -> None:
        chunks = ["x", "y" * 512 * 1024, ""]
        await serve(copying_runtime, "agent", yielding(*chunks))

        assert await read(copying_runtime.stream_message("go", AGENT)) == chunks

    async def test_are_counted(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", Producer())
        stream = runtime.stream_message(3, AGENT)
        positions = [stream.position]
        async for _ in stream:
            positions.append(stream.position)

        assert positions == [0, 1, 2, 3]
        assert stream.position == 3

    async def test_come_while_the_handler_still_runs(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.2)
        await serve(runtime, "agent", Waiting())
        async with runtime.stream_message(1, AGENT) as stream:
            assert await anext(stream) == 0

    async def test_of_a_method_that_is_called_by_name(self, runtime: Runtime) -> None:
        await Streaming.register(runtime, "agent", Streaming)

        assert await read(runtime.stream_message(RpcCall("count", {"to": 3}), AGENT)) == [0, 1, 2]

    async def test_of_a_closure(self, runtime: Runtime) -> None:
        async def letters(ctx: ClosureContext, message: str) -> AsyncIterator[str]:
            for letter in message:
                yield letter

        async def twice(ctx: ClosureContext, message: str, context: MessageContext) -> AsyncIterator[str]:
            async for letter in ctx.stream_message(message, AGENT):
                yield letter * 2

        await ClosureAgent.register_closure(runtime, "agent", letters)
        await ClosureAgent.register_closure(runtime, "twice", twice)

        assert await read(runtime.stream_message("xy", AgentId("twice", "k"))) == ["xx", "yy"]

    async def test_are_read_through_a_proxy_too(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", Producer())

        assert await read(AgentProxy(AGENT, runtime).stream_message(2)) == [0, 1]

    async def test_pass_interventions_one_by_one(self, make_runtime: MakeRuntime) -> None:
        class Doubling(DefaultInterventionHandler):
            async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
                return message * 2

        runtime = make_runtime(intervention_handlers=[Doubling()])
        await runtime.start()
        await serve(runtime, "agent", Producer())

        assert await read(runtime.stream_message(3, AGENT)) == [0, 2, 4]
        assert await runtime.send_message(3, AGENT) == [0, 2, 4]


class TestTheTwoWaysToSend:
    async def test_send_message_returns_all_chunks(self, copying_runtime: Runtime) -> None:
        await Streaming.register(copying_runtime, "agent", Streaming)

        assert await copying_runtime.send_message(Text("xy"), AGENT) == [Text("x"), Text("y")]
        assert await copying_runtime.send_message(Text(""), AGENT) == []

    async def test_send_message_raises_what_comes_after_some_chunks(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", yielding(1, 2, error=KeyError("x")))

        with pytest.raises(KeyError):
            await runtime.send_message("go", AGENT)

    async def test_stream_message_gives_an_answer_as_the_one_chunk(self, copying_runtime: Runtime) -> None:
        await serve(copying_runtime, "agent", echo)

        assert await read(copying_runtime.stream_message("x", AGENT)) == ["x"]
        assert await read(copying_runtime.stream_message(["x", "y"], AGENT)) == [["x", "y"]]

    async def test_stream_message_gives_no_chunk_where_there_is_no_answer(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", ignore)

        assert await read(runtime.stream_message("x", AGENT)) == []

    async def test_an_event_is_handled_to_the_end_and_its_chunks_are_dropped(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer, "t")
        await runtime.publish_message(1000, TopicId("t", "s"))
        await settle(runtime)

        assert (producer.yielded, producer.ended) == (1000, 1)


class TestAStream:
    async def test_that_is_not_read_sends_nothing(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", Producer())
        stream = runtime.stream_message(1, AGENT)
        await settle(runtime)

        assert inbox.received == []
        await stream.aclose()
        assert await read(stream) == []
        assert inbox.received == []

    async def test_starts_with_its_block(self, runtime: Runtime) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        async with runtime.stream_message(1, AGENT) as stream:
            await until(lambda: producer.entered == 1)
            await stream.start()
            assert await read(stream) == [0]
        assert producer.entered == 1

    async def test_is_sent_by_the_agent_that_reads_it(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", Producer())
        await serve(runtime, "between", passing_on(AGENT))
        await read(runtime.stream_message(1, AgentId("between", "b"), message_id="7"))
        await read(runtime.stream_message(1, AGENT, message_id="7", sender=AgentId("some", "one")))

        senders = [received.ctx.sender for received in inbox.received]
        assert senders == [AgentId("between", "b"), AgentId("some", "one")]
        assert inbox.received[1].ctx.message_id == "7"
        assert inbox.received[1].ctx.is_rpc

    async def test_has_one_reader_at_a_time(self, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.2)
        await serve(runtime, "agent", Waiting())
        async with runtime.stream_message(1, AGENT) as stream:
            assert await anext(stream) == 0
            reading = asyncio.ensure_future(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="one task at a time"):
                await anext(stream)
            assert not reading.done()
        assert isinstance((await asyncio.gather(reading, return_exceptions=True))[0], StopAsyncIteration)

    async def test_has_no_more_chunks_after_its_end(self, runtime: Runtime) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        stream = runtime.stream_message(1, AGENT)

        assert await read(stream) == [0]
        assert await read(stream) == []
        await stream.aclose()
        assert producer.entered == 1

    async def test_slows_its_handler_down(self, runtime: Runtime) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        async with runtime.stream_message(10_000, AGENT) as stream:
            for number in range(200):
                assert await anext(stream) == number
                assert producer.yielded <= number + FEW
            # Nobody reads, so it must not go on either.
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert producer.yielded <= 200 + FEW

    async def test_may_be_one_of_500_at_once(self, runtime: Runtime) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        chunks = await asyncio.gather(*(read(runtime.stream_message(20, AgentId("agent", str(n)))) for n in range(500)))

        assert chunks == [list(range(20))] * 500
        assert producer.ended == 500


class TestAnError:
    async def test_comes_after_the_chunks_before_it(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", yielding(1, 2, 3, error=KeyError("x")))
        stream = runtime.stream_message("go", AGENT)

        assert await outcome(stream) == ([1, 2, 3], KeyError)
        assert await outcome(stream) == ([], None)

    async def test_of_a_handler_that_does_not_yield(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", fail)

        assert await outcome(runtime.stream_message("go", AGENT)) == ([], ValueError)

    async def test_may_be_that_there_is_no_such_agent(self, runtime: Runtime) -> None:
        assert await outcome(runtime.stream_message("go", AgentId("nobody", "k"))) == ([], AgentNotFoundError)

    async def test_may_be_a_chunk_that_the_hint_does_not_name(self, runtime: Runtime) -> None:
        await Streaming.register(runtime, "agent", Streaming)

        assert await outcome(runtime.stream_message(Number(1), AGENT)) == ([Number(1)], ValueError)

    async def test_may_be_a_chunk_that_an_intervention_drops(self, make_runtime: MakeRuntime) -> None:
        class Odd(DefaultInterventionHandler):
            async def on_response(self, message: Any, *, sender: AgentId, recipient: AgentId | None) -> Any:
                return DropMessage("odd") if message == 1 else message

        runtime = make_runtime(intervention_handlers=[Odd()])
        await runtime.start()
        producer = Producer()
        await serve(runtime, "agent", producer)

        assert await outcome(runtime.stream_message(3, AGENT)) == ([0], MessageDroppedException)
        await until(lambda: producer.ended == 1)

    async def test_may_be_a_chunk_that_nothing_serializes(self, copying_runtime: Runtime) -> None:
        await serve(copying_runtime, "agent", yielding(1, object()))
        chunks, error = await outcome(copying_runtime.stream_message("go", AGENT))

        assert chunks == [1]
        assert error is not None
        assert error.__name__ == "SerializationError"

    async def test_of_one_stream_leaves_the_agent_to_the_others(self, runtime: Runtime) -> None:
        async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            return await (yielding(error=ValueError()) if message == "fail" else yielding(1, 2))(agent, message, ctx)

        await serve(runtime, "agent", handle)
        failed, read_ = await asyncio.gather(
            outcome(runtime.stream_message("fail", AGENT)), outcome(runtime.stream_message("go", AGENT))
        )

        assert failed == ([], ValueError)
        assert read_ == ([1, 2], None)


async def by_aclose(stream: MessageStream, token: CancellationToken) -> None:
    await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert await read(stream) == []


async def by_leaving_the_block(stream: MessageStream, token: CancellationToken) -> None:
    async with stream:
        await anext(stream)


async def by_an_error_in_the_block(stream: MessageStream, token: CancellationToken) -> None:
    with pytest.raises(KeyError):
        async with stream, aclosing(stream):
            await anext(stream)
            raise KeyError


async def by_its_token(stream: MessageStream, token: CancellationToken) -> None:
    await anext(stream)
    token.cancel()
    with pytest.raises(asyncio.CancelledError):
        while True:
            await anext(stream)
    assert await read(stream) == []


async def by_cancelling_the_reader(stream: MessageStream, token: CancellationToken) -> None:
    async def read_on() -> None:
        async for _ in stream:
            taken.set()

    taken = asyncio.Event()
    task = asyncio.create_task(read_on())
    await taken.wait()
    # By now it waits for a chunk that does not come, or is about to.
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await read(stream) == []


async def by_a_timeout_around_it(stream: MessageStream, token: CancellationToken) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            async for _ in stream:
                pass


CLOSINGS = [by_aclose, by_leaving_the_block, by_an_error_in_the_block, by_its_token]
INTERRUPTIONS = [by_cancelling_the_reader, by_a_timeout_around_it]

Closing = Callable[[MessageStream, CancellationToken], Awaitable[None]]


class TestAHandlerWhoseStreamIsClosed:
    @pytest.mark.parametrize("close", CLOSINGS)
    async def test_is_told_and_its_generator_ends_at_the_next_yield(
        self, runtime: Runtime, settle: Settle, close: Closing
    ) -> None:
        producer, token = Producer(), CancellationToken()
        await serve(runtime, "agent", producer)
        await close(runtime.stream_message(10_000, AGENT, cancellation_token=token), token)
        await until(lambda: producer.ended == 1 and producer.told)

        assert producer.yielded < 200
        await settle(runtime)

    @pytest.mark.parametrize("close", [*CLOSINGS, *INTERRUPTIONS])
    async def test_ends_when_it_waits_for_something_else(
        self, runtime: Runtime, settle: Settle, monkeypatch: pytest.MonkeyPatch, close: Closing
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.2)
        producer, token = Waiting(), CancellationToken()
        await serve(runtime, "agent", producer)
        await close(runtime.stream_message(1, AGENT, cancellation_token=token), token)
        await until(lambda: producer.told)
        await until(lambda: producer.ended == 1)

        await settle(runtime)

    async def test_is_told_when_the_reader_lets_go_of_it(
        self, runtime: Runtime, settle: Settle, caplog: pytest.LogCaptureFixture
    ) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        with caplog.at_level(logging.WARNING):
            async for _ in runtime.stream_message(10_000, AGENT):
                break
            gc.collect()
            await until(lambda: producer.ended == 1 and producer.told)
            await settle(runtime)

        assert producer.yielded < 200
        assert caplog.records == []

    async def test_is_told_at_its_deadline(self, runtime: Runtime, settle: Settle) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        stream = runtime.stream_message(10_000, AGENT, timeout=0.3)
        assert await anext(stream) == 0
        await until(lambda: producer.told)
        with pytest.raises(DeadlineExceededError, match=r"0\.3 s"):
            while True:
                await anext(stream)
        await until(lambda: producer.ended == 1)

        assert await read(stream) == []
        await settle(runtime)

    async def test_may_tidy_up_with_calls_and_has_the_last_word_in_nothing(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[int]:
            async def chunks() -> AsyncIterator[int]:
                try:
                    for number in range(1000):
                        yield number
                finally:
                    await agent.send_message("tidy", AgentId("tidy", "t"))

            return chunks()

        await serve(runtime, "agent", handle)
        tidied = await serve(runtime, "tidy")
        async with runtime.stream_message("go", AGENT) as stream:
            await anext(stream)
        await until(lambda: tidied.messages == ["tidy"])
        await settle(runtime)

    async def test_does_not_start_when_it_has_not_yet(self, make_runtime: MakeRuntime, settle: Settle) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        producer = Producer()
        inbox = await serve(runtime, "agent", producer)
        async with runtime.stream_message(1000, AGENT) as first:
            assert await anext(first) == 0
            async with runtime.stream_message(5, AGENT):
                pass
        await until(lambda: producer.ended == 1)
        await settle(runtime)

        assert inbox.messages == [1000]


class TestPassingOn:
    async def test_three_deep(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", Producer())
        await serve(runtime, "second", passing_on(AGENT))
        await serve(runtime, "first", passing_on(AgentId("second", "k")))

        assert await read(runtime.stream_message(1000, AgentId("first", "k"))) == list(range(1000))

    async def test_slows_down_all(self, runtime: Runtime) -> None:
        producer = Producer()
        await serve(runtime, "agent", producer)
        await serve(runtime, "second", passing_on(AGENT))
        await serve(runtime, "first", passing_on(AgentId("second", "k")))
        async with runtime.stream_message(10_000, AgentId("first", "k")) as stream:
            for _ in range(100):
                await anext(stream)
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert producer.yielded <= 100 + 3 * FEW

    @pytest.mark.parametrize("producer_class", [Producer, Waiting])
    async def test_closes_all(
        self,
        runtime: Runtime,
        settle: Settle,
        monkeypatch: pytest.MonkeyPatch,
        producer_class: type[Producer],
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.5)
        producer = producer_class()
        await serve(runtime, "agent", producer)
        await serve(runtime, "second", passing_on(AGENT))
        await serve(runtime, "first", passing_on(AgentId("second", "k")))
        async with runtime.stream_message(10_000, AgentId("first", "k")) as stream:
            await anext(stream)
        await until(lambda: producer.ended == 1 and producer.told)
        await settle(runtime)

    async def test_fails_all(self, runtime: Runtime) -> None:
        await serve(runtime, "agent", yielding(1, 2, error=KeyError("x")))
        await serve(runtime, "second", passing_on(AGENT))
        await serve(runtime, "first", passing_on(AgentId("second", "k")))

        assert await outcome(runtime.stream_message("go", AgentId("first", "k"))) == ([1, 2], KeyError)


class TestASerialAgent:
    async def test_keeps_its_turn_while_it_streams(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        inbox = await serve(runtime, "agent", Producer())
        async with runtime.stream_message(1000, AGENT) as stream:
            await anext(stream)
            second = asyncio.create_task(runtime.send_message(1, AGENT))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert inbox.messages == [1000]
            assert len(await read(stream)) == 999

        assert await second == [0]

    async def test_may_be_called_back_by_the_one_that_it_streams_from(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        first, second = AgentId("first", "k"), AgentId("second", "k")

        async def handle_first(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            return "called back" if message == "back" else await passing_on(second)(agent, message, ctx)

        async def handle_second(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            async def chunks() -> AsyncIterator[Any]:
                yield 1
                yield await agent.send_message("back", first)
                async for chunk in agent.stream_message("back", first):
                    yield chunk

            return chunks()

        await serve(runtime, "first", handle_first)
        await serve(runtime, "second", handle_second)

        assert await read(runtime.stream_message("go", first)) == [1, "called back", "called back"]
