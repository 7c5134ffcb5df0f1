"""What a handler or a factory raises reaches the caller: locally as it is, over a network rebuilt."""

import asyncio
import traceback
from dataclasses import dataclass
from typing import Any

import pytest

from contract.support import (
    Gate,
    Inbox,
    MakeRuntime,
    Number,
    Runtime,
    Scripted,
    Settle,
    echo,
    only_local,
    only_network,
    serve,
    until,
)
from hivewire import (
    AccessDeniedError,
    AgentId,
    AgentNotFoundError,
    BrokerUnavailableError,
    CancellationToken,
    CantHandleException,
    DeadlineExceededError,
    MessageContext,
    MessageDroppedException,
    MessageTooLargeError,
    NotAccessibleError,
    OverloadedError,
    RemoteAgentError,
    RuntimeStateError,
    SerializationError,
    StateConflictError,
    SubscriptionNotFoundError,
    UndeliverableException,
    WorkerLostError,
    register_exception,
)

AGENT = AgentId("agent", "k")


@register_exception
class QuotaError(Exception):
    """An error with fields that its constructor makes."""

    def __init__(self, user: str, *, limit: int) -> None:
        super().__init__(f"{user} is over {limit}")
        self.user = user
        self.limit = limit


class PrivateError(Exception):
    """An error that nobody registered."""


class UnspeakableError(Exception):
    """An error that fails at everything that is asked of it."""

    def __str__(self) -> str:
        raise ValueError("no text")

    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def raising(error: BaseException) -> Any:
    async def handle(agent: Scripted, message: Any, ctx: MessageContext) -> None:
        raise error

    return handle


async def error_of(runtime: Runtime, error: BaseException) -> BaseException:
    """Return what the caller gets when a handler raises an error."""
    await serve(runtime, "agent", raising(error))
    try:
        await runtime.send_message("x", AGENT)
    except BaseException as caught:
        return caught
    raise AssertionError("the call returned")


