import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contract.support import Gate, Inbox, MakeRuntime, Runtime, Scripted, Settle, echo, serve, until
from contract.trees import Tree
from hivewire import AgentId, CancellationToken, DeadlineExceededError, MessageContext, TopicId
from hivewire.model import grace

AGENT = AgentId("agent", "k")


class Watcher:
    """A handler that waits until its token is cancelled."""

    def __init__(self) -> None:
        self.entered = 0
        self.seen = 0

    async def __call__(self, agent: Scripted, message: Any, ctx: MessageContext) -> None:
        self.entered += 1
        cancelled = asyncio.get_running_loop().create_future()
        ctx.cancellation_token.link_future(cancelled)
        try:
            await cancelled
        finally:
            self.seen += 1


class TestTheCaller:
    async def test_gets_cancelled_error_when_its_token_is_cancelled(self, runtime: Runtime) -> None:
        watcher, token = Watcher(), CancellationToken()
        await serve(runtime, "agent", watcher)
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: watcher.entered == 1)
        token.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call

    async def test_does_not_wait_for_the_handler_then(self, runtime: Runtime) -> None:
        gate, token = Gate(), CancellationToken()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: gate.entered == 1)
        token.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call
        assert gate.left == 0
        gate.opened.set()

    async def test_may_cancel_after_a_time(self, runtime: Runtime) -> None:
        watcher, token = Watcher(), CancellationToken()
        await serve(runtime, "agent", watcher)
        token.cancel_after(0.1)

        with pytest.raises(asyncio.CancelledError):
            await runtime.send_message("x", AGENT, cancellation_token=token)
        await until(lambda: watcher.seen == 1)

    async def test_may_use_one_token_for_several_calls(self, runtime: Runtime) -> None:
        watcher, token = Watcher(), CancellationToken()
        await serve(runtime, "agent", watcher)
        calls = [
            asyncio.create_task(runtime.send_message("x", AgentId("agent", str(key)), cancellation_token=token))
            for key in range(5)
        ]
        await until(lambda: watcher.entered == 5)
        token.cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 5
        await until(lambda: watcher.seen == 5)

    async def test_may_cancel_from_another_thread(self, runtime: Runtime) -> None:
        watcher, token = Watcher(), CancellationToken()
        await serve(runtime, "agent", watcher)
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: watcher.entered == 1)
        await asyncio.to_thread(token.cancel)

        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: watcher.seen == 1)

    async def test_gets_its_answer_when_the_token_is_cancelled_afterwards(self, runtime: Runtime) -> None:
        token = CancellationToken()
        inbox = await serve(runtime, "agent")
        assert await runtime.send_message("x", AGENT, cancellation_token=token) == "x"
        token.cancel()

        assert len(inbox) == 1


