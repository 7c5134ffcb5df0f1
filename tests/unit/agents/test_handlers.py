import logging
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import pytest

from hivewire.agents.handlers import event, handler_table, message_handler, rpc
from hivewire.exceptions import CantHandleException
from hivewire.logging import ROOT_LOGGER_NAME
from hivewire.model.cancellation import CancellationToken
from hivewire.model.contexts import MessageContext
from hivewire.model.topics import TopicId


@dataclass
class Ping:
    text: str


@dataclass
class Pong:
    text: str


def context(*, is_rpc: bool = True) -> MessageContext:
    topic = None if is_rpc else TopicId("t", "s")
    return MessageContext(None, topic, is_rpc, CancellationToken(), "1")


class TestDecorating:
    def test_a_handler_needs_a_hint_of_its_message(self) -> None:
        with pytest.raises(AssertionError, match="message parameter not found"):

            @message_handler
            async def handle(self: object, message, ctx: MessageContext) -> None:  # type: ignore[no-untyped-def]
                pass

    def test_a_handler_calls_its_message_by_that_name(self) -> None:
        with pytest.raises(AssertionError, match="message parameter not found"):

            @message_handler
            async def handle(self: object, ping: Ping, ctx: MessageContext) -> None:
                pass

    @pytest.mark.parametrize("decorator", [message_handler, event, rpc])
    def test_a_handler_needs_a_hint_of_its_return_value(self, decorator: Callable[..., Any]) -> None:
        with pytest.raises(AssertionError, match="return type not found"):

            @decorator
            async def handle(self: object, message: Ping, ctx: MessageContext):  # type: ignore[no-untyped-def]
                pass

    def test_a_hint_must_name_a_class(self) -> None:
        with pytest.raises(AssertionError, match=r"The hint of the message in .* names no class"):

            @message_handler
            async def handle(self: object, message: [Ping], ctx: MessageContext) -> None:  # type: ignore[valid-type]
                pass

    def test_a_handler_is_async(self) -> None:
        with pytest.raises(AssertionError, match="must be an async function"):

            @message_handler  # type: ignore[type-var]
            def handle(self: object, message: Ping, ctx: MessageContext) -> None:
                pass

    def test_an_rpc_with_another_first_parameter_is_no_method_called_by_name(self) -> None:
        with pytest.raises(AssertionError, match="message parameter not found"):

            @rpc
            async def handle(self: object, ping: Ping) -> None:
                pass

    @pytest.mark.parametrize("decorator", [message_handler, event, rpc])
    def test_decorators_work_with_and_without_parentheses(self, decorator: Callable[..., Any]) -> None:
        async def handle(self: object, message: Ping | Pong, ctx: MessageContext) -> None:
            pass

        for decorated in (decorator(handle), decorator()(handle), decorator(strict=False, match=None)(handle)):
            assert decorated.is_message_handler
            assert decorated.target_types == [Ping, Pong]
            assert decorated.produces_types == [type(None)]
            assert decorated.__name__ == "handle"


class TestCallingAHandlerDirectly:
    async def test_a_plain_function_may_be_decorated(self) -> None:
        @message_handler
        async def handle(self: object, message: str, ctx: MessageContext) -> str:
            return message.upper()

        assert await handle(None, "x", context()) == "X"

    async def test_another_message_class_is_refused(self) -> None:
        @message_handler
        async def handle(self: object, message: Ping, ctx: MessageContext) -> None:
            pass

        with pytest.raises(CantHandleException, match=r"Message type Pong is none that .*handle takes: Ping"):
            await handle(None, Pong("x"), context())  # type: ignore[arg-type]

    async def test_a_result_that_the_hint_does_not_name_is_an_error(self) -> None:
        @rpc
        async def handle(self: object, message: Ping, ctx: MessageContext) -> Pong:
            return "pong"  # type: ignore[return-value]

        with pytest.raises(ValueError, match="returned str, but its hint says Pong"):
            await handle(None, Ping("x"), context())

    async def test_an_event_handler_that_returns_something_is_an_error(self) -> None:
        @event
        async def handle(self: object, message: Ping, ctx: MessageContext) -> None:
            return "x"  # type: ignore[return-value]

        with pytest.raises(ValueError, match="returned str instead of None"):
            await handle(None, Ping("x"), context(is_rpc=False))

    async def test_a_handler_that_is_not_strict_only_warns(self, caplog: pytest.LogCaptureFixture) -> None:
        @rpc(strict=False)
        async def answer(self: object, message: Ping, ctx: MessageContext) -> Pong:
            return "pong"  # type: ignore[return-value]

        @event(strict=False)
        async def notice(self: object, message: Ping, ctx: MessageContext) -> None:
            return "x"  # type: ignore[return-value]

        with caplog.at_level(logging.WARNING, ROOT_LOGGER_NAME):
            assert await answer(None, Pong("x"), context()) == "pong"  # type: ignore[arg-type,comparison-overlap]
            assert await notice(None, Ping("x"), context(is_rpc=False)) is None  # type: ignore[func-returns-value]
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "WARNING"]


