import asyncio
import gc
import logging
import tracemalloc
import warnings
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from hivewire.agents.base import BaseAgent
from hivewire.exceptions import AgentNotFoundError, RuntimeStateError, SerializationError
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.logging import EVENT_LOGGER_NAME, MessageEvent
from hivewire.model import grace
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId
from hivewire.model.streams import MessageStream

AGENT = AgentId("agent", "k")
pytestmark = pytest.mark.timeout(20)


class Numbers(BaseAgent):
    """Yields as many numbers as its message says."""

    def __init__(self) -> None:
        super().__init__("numbers")
        self.yielded = 0
        self.ended = 0

    async def on_message_impl(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
        return self.numbers(message, ctx)

    async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
        try:
            for number in range(message):
                yield number
                self.yielded += 1
        finally:
            self.ended += 1


async def started(cls: Callable[[], BaseAgent] = Numbers, **options: Any) -> tuple[SingleThreadedAgentRuntime, Any]:
    runtime = SingleThreadedAgentRuntime(**options)
    await runtime.register_factory("agent", cls)
    runtime.start()
    return runtime, await runtime.try_get_underlying_agent_instance(AGENT, BaseAgent)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_the_handler_is_at_most_16_chunks_ahead() -> None:
    runtime, agent = await started()
    async with runtime.stream_message(1000, AGENT) as stream:
        for number in range(100):
            assert await anext(stream) == number
            for _ in range(10):
                await asyncio.sleep(0)
            assert agent.yielded <= number + 1 + 16
    await runtime.stop()


@settings(max_examples=60, deadline=None)
@given(
    handler_rounds=st.lists(st.integers(0, 20), max_size=60),
    reader_rounds=st.lists(st.integers(0, 20), min_size=1, max_size=60),
    taken=st.integers(0, 80),
)
def test_however_the_two_pause_chunks_come_in_order_and_the_handler_stays_near(
    handler_rounds: list[int], reader_rounds: list[int], taken: int
) -> None:
    """The reader takes so many chunks and closes the stream then, or reads to the end."""

    class Pausing(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            try:
                for number, rounds in enumerate(handler_rounds):
                    for _ in range(rounds):
                        await asyncio.sleep(0)
                    self.yielded += 1
                    yield number
            finally:
                self.ended += 1

    async def run() -> None:
        runtime, agent = await started(Pausing)
        read = []
        async with runtime.stream_message(1, AGENT) as stream:
            async for number in stream:
                read.append(number)
                for _ in range(reader_rounds[number % len(reader_rounds)]):
                    await asyncio.sleep(0)
                assert agent.yielded <= len(read) + 16
                if len(read) == taken:
                    break
        assert read == list(range(taken if 0 < taken < len(handler_rounds) else len(handler_rounds)))
        await runtime.stop_when_idle()
        assert agent.ended == 1

    asyncio.run(run())


async def test_memory_stays_flat_for_a_slow_reader_of_10000_chunks() -> None:
    class Large(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            for number in range(message):
                yield bytes([number % 256]) * 10_000

    runtime, _ = await started(Large)
    tracemalloc.start()
    try:
        count = 0
        async for _ in runtime.stream_message(10_000, AGENT):
            count += 1
            await asyncio.sleep(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    await runtime.stop()

    assert count == 10_000
    assert peak < 2_000_000


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_the_reader_gets_the_very_exception_that_the_handler_raises(error: BaseException) -> None:
    class Failing(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            yield 1
            yield 2
            raise error

    runtime, _ = await started(Failing)
    stream = runtime.stream_message(1, AGENT)
    assert [await anext(stream), await anext(stream)] == [1, 2]
    with pytest.raises(type(error)) as caught:
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await runtime.stop()

    assert caught.value is error or isinstance(error, asyncio.CancelledError)


async def test_chunks_are_the_very_objects_unless_they_are_serialized() -> None:
    class Same(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            yield chunk

    chunk = [1]
    for serialize_messages in (False, True):
        runtime, _ = await started(Same, serialize_messages=serialize_messages)
        (read,) = [each async for each in runtime.stream_message(1, AGENT)]
        assert read == chunk
        assert (read is chunk) is not serialize_messages
        await runtime.stop()


async def test_what_keeps_a_message_from_being_sent_comes_out_of_the_start() -> None:
    runtime, _ = await started(serialize_messages=True)
    with pytest.raises(AgentNotFoundError):
        await runtime.stream_message(1, AgentId("nobody", "k")).start()
    with pytest.raises(SerializationError):
        async with runtime.stream_message(object(), AGENT):
            pass
    stream = runtime.stream_message(1, AgentId("nobody", "k"))
    with pytest.raises(AgentNotFoundError):
        await anext(stream)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await runtime.stop()


async def test_each_chunk_tells_of_itself(caplog: pytest.LogCaptureFixture) -> None:
    runtime, _ = await started()
    with caplog.at_level(logging.INFO, EVENT_LOGGER_NAME):
        async for _ in runtime.stream_message(2, AGENT):
            pass
    await runtime.stop()

    events = [record.msg for record in caplog.records if isinstance(record.msg, MessageEvent)]
    assert [(event.kwargs["kind"], event.kwargs["delivery_stage"]) for event in events] == [
        ("MessageKind.DIRECT", "DeliveryStage.SEND"),
        ("MessageKind.DIRECT", "DeliveryStage.DELIVER"),
        *[("MessageKind.RESPOND", f"DeliveryStage.{stage}") for _ in range(2) for stage in ("SEND", "DELIVER")],
    ]


async def test_a_stream_has_the_spans_of_a_call() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    runtime, _ = await started(tracer_provider=provider)
    async for _ in runtime.stream_message(20, AGENT):
        pass
    await runtime.stop()

    names = [span.name for span in exporter.get_finished_spans()]
    assert names == [f"autogen {step} agent.(k)-A" for step in ("create", "process", "send")] + ["autogen ack "]


class TestAStreamThatIsLetGo:
    async def test_neither_warns_nor_stays(self, caplog: pytest.LogCaptureFixture) -> None:
        runtime, agent = await started()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            stream: MessageStream | None = runtime.stream_message(1000, AGENT)
            assert stream is not None
            await anext(stream)
            gone = weakref.ref(stream)
            stream = None
            await until(lambda: agent.ended == 1)
            await runtime.stop_when_idle()
            gc.collect()

        assert gone() is None
        assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    async def test_with_an_error_in_it_does_not_warn_either(self, caplog: pytest.LogCaptureFixture) -> None:
        class Failing(Numbers):
            async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
                yield 1
                raise ValueError("boom")

        runtime, _ = await started(Failing)
        stream = runtime.stream_message(1, AGENT)
        await stream.start()
        await runtime.stop_when_idle()
        del stream
        gc.collect()

        assert "never retrieved" not in caplog.text

    def test_after_its_loop_has_ended_does_no_harm(self) -> None:
        async def leave_open() -> MessageStream:
            runtime, _ = await started()
            stream = runtime.stream_message(1000, AGENT)
            await anext(stream)
            return stream

        stream = asyncio.run(leave_open())
        del stream
        gc.collect()


async def test_a_token_of_another_thread_ends_a_stream() -> None:
    runtime, agent = await started()
    token = CancellationToken()
    stream = runtime.stream_message(1000, AGENT, cancellation_token=token)
    await anext(stream)
    await asyncio.to_thread(token.cancel)
    with pytest.raises(asyncio.CancelledError):
        while True:
            await anext(stream)
    await until(lambda: agent.ended == 1)
    await runtime.stop_when_idle()


async def test_a_handler_that_yields_after_its_stream_was_closed_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            while True:
                try:
                    yield 1
                except GeneratorExit:
                    yield 2

    runtime, _ = await started(Stubborn)
    async with runtime.stream_message(1, AGENT) as stream:
        await anext(stream)
    await runtime.stop_when_idle()

    assert "The caller had gone when int for agent/k failed" in caplog.text
    assert "ignored GeneratorExit" in caplog.text


async def test_send_message_that_is_cancelled_closes_the_generator_too() -> None:
    class Endless(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            try:
                while True:
                    yield 1
                    await asyncio.sleep(0)
            finally:
                self.ended += 1

    runtime, agent = await started(Endless)
    with pytest.raises(TimeoutError):
        await runtime.send_message(1, AGENT, timeout=0.05)
    await until(lambda: agent.ended == 1)
    await runtime.stop_when_idle()


async def test_a_handler_that_never_awaits_ends_at_its_deadline() -> None:
    class Endless(Numbers):
        async def numbers(self, message: Any, ctx: MessageContext) -> AsyncIterator[Any]:
            while True:
                yield 1

    runtime, _ = await started(Endless)
    with pytest.raises(TimeoutError):
        await runtime.send_message(1, AGENT, timeout=0.05)
    await runtime.stop_when_idle()


class TestStopping:
    async def read_slowly(self, stream: MessageStream) -> list[Any]:
        chunks = []
        async for chunk in stream:
            chunks.append(chunk)
            await asyncio.sleep(0)
        return chunks

    @pytest.mark.parametrize("stop", ["stop", "stop_when_idle", "close"])
    async def test_waits_for_streams_that_are_read(self, stop: str) -> None:
        runtime, _ = await started()
        stream = runtime.stream_message(500, AGENT)
        await stream.start()
        await until(lambda: runtime.unprocessed_messages_count == 0)
        reading = asyncio.create_task(self.read_slowly(stream))
        await getattr(runtime, stop)()

        assert await reading == list(range(500))

    async def test_ends_streams_whose_readers_stay_away(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.1)
        runtime, agent = await started()
        stream = runtime.stream_message(500, AGENT)
        assert await anext(stream) == 0
        async with asyncio.timeout(2):
            await runtime.stop()

        assert agent.ended == 1
        assert "Ended the stream of int for agent/k: the runtime stops, and its reader did not come" in caplog.text
        with pytest.raises(RuntimeStateError, match="stopped while the stream was not read"):
            await anext(stream)

    async def test_refuses_streams_that_wait_and_new_ones(self) -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("agent", Numbers)
        waiting = runtime.stream_message(1, AGENT)
        await waiting.start()
        await runtime.close()
        with pytest.raises(RuntimeStateError, match="stopped before the message was handled"):
            await anext(waiting)

    async def test_a_handler_may_stop_the_runtime_while_it_reads_a_stream(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.1)

        class Stopping(BaseAgent):
            async def on_message_impl(self, message: Any, ctx: MessageContext) -> str:
                async with self.stream_message(1000, AGENT) as stream:
                    await anext(stream)
                    await runtime.stop()
                return "stopped"

        runtime, agent = await started()
        await runtime.register_factory("stopping", Stopping)
        async with asyncio.timeout(2):
            assert await runtime.send_message("x", AgentId("stopping", "s")) == "stopped"
        assert agent.ended == 1


async def test_process_next_starts_a_stream_as_any_message() -> None:
    runtime = SingleThreadedAgentRuntime()
    await runtime.register_factory("agent", Numbers)
    stream = runtime.stream_message(3, AGENT)
    await stream.start()
    await runtime.process_next()

    assert [chunk async for chunk in stream] == [0, 1, 2]


async def test_a_stream_says_what_it_is() -> None:
    runtime, _ = await started()
    stream = runtime.stream_message(1, AGENT)
    texts = [repr(stream)]
    async for _ in stream:
        texts.append(repr(stream))
    texts.append(repr(stream))
    await runtime.stop()

    assert texts == [
        "<MessageStream of agent/k, not started, 0 chunks taken>",
        "<MessageStream of agent/k, open, 1 chunks taken>",
        "<MessageStream of agent/k, ended, 1 chunks taken>",
    ]