class TestTheHandler:
    async def test_sees_its_token_when_the_callers_is_cancelled(self, runtime: Runtime) -> None:
        watcher, token = Watcher(), CancellationToken()
        inbox = await serve(runtime, "agent", watcher)
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: watcher.entered == 1)
        assert not inbox.only.ctx.cancellation_token.is_cancelled
        token.cancel()
        await asyncio.wait([call])
        await until(lambda: watcher.seen == 1)

        assert inbox.only.ctx.cancellation_token.is_cancelled

    async def test_sees_its_token_when_the_calling_task_is_cancelled(self, runtime: Runtime) -> None:
        watcher = Watcher()
        await serve(runtime, "agent", watcher)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: watcher.entered == 1)
        call.cancel()
        await asyncio.wait([call])

        assert call.cancelled()
        await until(lambda: watcher.seen == 1)

    async def test_sees_it_when_the_callers_own_time_runs_out(self, runtime: Runtime) -> None:
        watcher = Watcher()
        await serve(runtime, "agent", watcher)

        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runtime.send_message("x", AGENT), 0.1)
        await until(lambda: watcher.seen == 1)

    async def test_is_not_killed(self, runtime: Runtime) -> None:
        gate, token = Gate(), CancellationToken()
        finished: list[Any] = []

        async def go_on(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            finished.append(await gate(agent, message, ctx))

        await serve(runtime, "agent", go_on)
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: gate.entered == 1)
        token.cancel()
        await asyncio.wait([call])
        gate.opened.set()

        await until(lambda: finished == ["x"])

    async def test_may_have_callbacks_that_use_the_token_or_fail(self, runtime: Runtime) -> None:
        called: list[str] = []
        watcher, token = Watcher(), CancellationToken()

        async def with_callbacks(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            def fail() -> None:
                called.append("failing")
                raise ValueError("boom")

            ctx.cancellation_token.add_callback(fail)
            ctx.cancellation_token.add_callback(lambda: called.append(str(bool(ctx.cancellation_token.is_cancelled))))
            ctx.cancellation_token.add_callback(ctx.cancellation_token.cancel)
            await watcher(agent, message, ctx)

        await serve(runtime, "agent", with_callbacks)
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token))
        await until(lambda: watcher.entered == 1)
        token.cancel()
        await asyncio.wait([call])

        await until(lambda: called == ["failing", "True"])

    async def test_passes_its_token_on_to_what_it_calls(self, runtime: Runtime) -> None:
        async def forward(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.send_message(message, AGENT, cancellation_token=ctx.cancellation_token)

        watcher, token = Watcher(), CancellationToken()
        await serve(runtime, "agent", watcher)
        await serve(runtime, "forwarder", forward)
        call = asyncio.create_task(
            runtime.send_message("x", AgentId("forwarder", "f"), cancellation_token=token),
        )
        await until(lambda: watcher.entered == 1)
        token.cancel()
        await asyncio.wait([call])

        await until(lambda: watcher.seen == 1)

    async def test_may_ask_its_token_in_both_forms(self, runtime: Runtime) -> None:
        async def ask(agent: Scripted, message: Any, ctx: MessageContext) -> list[bool]:
            before = [bool(ctx.cancellation_token.is_cancelled), ctx.cancellation_token.is_cancelled()]
            ctx.cancellation_token.cancel()
            return [*before, bool(ctx.cancellation_token.is_cancelled), ctx.cancellation_token.is_cancelled()]

        await serve(runtime, "agent", ask)

        assert await runtime.send_message("x", AGENT) == [False, False, True, True]

    async def test_that_raises_cancelled_error_itself_cancels_the_call(self, runtime: Runtime) -> None:
        async def give_up(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            raise asyncio.CancelledError

        await serve(runtime, "agent", give_up)
        with pytest.raises(asyncio.CancelledError):
            await runtime.send_message("x", AGENT)
        await serve(runtime, "other")

        assert await runtime.send_message("x", AgentId("other", "o")) == "x"

    async def test_that_fails_after_the_cancellation_does_not_disturb_later_calls(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        gate, token = Gate(), CancellationToken()

        async def fail_late(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await gate(agent, message, ctx)
            raise ValueError("late")

        await serve(runtime, "late", fail_late)
        await serve(runtime, "agent")
        call = asyncio.create_task(runtime.send_message("x", AgentId("late", "l"), cancellation_token=token))
        await until(lambda: gate.entered == 1)
        token.cancel()
        await asyncio.wait([call])
        gate.opened.set()
        await settle(runtime)

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_of_an_event_has_a_token_too(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", echo, "t")
        await runtime.publish_message("x", TopicId("t", "s"))
        await until(lambda: len(inbox) == 1)

        assert not inbox.only.ctx.cancellation_token.is_cancelled


class TestAMessage:
    async def test_that_is_cancelled_before_it_is_sent_is_not_handled(self, runtime: Runtime, settle: Settle) -> None:
        token = CancellationToken()
        inbox = await serve(runtime, "agent")
        token.cancel()

        with pytest.raises(asyncio.CancelledError):
            await runtime.send_message("x", AGENT, cancellation_token=token)
        await settle(runtime)
        assert inbox.received == []

    async def test_that_is_cancelled_before_it_is_published_is_not_handled(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        token = CancellationToken()
        inbox = await serve(runtime, "agent", echo, "t")
        token.cancel()

        with pytest.raises(asyncio.CancelledError):
            await runtime.publish_message("x", TopicId("t", "s"), cancellation_token=token)
        await settle(runtime)
        assert inbox.received == []

    @pytest.mark.parametrize("how", ["token", "task"])
    async def test_that_is_cancelled_while_its_agent_is_built_is_not_handled(
        self, runtime: Runtime, settle: Settle, how: str
    ) -> None:
        gate, inbox, token = asyncio.Event(), Inbox(), CancellationToken()
        building = 0

        async def factory() -> Scripted:
            nonlocal building
            building += 1
            await gate.wait()
            return Scripted(echo, inbox)

        await runtime.register_factory("agent", factory)
        await serve(runtime, "elsewhere")
        call = asyncio.create_task(runtime.send_message("cancelled", AGENT, cancellation_token=token))
        other = asyncio.create_task(runtime.send_message("other", AGENT))
        await until(lambda: building == 1)
        if how == "token":
            token.cancel()
        else:
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        # Over a network the handler's process hears of it a moment later, after what was sent before.
        await runtime.send_message("x", AgentId("elsewhere", "e"))
        gate.set()

        assert await other == "other"
        assert inbox.messages == ["other"]
        await settle(runtime)

    @pytest.mark.parametrize("how", ["token", "task"])
    async def test_that_is_cancelled_while_it_waits_for_its_turn_is_not_handled(
        self, make_runtime: MakeRuntime, settle: Settle, how: str
    ) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        gate, token = Gate(), CancellationToken()
        inbox = await serve(runtime, "agent", gate)
        await serve(runtime, "elsewhere")
        first = asyncio.create_task(runtime.send_message("first", AGENT))
        await until(lambda: gate.entered == 1)
        waiting = asyncio.create_task(runtime.send_message("waiting", AGENT, cancellation_token=token))
        last = asyncio.create_task(runtime.send_message("last", AGENT))
        # What was sent before has arrived when this is answered.
        await runtime.send_message("x", AgentId("elsewhere", "e"))
        if how == "token":
            token.cancel()
        else:
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await runtime.send_message("x", AgentId("elsewhere", "e"))
        gate.opened.set()

        assert await asyncio.gather(first, last) == ["first", "last"]
        assert inbox.messages == ["first", "last"]
        await settle(runtime)


class TestDownTheTree:
    @pytest.mark.parametrize("how", ["token", "task", "wait_for"])
    async def test_every_handler_is_told_and_ends(self, runtime: Runtime, settle: Settle, how: str) -> None:
        tree, token = Tree(depth=4, fan_out=3), CancellationToken()
        await tree.plant(runtime)
        call = asyncio.create_task(
            asyncio.wait_for(tree.call(runtime), 1)
            if how == "wait_for"
            else tree.call(runtime, cancellation_token=token)
        )
        await tree.grown()
        assert tree.told == 0
        if how == "token":
            token.cancel()
        elif how == "task":
            call.cancel()
        with pytest.raises(TimeoutError if how == "wait_for" else asyncio.CancelledError):
            await call
        await until(lambda: tree.told == tree.left == tree.size == 40)

        await settle(runtime)

    async def test_a_closed_stream_cancels_what_its_handler_called(self, runtime: Runtime, settle: Settle) -> None:
        tree = Tree(depth=2, fan_out=2)

        async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[str]:
            async def chunks() -> AsyncIterator[str]:
                yield "first"
                yield await agent.send_message(0, AgentId("level0", "root"))

            return chunks()

        await tree.plant(runtime)
        await serve(runtime, "agent", handle)
        async with runtime.stream_message("x", AGENT) as stream:
            assert await anext(stream) == "first"
            await tree.grown()
        await until(lambda: tree.told == tree.left == tree.size)

        await settle(runtime)

    async def test_a_cancelled_call_ends_streams_that_its_handler_reads(self, runtime: Runtime, settle: Settle) -> None:
        ended: list[Any] = []
        reading = asyncio.Event()

        async def numbers(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[int]:
            async def chunks() -> AsyncIterator[int]:
                try:
                    while True:
                        yield 1
                        await asyncio.sleep(0.002)
                finally:
                    ended.append(bool(ctx.cancellation_token.is_cancelled))

            return chunks()

        async def read(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            try:
                async for _ in agent.stream_message("x", AgentId("numbers", "n")):
                    reading.set()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        await serve(runtime, "numbers", numbers)
        await serve(runtime, "agent", read)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(reading.is_set)
        call.cancel()
        await asyncio.wait([call])
        await until(lambda: sorted(map(str, ended)) == ["True", "cancelled"])

        await settle(runtime)

    async def test_a_handler_that_cancels_its_own_token_cancels_its_calls_but_not_itself(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        watcher = Watcher()

        async def give_up(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            call = asyncio.create_task(agent.send_message("x", AGENT))
            await until(lambda: watcher.entered == 1)
            ctx.cancellation_token.cancel()
            await asyncio.wait([call])
            return "cancelled" if call.cancelled() else "answered"

        await serve(runtime, "agent", watcher)
        await serve(runtime, "caller", give_up)

        assert await runtime.send_message("x", AgentId("caller", "c")) == "cancelled"
        await until(lambda: watcher.seen == 1)
        await settle(runtime)

    @pytest.mark.parametrize("how", ["token", "deadline"])
    async def test_the_next_call_tells_a_handler_that_did_not_look(
        self, runtime: Runtime, settle: Settle, how: str
    ) -> None:
        goes_on = asyncio.Event()
        contexts, errors, token = [], [], CancellationToken()

        async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            contexts.append(ctx)
            await goes_on.wait()
            try:
                await agent.send_message("more work", AgentId("below", "b"))
            except (asyncio.CancelledError, TimeoutError) as error:
                errors.append(type(error))
                await agent.send_message("tidy", AgentId("below", "b"))
                raise

        inbox = await serve(runtime, "below")
        await serve(runtime, "agent", handle)
        timeout = 0.3 if how == "deadline" else None
        call = asyncio.create_task(runtime.send_message("x", AGENT, cancellation_token=token, timeout=timeout))
        await until(lambda: bool(contexts))
        if how == "token":
            token.cancel()
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await call
        # To ask the token would be to look.
        await until(lambda: contexts[0].cancellation_token._cancelled)
        goes_on.set()
        await until(lambda: inbox.messages == ["tidy"])
        await settle(runtime)

        assert errors == [asyncio.CancelledError if how == "token" else DeadlineExceededError]

    async def test_a_handler_may_tidy_up_with_calls(self, runtime: Runtime, settle: Settle) -> None:
        watcher = Watcher()

        async def tidy(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            try:
                await agent.send_message("x", AGENT)
            finally:
                await agent.send_message("tidy", AgentId("other", "o"))

        await serve(runtime, "agent", watcher)
        tidied = await serve(runtime, "other")
        await serve(runtime, "caller", tidy)
        call = asyncio.create_task(runtime.send_message("x", AgentId("caller", "c")))
        await until(lambda: watcher.entered == 1)
        call.cancel()
        await asyncio.wait([call])
        await until(lambda: tidied.messages == ["tidy"])

        await settle(runtime)

    async def test_cancelling_again_or_too_late_does_no_harm(self, runtime: Runtime, settle: Settle) -> None:
        tree, token = Tree(depth=2, fan_out=2), CancellationToken()
        await tree.plant(runtime)
        await serve(runtime, "agent")
        call = asyncio.create_task(tree.call(runtime, cancellation_token=token))
        await tree.grown()
        call.cancel()
        token.cancel()
        call.cancel()
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: tree.left == tree.size)
        call.cancel()
        token.cancel()

        assert await runtime.send_message("x", AGENT) == "x"
        await settle(runtime)


class TestAHandlerThatIgnoresItsToken:
    async def test_is_reported_by_name_and_its_task_is_cancelled_after_the_grace_time(
        self, runtime: Runtime, settle: Settle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.2)
        gate = Gate()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        with caplog.at_level(logging.ERROR):
            call.cancel()
            await asyncio.wait([call])
            assert gate.left == 0
            await until(lambda: gate.left == 1)
            await settle(runtime)

        (record,) = caplog.records
        assert str(AGENT) in record.getMessage()

    async def test_may_tidy_up_once_more_when_its_task_is_cancelled(
        self, runtime: Runtime, settle: Settle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.3)
        gate = Gate()

        async def tidy(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            try:
                await gate(agent, message, ctx)
            finally:
                await agent.send_message("tidy", AgentId("other", "o"))

        await serve(runtime, "agent", tidy)
        tidied = await serve(runtime, "other")
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        call.cancel()
        await asyncio.wait([call])
        await until(lambda: tidied.messages == ["tidy"])

        await settle(runtime)

    async def test_is_left_behind_if_it_goes_on_after_that(
        self,
        make_runtime: MakeRuntime,
        settle: Settle,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.2)
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        free, entered, survived = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def stubborn(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            if message == "next":
                return message
            entered.set()
            while not free.is_set():
                try:
                    await free.wait()
                except asyncio.CancelledError:
                    pass
            survived.set()
            return message

        await serve(runtime, "agent", stubborn)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await entered.wait()
        following = asyncio.create_task(runtime.send_message("next", AGENT))
        with caplog.at_level(logging.ERROR):
            call.cancel()
            await asyncio.wait([call])
            assert await following == "next"
            await settle(runtime)

        assert [str(AGENT) in record.getMessage() for record in caplog.records] == [True, True]
        assert not survived.is_set()
        free.set()
        await survived.wait()
        assert await runtime.send_message("next", AGENT) == "next"
        await settle(runtime)

    async def test_but_ends_within_the_grace_time_is_not_reported(
        self, runtime: Runtime, settle: Settle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.3)
        gate = Gate()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT))
        await until(lambda: gate.entered == 1)
        with caplog.at_level(logging.ERROR):
            call.cancel()
            await asyncio.wait([call])
            gate.opened.set()
            await settle(runtime)
            # Longer than the grace time: what is not reported by now is not reported at all.
            await asyncio.sleep(0.4)

        assert caplog.records == []