class TestDecoratingAMethodThatYields:
    @pytest.mark.parametrize("decorator", [message_handler, rpc])
    @pytest.mark.parametrize("hint", [AsyncIterator[Pong], AsyncIterable[Pong], AsyncGenerator[Pong, None]])
    def test_its_hint_names_the_chunks(self, decorator: Callable[..., Any], hint: Any) -> None:
        async def handle(self: object, message: Ping, ctx: MessageContext) -> hint:
            yield Pong("x")

        for decorated in (decorator(handle), decorator()(handle)):
            assert decorated.produces_types == [Pong]
            assert decorated.target_types == [Ping]

    @pytest.mark.parametrize("hint", [Pong, None, Iterator[Pong], list[Pong]])
    def test_another_hint_is_refused(self, hint: Any) -> None:
        with pytest.raises(AssertionError, match=r"handle yields, so the hint .* must be AsyncIterator\[\.\.\.\]"):

            @message_handler
            async def handle(self: object, message: Ping, ctx: MessageContext) -> hint:
                yield Pong("x")

    def test_chunks_of_no_class_are_refused(self) -> None:
        with pytest.raises(AssertionError, match=r"The hint of the return value in .* names no class"):

            @message_handler
            async def handle(self: object, message: Ping, ctx: MessageContext) -> AsyncIterator[[Pong]]:  # type: ignore[valid-type]
                yield Pong("x")

    def test_it_needs_a_hint(self) -> None:
        with pytest.raises(AssertionError, match="return type not found"):

            @rpc
            async def handle(self: object, message: Ping, ctx: MessageContext):  # type: ignore[no-untyped-def]
                yield Pong("x")

    def test_events_are_refused_as_nobody_reads_the_chunks(self) -> None:
        with pytest.raises(AssertionError, match=r"handle yields, but nobody reads .* @message_handler or @rpc"):

            @event  # type: ignore[type-var]
            async def handle(self: object, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
                yield Pong("x")


class TestCallingAMethodThatYields:
    async def test_it_is_an_iterator_as_it_was_written(self) -> None:
        @message_handler
        async def handle(self: object, message: str, ctx: MessageContext) -> AsyncIterator[str]:
            for letter in message:
                yield letter

        assert [chunk async for chunk in handle(None, "xyz", context())] == ["x", "y", "z"]
        assert [chunk async for chunk in handle(None, message="xy", ctx=context())] == ["x", "y"]

    async def test_a_chunk_that_the_hint_does_not_name_is_an_error(self) -> None:
        ended = []

        @rpc
        async def handle(self: object, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
            try:
                yield Pong("x")
                yield "pong"  # type: ignore[misc]
            finally:
                ended.append(True)

        chunks = handle(None, Ping("x"), context())
        assert await anext(chunks) == Pong("x")
        with pytest.raises(ValueError, match="handle yielded str, but its hint says Pong"):
            await anext(chunks)
        assert ended == [True]

    async def test_another_message_class_is_refused(self) -> None:
        @message_handler
        async def handle(self: object, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
            yield Pong("x")

        with pytest.raises(CantHandleException, match=r"Message type Pong is none that .*handle takes: Ping"):
            await anext(handle(None, Pong("x"), context()))  # type: ignore[arg-type]

    async def test_one_that_is_not_strict_only_warns(self, caplog: pytest.LogCaptureFixture) -> None:
        @message_handler(strict=False)
        async def handle(self: object, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
            yield "pong"  # type: ignore[misc]

        with caplog.at_level(logging.WARNING, ROOT_LOGGER_NAME):
            chunks: Any = handle(None, Ping("x"), context())
            assert [chunk async for chunk in chunks] == ["pong"]
        assert "yielded str" in caplog.text

    async def test_closing_it_closes_what_was_written(self) -> None:
        ended = []

        @message_handler
        async def handle(self: object, message: Ping, ctx: MessageContext) -> AsyncGenerator[Pong, None]:
            try:
                yield Pong("x")
            finally:
                ended.append(True)

        chunks = handle(None, Ping("x"), context())
        await anext(chunks)
        await chunks.aclose()

        assert ended == [True]


class Several:
    @message_handler
    async def on_b(self, message: Ping, ctx: MessageContext) -> None: ...

    @event
    async def on_a(self, message: Ping | Pong, ctx: MessageContext) -> None: ...

    @rpc
    async def on_any(self, message: Any, ctx: MessageContext) -> None: ...

    @rpc
    async def status(self, *, verbose: bool = False) -> str:
        return "ready"


class TestTable:
    def test_handlers_are_sorted_by_name(self) -> None:
        table = handler_table(Several)

        assert [route.handler.function.__name__ for route in table.by_class[Ping]] == ["on_a", "on_b"]
        assert [route.handler.function.__name__ for route in table.by_class[Pong]] == ["on_a"]
        assert [route.handler.function.__name__ for route in table.for_any] == ["on_any"]
        assert list(table.by_name) == ["status"]

    def test_a_class_has_one_table_and_a_subclass_its_own(self) -> None:
        class Fewer(Several):
            async def on_a(self, message: Ping | Pong, ctx: MessageContext) -> None: ...

        assert handler_table(Several) is handler_table(Several)
        assert Pong not in handler_table(Fewer).by_class
        assert Pong in handler_table(Several).by_class

    def test_events_and_direct_messages_are_told_apart(self) -> None:
        table = handler_table(Several)
        on_event, on_both = table.by_class[Ping]

        assert [on_event.takes(Ping("x"), context(is_rpc=is_rpc)) for is_rpc in (True, False)] == [False, True]
        assert [on_both.takes(Ping("x"), context(is_rpc=is_rpc)) for is_rpc in (True, False)] == [True, True]

    async def test_a_decorator_around_a_handler_is_called(self) -> None:
        seen = []

        def noted(function: Any) -> Any:
            @wraps(function)
            async def wrapper(self: object, message: Any, ctx: MessageContext) -> Any:
                seen.append(message)
                return await function(self, message, ctx)

            return wrapper

        class Wrapped:
            @noted
            @message_handler
            async def handle(self, message: Ping, ctx: MessageContext) -> Ping:
                return message

        (route,) = handler_table(Wrapped).by_class[Ping]

        assert await route.run(Wrapped(), Ping("x"), context()) == Ping("x")
        assert seen == [Ping("x")]

    async def test_methods_that_yield_give_an_iterator(self) -> None:
        class Streaming:
            @message_handler
            async def handle(self, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
                yield Pong(message.text)
                yield "no pong"  # type: ignore[misc]

            @rpc
            async def count(self, *, to: int) -> AsyncIterator[int]:
                for number in range(to):
                    yield number

        table = handler_table(Streaming)
        chunks = await table.by_class[Ping][0].run(Streaming(), Ping("x"), context())
        assert await anext(chunks) == Pong("x")
        with pytest.raises(ValueError, match="yielded str"):
            await anext(chunks)
        numbers = await table.by_name["count"].run_by_name(Streaming(), {"to": 3})
        assert [number async for number in numbers] == [0, 1, 2]

    async def test_a_subclass_may_yield_where_its_base_returns(self) -> None:
        class Returning:
            @message_handler
            async def handle(self, message: Ping, ctx: MessageContext) -> Pong:
                return Pong(message.text)

        class Yielding(Returning):
            @message_handler
            async def handle(self, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:  # type: ignore[override]
                yield await super().handle(message, ctx)
                yield Pong("more")

        (route,) = handler_table(Yielding).by_class[Ping]
        chunks = await route.run(Yielding(), Ping("x"), context())

        assert [chunk async for chunk in chunks] == [Pong("x"), Pong("more")]

    async def test_a_decorator_around_a_method_that_yields_may_yield_or_return(self) -> None:
        def shouted(function: Any) -> Any:
            @wraps(function)
            async def wrapper(self: object, message: Any, ctx: MessageContext) -> Any:
                async for chunk in function(self, message, ctx):
                    yield Pong(chunk.text.upper())

            return wrapper

        def joined(function: Any) -> Any:
            @wraps(function)
            async def wrapper(self: object, message: Any, ctx: MessageContext) -> Any:
                return [chunk async for chunk in function(self, message, ctx)]

            return wrapper

        def untouched(function: Any) -> Any:
            @wraps(function)
            def wrapper(self: object, message: Any, ctx: MessageContext) -> Any:
                return function(self, message, ctx)

            return wrapper

        async def answer(around: Any) -> Any:
            class Wrapped:
                @around
                @message_handler
                async def handle(self, message: Ping, ctx: MessageContext) -> AsyncIterator[Pong]:
                    yield Pong(message.text)

            (route,) = handler_table(Wrapped).by_class[Ping]
            answer = await route.run(Wrapped(), Ping("x"), context())
            return answer if around is joined else [chunk async for chunk in answer]

        assert await answer(shouted) == [Pong("X")]
        assert await answer(joined) == [Pong("x")]
        assert await answer(untouched) == [Pong("x")]