BUILT_IN = [
    ValueError("boom"),
    ValueError(),
    KeyError("boom"),
    TypeError("boom", 2, None),
    ZeroDivisionError("division by zero"),
    FileNotFoundError(2, "No such file", "a.txt"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    TimeoutError("late"),
    ConnectionResetError(),
    NotImplementedError(),
    AssertionError("wrong"),
    RuntimeError("with\nlines and ünicode 🐝"),
    ValueError("x" * 2000),
]

OWN = [
    CantHandleException("boom"),
    UndeliverableException("boom"),
    MessageDroppedException("why"),
    MessageDroppedException(),
    NotAccessibleError("boom"),
    AgentNotFoundError("Recipient not found: boom"),
    DeadlineExceededError("boom"),
    WorkerLostError("boom"),
    BrokerUnavailableError("boom"),
    MessageTooLargeError("boom"),
    OverloadedError("boom"),
    AccessDeniedError("boom"),
    SerializationError("boom"),
    StateConflictError("boom"),
    SubscriptionNotFoundError("boom"),
    RuntimeStateError("boom"),
    RemoteAgentError("boom", type_name="a.B", agent_id="far/away", remote_traceback="Traceback ..."),
    QuotaError("ann", limit=3),
]


@pytest.mark.parametrize("error", BUILT_IN + OWN, ids=lambda error: type(error).__name__)
async def test_known_errors_arrive_as_themselves(runtime: Runtime, error: Exception) -> None:
    caught = await error_of(runtime, error)

    assert type(caught) is type(error)
    assert caught.args == error.args
    assert str(caught) == str(error)
    assert vars(caught).items() >= {name: value for name, value in vars(error).items() if name[0] != "_"}.items()


@only_local
async def test_in_one_process_it_is_the_very_error_that_was_raised(runtime: Runtime) -> None:
    error = PrivateError("boom")

    assert await error_of(runtime, error) is error


class TestErrorsThatMayNotBeRebuilt:
    async def test_over_a_network_they_are_told_apart_from_values(self, runtime: Runtime, kind: str) -> None:
        caught = await error_of(runtime, PrivateError("boom"))

        if kind == "local":
            assert type(caught) is PrivateError
        else:
            assert type(caught) is RemoteAgentError
            assert caught.type_name.endswith("test_errors.PrivateError")
            assert caught.message == "boom"
            assert caught.agent_id == "agent/k"
            assert "raise error" in caught.remote_traceback

    async def test_one_that_fails_at_everything_is_an_error_all_the_same(self, runtime: Runtime) -> None:
        caught = await error_of(runtime, UnspeakableError())

        assert isinstance(caught, UnspeakableError | RemoteAgentError)

    async def test_one_that_was_defined_in_a_function_is_an_error_all_the_same(self, runtime: Runtime) -> None:
        class LocalError(Exception):
            pass

        assert isinstance(await error_of(runtime, LocalError("boom")), LocalError | RemoteAgentError)

    @pytest.mark.parametrize(
        "error",
        [KeyboardInterrupt(), SystemExit(3)],
        ids=["KeyboardInterrupt", "SystemExit"],
    )
    async def test_one_that_ends_a_process_ends_at_most_that_of_the_caller(
        self, runtime: Runtime, kind: str, error: BaseException
    ) -> None:
        caught = await error_of(runtime, error)

        if kind == "local":
            assert caught is error
        else:
            assert type(caught) is RemoteAgentError
            assert caught.type_name == type(error).__name__

    async def test_a_group_of_errors_is_an_error(self, runtime: Runtime) -> None:
        caught = await error_of(runtime, ExceptionGroup("several", [ValueError("a"), PrivateError("b")]))

        assert isinstance(caught, ExceptionGroup | RemoteAgentError)
        assert "several" in str(caught)

    async def test_what_an_argument_cannot_say_is_left_out(self, runtime: Runtime) -> None:
        caught = await error_of(runtime, ValueError("boom", object()))

        assert isinstance(caught, ValueError)
        assert caught.args[0] == "boom"

    async def test_a_huge_one_is_an_error(self, runtime: Runtime) -> None:
        assert isinstance(await error_of(runtime, ValueError("x" * 5_000_000)), ValueError)


class TestWhereItCameFrom:
    async def test_the_traceback_of_the_handler_can_be_read(self, runtime: Runtime) -> None:
        caught = await error_of(runtime, ValueError("boom"))

        assert "in handle" in "".join(traceback.format_exception(caught))

    async def test_notes_come_along(self, runtime: Runtime) -> None:
        error = ValueError("boom")
        error.add_note("try again")

        assert "try again" in (await error_of(runtime, error)).__notes__

    async def test_an_error_passes_through_the_agents_between(self, runtime: Runtime) -> None:
        async def forward(agent: Scripted, message: Any, ctx: MessageContext) -> None:
            await agent.send_message(message, AGENT)

        await serve(runtime, "agent", raising(QuotaError("ann", limit=3)))
        await serve(runtime, "forwarder", forward)

        with pytest.raises(QuotaError) as caught:
            await runtime.send_message("x", AgentId("forwarder", "f"))
        assert (caught.value.user, caught.value.limit) == ("ann", 3)

    async def test_an_agent_between_may_catch_it(self, runtime: Runtime) -> None:
        async def forward(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            try:
                await agent.send_message(message, AGENT)
            except KeyError as error:
                return f"caught {error}"
            return "nothing"

        await serve(runtime, "agent", raising(KeyError("boom")))
        await serve(runtime, "forwarder", forward)

        assert await runtime.send_message("x", AgentId("forwarder", "f")) == "caught 'boom'"


class TestAfterAnError:
    async def test_the_agent_handles_the_next_message(self, runtime: Runtime) -> None:
        async def pick(agent: Scripted, message: str, ctx: MessageContext) -> str:
            if message == "bad":
                raise ValueError
            return message

        inbox = await serve(runtime, "agent", pick)
        with pytest.raises(ValueError):
            await runtime.send_message("bad", AGENT)

        assert await runtime.send_message("good", AGENT) == "good"
        assert len(inbox) == 2

    async def test_a_call_is_made_once_whatever_it_raises(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent", raising(ConnectionResetError()))
        with pytest.raises(ConnectionResetError):
            await runtime.send_message("x", AGENT)

        assert len(inbox) == 1


class TestFactories:
    async def test_what_a_factory_raises_reaches_the_caller_and_the_next_call_builds_again(
        self, runtime: Runtime
    ) -> None:
        errors: list[Exception] = [QuotaError("ann", limit=3), ValueError()]

        def factory() -> Scripted:
            if errors:
                raise errors.pop(0)
            return Scripted(echo, Inbox())

        await runtime.register_factory("agent", factory)
        with pytest.raises(QuotaError, match="ann is over 3"):
            await runtime.send_message("x", AGENT)
        with pytest.raises(ValueError):
            await runtime.send_message("x", AGENT)

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_so_does_what_an_async_factory_raises(self, runtime: Runtime) -> None:
        async def factory() -> Scripted:
            await asyncio.sleep(0)
            raise KeyError("boom")

        await runtime.register_factory("agent", factory)
        with pytest.raises(KeyError, match="boom"):
            await runtime.send_message("x", AGENT)

    async def test_all_callers_that_wait_for_it_get_it(self, runtime: Runtime) -> None:
        gate = asyncio.Event()
        calls = 0

        async def factory() -> Scripted:
            nonlocal calls
            calls += 1
            await gate.wait()
            raise KeyError("boom")

        await runtime.register_factory("agent", factory)
        waiting = [asyncio.create_task(runtime.send_message("x", AGENT)) for _ in range(3)]
        await until(lambda: calls == 1)
        gate.set()

        assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [KeyError] * 3

    async def test_an_async_factory_may_call_other_agents(self, runtime: Runtime) -> None:
        inbox = Inbox()

        async def factory() -> Scripted:
            await runtime.send_message("hello", AgentId("helper", "h"))
            return Scripted(echo, inbox)

        helper = await serve(runtime, "helper")
        await runtime.register_factory("agent", factory)

        assert await runtime.send_message("x", AGENT) == "x"
        assert helper.messages == ["hello"]

    async def test_an_agent_of_another_class_than_the_expected_one_is_an_error(self, runtime: Runtime) -> None:
        class Expected(Scripted):
            pass

        factory: Any = lambda: Scripted(echo, Inbox())  # noqa: E731
        await runtime.register_factory("agent", factory, expected_class=Expected)

        with pytest.raises(ValueError, match="Expected"):
            await runtime.send_message("x", AGENT)

    async def test_an_agent_of_a_subclass_of_the_expected_one_is_fine(self, runtime: Runtime) -> None:
        class Special(Scripted):
            pass

        await runtime.register_factory("agent", lambda: Special(echo, Inbox()), expected_class=Scripted)

        assert await runtime.send_message("x", AGENT) == "x"


@dataclass
class Unserializable:
    what: Any


@only_network
class TestWhatCannotTravel:
    async def test_a_message_without_serializer_is_an_error_before_it_is_sent(self, runtime: Runtime) -> None:
        inbox = await serve(runtime, "agent")
        for message in (object(), Unserializable(object())):
            with pytest.raises(SerializationError):
                await runtime.send_message(message, AGENT)

        assert inbox.received == []

    async def test_an_answer_without_serializer_is_an_error_of_the_caller(self, runtime: Runtime) -> None:
        async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> object:
            return object()

        await serve(runtime, "agent", answer)
        with pytest.raises(SerializationError):
            await runtime.send_message("x", AGENT)

    async def test_a_message_over_the_limit_is_an_error_and_the_next_one_goes_through(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")
        for size in (8_000_000, 1_048_576 - 20):
            with pytest.raises(MessageTooLargeError, match=r"\d"):
                await runtime.send_message("x" * size, AGENT)

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_an_answer_over_the_limit_is_an_error_and_the_next_one_goes_through(self, runtime: Runtime) -> None:
        async def repeat(agent: Scripted, message: int, ctx: MessageContext) -> str:
            return "x" * message

        await serve(runtime, "agent", repeat)
        with pytest.raises(MessageTooLargeError):
            await runtime.send_message(8_000_000, AGENT)

        assert await runtime.send_message(1, AGENT) == "x"


class TestDeadlines:
    async def test_a_call_ends_at_its_timeout_and_the_handler_learns_of_it(self, runtime: Runtime) -> None:
        gate = Gate()
        inbox = await serve(runtime, "agent", gate)

        with pytest.raises(DeadlineExceededError, match=r"timeout.* start") as caught:
            await runtime.send_message("x", AGENT, timeout=0.2)
        await until(lambda: bool(inbox.only.ctx.cancellation_token.is_cancelled))

        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, UndeliverableException)
        gate.opened.set()

    async def test_the_runtime_may_have_a_timeout_for_all_calls(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(default_timeout=0.2)
        await runtime.start()
        gate = Gate()
        await serve(runtime, "agent", gate)

        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", AGENT)
        gate.opened.set()

    async def test_the_timeout_of_a_call_comes_before_that_of_the_runtime(self, make_runtime: MakeRuntime) -> None:
        runtime = make_runtime(default_timeout=0.05)
        await runtime.start()
        gate = Gate()
        await serve(runtime, "agent", gate)
        call = asyncio.create_task(runtime.send_message("x", AGENT, timeout=10))
        asyncio.get_running_loop().call_later(0.2, gate.opened.set)

        assert await call == "x"

    async def test_an_answer_in_time_is_an_answer(self, runtime: Runtime) -> None:
        await serve(runtime, "agent")

        assert await runtime.send_message(Number(1), AGENT, timeout=10) == Number(1)

    async def test_a_timeout_does_not_cancel_the_callers_token(self, runtime: Runtime) -> None:
        gate, token = Gate(), CancellationToken()
        inbox = await serve(runtime, "agent", gate)
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", AGENT, timeout=0.2, cancellation_token=token)
        await until(lambda: bool(inbox.only.ctx.cancellation_token.is_cancelled))

        assert not token.is_cancelled
        gate.opened.set()

    async def test_what_the_handler_still_does_then_disturbs_nobody(self, runtime: Runtime) -> None:
        gate = Gate()

        async def fail_late(agent: Scripted, message: Any, ctx: MessageContext) -> Any:
            await gate(agent, message, ctx)
            raise ValueError("late")

        await serve(runtime, "late", fail_late)
        await serve(runtime, "agent")
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", AgentId("late", "l"), timeout=0.2)
        gate.opened.set()
        await until(lambda: gate.left == 1)

        assert await runtime.send_message("x", AGENT) == "x"

    async def test_a_timeout_of_zero_has_passed(self, runtime: Runtime) -> None:
        gate = Gate()
        await serve(runtime, "agent", gate)

        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("x", AGENT, timeout=0)
        gate.opened.set()

    async def test_a_call_whose_time_ran_out_while_its_agent_was_built_is_not_handled(
        self, runtime: Runtime, settle: Settle
    ) -> None:
        gate, inbox = asyncio.Event(), Inbox()

        async def factory() -> Scripted:
            await gate.wait()
            return Scripted(echo, inbox)

        await serve(runtime, "elsewhere")
        await runtime.register_factory("agent", factory)
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("late", AGENT, timeout=0.2)
        # Over a network the handler's process hears of it a moment later, and before what is sent now.
        await runtime.send_message("x", AgentId("elsewhere", "e"))
        gate.set()
        await settle(runtime)

        assert await runtime.send_message("x", AGENT) == "x"
        assert inbox.messages == ["x"]

    async def test_a_call_whose_time_ran_out_while_it_waited_for_its_turn_is_not_handled(
        self, make_runtime: MakeRuntime, settle: Settle
    ) -> None:
        runtime = make_runtime(concurrency="serial")
        await runtime.start()
        gate = Gate()
        inbox = await serve(runtime, "agent", gate)
        await serve(runtime, "elsewhere")
        first = asyncio.create_task(runtime.send_message("first", AGENT))
        await until(lambda: gate.entered == 1)
        with pytest.raises(DeadlineExceededError):
            await runtime.send_message("late", AGENT, timeout=0.2)
        # Over a network the handler's process hears of it a moment later, and before what is sent now.
        await runtime.send_message("x", AgentId("elsewhere", "e"))
        gate.opened.set()
        await first
        await settle(runtime)

        assert inbox.messages == ["first"]

    async def test_a_call_from_a_handler_may_time_out_and_be_caught(self, runtime: Runtime) -> None:
        gate = Gate()

        async def ask(agent: Scripted, message: Any, ctx: MessageContext) -> str:
            try:
                await agent.send_message(message, AgentId("slow", "s"), timeout=0.2)
            except TimeoutError:
                return "too slow"
            return "in time"

        await serve(runtime, "slow", gate)
        await serve(runtime, "agent", ask)

        assert await runtime.send_message("x", AGENT) == "too slow"
        gate.opened.set()
