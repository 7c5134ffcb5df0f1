import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contract.support import Gate, Handle, MakeRuntime, Runtime, Scripted, Settle, echo, serve, until
from contract.trees import Tree
from hivewire import AgentId, DeadlineExceededError, MessageContext, TopicId
from hivewire.model import grace

AGENT = AgentId("agent", "k")
CALLER = AgentId("caller", "c")


def calling(recipient: AgentId, *, timeout: float | None = None) -> tuple[Handle, list[Any]]:
    """A handler that passes its message on to another agent, and the list in which it notes what comes of it."""
    outcomes: list[Any] = []

    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
        begun = time.monotonic()
        try:
            outcomes.append(await agent.send_message(message, recipient, timeout=timeout))
        except BaseException as error:
            outcomes.append(error)
            raise
        finally:
            outcomes.append(time.monotonic() - begun)
        return outcomes[0]

    return handle, outcomes


class TestEachWayToLimitACall:
    @pytest.mark.parametrize("how", ["timeout", "default_timeout", "asyncio.timeout", "wait_for"])
    async def test_ends_as_a_timeout_and_the_handler_is_told(
        self, make_runtime: MakeRuntime, settle: Settle, how: str
    ) -> None:
        runtime = make_runtime(**({"default_timeout": 0.3} if how == "default_timeout" else {}))
        await runtime.start()
        gate = Gate()
        inbox = await serve(runtime, "agent", gate)
        begun = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            if how == "timeout":
                await runtime.send_message("x", AGENT, timeout=0.3)
            elif how == "wait_for":
                await asyncio.wait_for(runtime.send_message("x", AGENT), 0.3)
            else:
                async with asyncio.timeout(0.3 if how == "asyncio.timeout" else None):
                    await runtime.send_message("x", AGENT)

        assert 0.25 < time.monotonic() - begun < 3
        assert isinstance(caught.value, DeadlineExceededError) is (how in ("timeout", "default_timeout"))
        await until(lambda: bool(inbox.only.ctx.cancellation_token.is_cancelled))
        gate.opened.set()
        await settle(runtime)

    @pytest.mark.parametrize("timeout", ["5", float("nan"), float("inf")])
    async def test_is_a_finite_number_of_seconds(self, runtime: Runtime, timeout: Any) -> None:
        inbox = await serve(runtime, "agent")
        with pytest.raises(ValueError, match=r"timeout=.* is not a number of seconds"):
            await runtime.send_message("x", AGENT, timeout=timeout)
        with pytest.raises(ValueError, match=r"timeout=.* is not a number of seconds"):
            runtime.stream_message("x", AGENT, timeout=timeout)
        with pytest.raises(ValueError, match=r"timeout=.* is not a number of seconds"):
            runtime.resume_stream("x", timeout=timeout)

        assert inbox.received == []

    async def test_says_which_deadline_it_was(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate)
        with pytest.raises(DeadlineExceededError, match=r"timeout of 0\.2 s"):
            await runtime.send_message("x", AGENT, timeout=0.2)
        gate.opened.set()

    async def test_leaves_a_call_that_is_answered_in_time_alone(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")

        assert await runtime.send_message("x", AGENT, timeout=30) == "x"
        assert not inbox.only.ctx.cancellation_token.is_cancelled


class TestACallWithinACall:
    @pytest.mark.parametrize("timeout", [None, 60.0])
    async def test_ends_with_the_one_that_it_is_part_of(
        self, runtime: Runtime, settle: Settle, timeout: float | None
    ) -> None:
        gate = Gate()
        inbox = await serve(runtime, "agent", gate)
        handle, outcomes = calling(AGENT, timeout=timeout)
        await serve(runtime, "caller", handle)
        with pytest.raises(DeadlineExceededError, match=r"timeout of 0\.3 s"):
            await runtime.send_message("x", CALLER, timeout=0.3)
        await until(lambda: len(outcomes) == 2)

        assert isinstance(outcomes[0], DeadlineExceededError)
        assert str(CALLER) in str(outcomes[0]) or "part of" in str(outcomes[0])
        assert outcomes[1] < 3
        await until(lambda: bool(inbox.only.ctx.cancellation_token.is_cancelled))
        gate.opened.set()
        await settle(runtime)

    async def test_may_end_earlier(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate)
        handle, outcomes = calling(AGENT, timeout=0.2)
        await serve(runtime, "caller", handle)
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", CALLER, timeout=60)

        assert isinstance(outcomes[0], DeadlineExceededError)
        assert "timeout of 0.2 s" in str(outcomes[0])
        assert outcomes[1] < 3
        gate.opened.set()

    async def test_ends_with_the_root_four_deep(self, runtime: Runtime, settle: Settle) -> None:
        tree = Tree(depth=4, fan_out=2)
        await tree.plant(runtime)
        with pytest.raises(DeadlineExceededError):
            await tree.call(runtime, timeout=0.5)
        await until(lambda: tree.told == tree.entered == tree.left == tree.size)

        await settle(runtime)

    async def test_reads_a_stream_no_longer_either(self, runtime: Runtime, settle: Settle) -> None:
        read: list[Any] = []

        async def numbers(agent: Scripted, message: Any, ctx: MessageContext) -> AsyncIterator[int]:
            async def chunks() -> AsyncIterator[int]:
                number = 0
                while True:
                    yield number
                    number += 1
                    await asyncio.sleep(0.01)

            return chunks()

        async def reading(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            try:
                async for chunk in agent.stream_message(message, AGENT, timeout=60):
                    read.append(chunk)
            except BaseException as error:
                read.append(type(error))
                raise

        inbox = await serve(runtime, "agent", numbers)
        await serve(runtime, "caller", reading)
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", CALLER, timeout=0.3)
        await until(lambda: read[-1] is DeadlineExceededError)
        await until(lambda: bool(inbox.only.ctx.cancellation_token.is_cancelled))

        assert read[0] == 0
        await settle(runtime)

    async def test_has_no_deadline_but_its_own_in_an_event(self, runtime: Runtime, settle: Settle) -> None:
        await serve(runtime, "agent")
        handle, outcomes = calling(AGENT)
        await serve(runtime, "caller", handle, "t")
        await runtime.publish_message("x", TopicId("t", "s"))
        await settle(runtime)

        assert outcomes[0] == "x"

    async def test_keeps_its_deadline_in_a_task_that_outlives_its_handler(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        gate, tasks = Gate(), []

        async def leave_behind(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            async def later() -> Any:
                await asyncio.sleep(0.4)
                return await agent.send_message(message, AGENT)

            tasks.append(asyncio.create_task(agent.send_message(message, AGENT)))
            tasks.append(asyncio.create_task(later()))
            await until(lambda: gate.entered == 1)

        inbox = await serve(runtime, "agent", gate)
        await serve(runtime, "caller", leave_behind)
        await runtime.send_message("x", CALLER, timeout=0.3)
        with pytest.raises(DeadlineExceededError):
            await tasks[0]
        await until(lambda: gate.entered == 2)
        gate.opened.set()

        assert await tasks[1] == "x"
        assert not inbox.received[1].ctx.cancellation_token.is_cancelled
        await settle(runtime)

    async def test_that_tidies_up_has_the_grace_time(
        self, runtime: Runtime, settle: Settle, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(grace, "GRACE_S", 0.5)
        gate, outcomes = Gate(), []

        async def tidy(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            try:
                await agent.send_message(message, AGENT)
            finally:
                outcomes.append(await agent.send_message("tidy", AgentId("quick", "q")))
                try:
                    await agent.send_message("tidy", AGENT)
                except (DeadlineExceededError, asyncio.CancelledError) as error:
                    # The handler's own time is over at the same moment.
                    outcomes.append(error)

        await serve(runtime, "agent", gate)
        await serve(runtime, "quick")
        await serve(runtime, "caller", tidy)
        begun = time.monotonic()
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", CALLER, timeout=0.3)
        await until(lambda: len(outcomes) == 2)

        assert outcomes[0] == "tidy"
        assert isinstance(outcomes[1], DeadlineExceededError | asyncio.CancelledError)
        assert 0.5 < time.monotonic() - begun < 3
        gate.opened.set()
        await settle(runtime)


class TestAMessageThatExpires:
    async def test_while_it_waits_for_its_turn_is_not_handled(self, make_runtime: MakeRuntime, settle: Settle) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        gate = Gate()
        inbox = await serve(runtime, "agent", gate)
        await serve(runtime, "other")
        first = asyncio.create_task(runtime.send_message("first", AGENT))
        await until(lambda: gate.entered == 1)
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("late", AGENT, timeout=0.2)
        with pytest.raises(DeadlineExceededError):
            async for _ in runtime.stream_message("late", AGENT, timeout=0.2):
                pass
        # Whoever has expired for its caller has then expired for the agent's process too.
        await runtime.send_message("x", AgentId("other", "o"))
        last = asyncio.create_task(runtime.send_message("last", AGENT))
        gate.opened.set()

        assert await asyncio.gather(first, last) == ["first", "last"]
        assert inbox.messages == ["first", "last"]
        await settle(runtime)

    async def test_at_once_is_not_handled(self, runtime: Runtime, settle: Settle) -> None:
        inbox = await serve(runtime, "agent", echo)
        with pytest.raises(TimeoutError):
            await runtime.send_message("x", AGENT, timeout=0)
        await settle(runtime)

        assert inbox.received == []
