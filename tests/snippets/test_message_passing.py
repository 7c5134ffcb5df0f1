"""The examples of the message passing chapter, run as printed."""

import asyncio
import builtins
import dataclasses
import inspect
import json
import types
from typing import Any, runtime_checkable

import pytest

import hivewire
from hivewire import (
    AgentId,
    CancellationToken,
    DefaultSubscription,
    DefaultTopicId,
    MessageContext,
    MessageHandlerContext,
    RoutedAgent,
    TopicId,
    TypePrefixSubscription,
    TypeSubscription,
    event,
    rpc,
)
from snippets import stand_ins
from snippets.stages import Stage
from snippets.stand_ins import Inbox, MyMessage, Recorder, Request, Response, StatusEvent

DEADLINE_S = 30.0


async def test_27_dataclasses_make_the_round_trip(stage: Stage) -> None:
    notebook = stage.notebook()
    await notebook.run(27)
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "echo", inbox.recorder)
    await runtime.start()

    messages = [
        notebook["TaskRequest"](task_id="1", priority=2, data={"nested": {"list": [1, None, "x"]}}),
        notebook["TaskResponse"](task_id="1", result="ok", success=True),
        notebook["StatusEvent"](status="done", timestamp=1.5),
    ]
    for message in messages:
        answer = await runtime.send_message(message, AgentId("echo", "k"))
        assert (type(answer), answer) == (type(message), message)
        assert answer is not message
    assert inbox.messages == messages


async def test_28_pydantic_models_make_the_round_trip(stage: Stage) -> None:
    notebook = stage.notebook()
    await notebook.run(28)
    runtime = stage.runtime()
    await Recorder.register(runtime, "echo", Recorder)
    await runtime.start()

    for message in (
        notebook["ValidationRequest"](data={"a": [1]}),
        notebook["ValidationRequest"](data={}, rules=["one", "two"]),
        notebook["ValidationResponse"](valid=True),
    ):
        answer = await runtime.send_message(message, AgentId("echo", "k"))
        assert (type(answer), answer) == (type(message), message)


async def test_29_the_printed_message_context_has_the_fields_of_the_real_one(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(29)

    def shape(cls: type) -> list[tuple[str, Any]]:
        hints = inspect.get_annotations(cls, eval_str=True, locals=vars(hivewire))
        return [(field.name, hints[field.name]) for field in dataclasses.fields(cls)]

    assert notebook["MessageContext"] is not MessageContext
    assert shape(notebook["MessageContext"]) == shape(MessageContext)


async def test_30_a_request_shows_its_sender_and_token_and_an_event_its_topic(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook(Request=Request, Response=Response, StatusEvent=StatusEvent, asyncio=asyncio)
    await notebook.run(30)
    runtime = stage.runtime()
    await notebook["MyAgent"].register(runtime, "my_agent", notebook["MyAgent"])
    await runtime.add_subscription(TypeSubscription("status", "my_agent"))
    await runtime.start()

    answer = await runtime.send_message(Request("x"), AgentId("my_agent", "k"), sender=AgentId("writer", "1"))
    await runtime.publish_message(StatusEvent("ready"), TopicId("status", "k"))
    await runtime.stop_when_idle()

    assert answer == Response(data="processed")
    assert capsys.readouterr().out == "Request from: writer/1\nEvent on topic: status/k\n"


async def test_31_the_agents_id_is_known_inside_of_a_handler_and_nowhere_else(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook(
        RoutedAgent=RoutedAgent, rpc=rpc, MessageContext=MessageContext, Request=Request, Response=Response
    )
    await notebook.run(31)
    runtime = stage.runtime()
    await notebook["MyAgent"].register(runtime, "my_agent", notebook["MyAgent"])
    await runtime.start()

    assert await runtime.send_message(Request(), AgentId("my_agent", "k")) == Response()

    assert capsys.readouterr().out == "I am: my_agent/k\n"
    with pytest.raises(RuntimeError):
        MessageHandlerContext.agent_id()


async def test_32_a_topic_id_is_written_as_text_and_read_back(
    local_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = local_stage.notebook()
    await notebook.run(32)
    assert capsys.readouterr().out == "task.status/worker-1\n"
    assert notebook["topic"] == TopicId("task.status", "worker-1")


async def test_33_the_default_topic_outside_of_a_handler_has_the_source_default(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "listener", inbox.recorder)
    await runtime.add_subscription(DefaultSubscription(agent_type="listener"))
    await runtime.start()

    await stage.notebook(runtime=runtime, StatusEvent=StatusEvent).run(33)
    await runtime.stop_when_idle()

    assert inbox.messages == [StatusEvent("ready")]
    assert inbox.agents == [AgentId("listener", "default")]
    assert inbox.received[0].context.topic_id == TopicId("default", "default")


async def test_34_what_an_agent_publishes_names_it_as_the_sender(stage: Stage) -> None:
    notebook = stage.notebook(
        RoutedAgent=RoutedAgent, rpc=rpc, MessageContext=MessageContext, TopicId=TopicId, StatusEvent=StatusEvent,
        WorkRequest=stand_ins.WorkRequest, WorkResponse=stand_ins.WorkResponse,
    )  # fmt: skip
    await notebook.run(34)
    inbox, runtime = Inbox(), stage.runtime()
    await notebook["Publisher"].register(runtime, "publisher", notebook["Publisher"])
    await Recorder.register(runtime, "listener", inbox.recorder)
    await runtime.add_subscription(TypeSubscription("status", "listener"))
    await runtime.start()

    answer = await runtime.send_message(stand_ins.WorkRequest(), AgentId("publisher", "k"))
    await runtime.stop_when_idle()

    assert answer == stand_ins.WorkResponse(result="done")
    assert inbox.messages == [StatusEvent("working")]
    assert inbox.agents == [AgentId("listener", "k")]
    assert inbox.received[0].context.sender == AgentId("publisher", "k")


async def test_35_what_the_runtime_publishes_has_no_sender(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "listener", inbox.recorder)
    await runtime.add_subscription(TypeSubscription("system", "listener"))
    await runtime.start()

    await stage.notebook(runtime=runtime, TopicId=TopicId, SystemEvent=stand_ins.SystemEvent).run(35)
    await runtime.stop_when_idle()

    assert inbox.messages == [stand_ins.SystemEvent("startup")]
    assert inbox.received[0].context.sender is None


async def test_36_the_built_in_subscriptions_are_of_the_printed_protocol(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(36)
    printed = runtime_checkable(notebook["Subscription"])

    for subscription in (
        TypeSubscription("a", "agent"),
        TypePrefixSubscription("a", "agent"),
        DefaultSubscription("a", "agent"),
    ):
        assert isinstance(subscription, printed)
        assert subscription.id
        assert subscription.is_match(TopicId("a", "s"))
        assert subscription.map_to_agent(TopicId("a", "s")) == AgentId("agent", "s")


async def test_37_two_sources_reach_two_agents_with_those_keys(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "monitor", inbox.recorder)
    await runtime.start()
    await stage.notebook(runtime=runtime).run(37)

    for source in ("worker-1", "worker-2"):
        await runtime.publish_message(source, TopicId("task.status", source))
    await runtime.stop_when_idle()

    assert {str(each.agent): each.message for each in inbox.received} == {
        "monitor/worker-1": "worker-1",
        "monitor/worker-2": "worker-2",
    }


async def test_38_each_source_has_a_monitor_with_a_list_of_its_own(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = stage.runtime()
    notebook = stage.notebook(
        RoutedAgent=RoutedAgent, event=event, MessageContext=MessageContext, TopicId=TopicId, StatusEvent=StatusEvent,
        TypeSubscription=TypeSubscription, runtime=runtime,
    )  # fmt: skip
    await runtime.start()
    await notebook.run(38)

    async def monitor(key: str) -> Any:
        return await runtime.try_get_underlying_agent_instance(AgentId("monitor", key), notebook["Monitor"])

    monitors = [await monitor("worker-1"), await monitor("worker-2")]
    await runtime.stop_when_idle()

    assert [each.events for each in monitors] == [[StatusEvent("ready")], [StatusEvent("busy")]]
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "Monitor worker-1 got event: ready",
        "Monitor worker-2 got event: busy",
    ]


async def test_39_the_default_topic_is_subscribed_by_hand_or_by_a_decorator(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    runtime = stage.runtime()
    notebook = stage.notebook(
        RoutedAgent=RoutedAgent, event=event, MessageContext=MessageContext, Any=Any, runtime=runtime
    )
    await notebook.run(39)
    logger = notebook["Logger"]
    await logger.register(runtime, "logger", logger, skip_class_subscriptions=True)
    await logger.register(runtime, "decorated", logger)
    await runtime.start()

    for message in ("text", 7, StatusEvent("ready")):
        await runtime.publish_message(message, DefaultTopicId())
    await runtime.stop_when_idle()

    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == sorted(2 * ["Logged: text", "Logged: 7", "Logged: StatusEvent(status='ready')"])


async def test_40_a_prefix_subscription_matches_topic_types_by_prefix(local_stage: Stage) -> None:
    notebook = local_stage.notebook()
    await notebook.run(40)
    subscription: TypePrefixSubscription = notebook["subscription"]

    assert subscription.is_match(TopicId("task.a", "s"))
    assert not subscription.is_match(TopicId("task", "s"))
    assert subscription.map_to_agent(TopicId("task.a", "s")) == AgentId("task_handler", "s")


async def test_41_registering_a_decorated_class_adds_its_subscription(stage: Stage) -> None:
    runtime = stage.runtime()
    notebook = stage.notebook(runtime=runtime)
    await notebook.run(41)
    inbox = Inbox()
    handle_default = notebook["DefaultHandler"]
    await handle_default.register(runtime, "default_handler", handle_default)
    notebook["EventHandler"].on_unhandled_message = handle_default.on_unhandled_message = _noting(inbox)
    await runtime.start()

    await runtime.publish_message("x", TopicId("events", "k"))
    await runtime.publish_message("y", DefaultTopicId())
    await runtime.stop_when_idle()

    assert sorted((str(each.agent), each.message) for each in inbox.received) == [
        ("default_handler/default", "y"),
        ("event_handler/k", "x"),
    ]


def _noting(inbox: Inbox) -> Any:
    async def on_unhandled_message(self: RoutedAgent, message: Any, ctx: MessageContext) -> None:
        inbox.received.append(stand_ins.Received(agent=self.id, message=message, context=ctx))

    return on_unhandled_message


async def test_42_a_direct_message_has_one_response(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "processor", inbox.recorder)
    await runtime.start()
    notebook = stage.notebook(runtime=runtime, AgentId=AgentId, Request=Request)
    await notebook.run(42)

    assert notebook["response"] == Request("process this")
    assert inbox.agents == [AgentId("processor", "instance-1")]


async def test_43_every_subscriber_gets_one_copy_of_an_event(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    for agent_type in ("first", "second"):
        await Recorder.register(runtime, agent_type, inbox.recorder)
        await runtime.add_subscription(TypeSubscription("events", agent_type))
    # Another subscription that matches the same agent makes no second copy.
    await runtime.add_subscription(TypePrefixSubscription("event", "second"))
    await runtime.start()

    await stage.notebook(runtime=runtime, TopicId=TopicId, Event=stand_ins.Event).run(43)
    await runtime.stop_when_idle()

    assert sorted(map(str, inbox.agents)) == ["first/system", "second/system"]
    assert inbox.messages == 2 * [stand_ins.Event("something happened")]


async def test_44_each_source_has_a_handler_of_its_own(stage: Stage) -> None:
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "user_handler", inbox.recorder)
    await runtime.start()

    await stage.notebook(
        runtime=runtime, TypeSubscription=TypeSubscription, TopicId=TopicId, UserAction=stand_ins.UserAction
    ).run(44)
    await runtime.stop_when_idle()

    assert {str(each.agent): each.message.action for each in inbox.received} == {
        "user_handler/user-123": "login",
        "user_handler/user-456": "logout",
    }


async def test_45_a_cancelled_token_ends_the_call_and_reaches_the_handler(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    started, seen = asyncio.Event(), asyncio.Event()

    async def wait_for_the_token(message: Any, ctx: MessageContext) -> None:
        ctx.cancellation_token.add_callback(seen.set)
        started.set()
        await seen.wait()

    runtime = stage.runtime()
    await Recorder.register(runtime, "worker", lambda: Recorder(answer=wait_for_the_token))
    await runtime.start()
    pauses: list[float] = []

    async def five_seconds_pass(delay_s: float) -> None:
        pauses.append(delay_s)
        await asyncio.wait_for(started.wait(), DEADLINE_S)

    # The example imports asyncio itself, and shall not wait for five real seconds.
    clock = types.ModuleType("asyncio")
    clock.__dict__.update({**vars(asyncio), "sleep": five_seconds_pass})
    notebook = stage.notebook(
        runtime=runtime, AgentId=AgentId, LongRunningRequest=stand_ins.LongRunningRequest,
        __builtins__=_builtins_that_import(asyncio=clock),
    )  # fmt: skip
    await notebook.run(45)

    assert pauses == [5]
    assert capsys.readouterr().out == "Operation cancelled\n"
    await asyncio.wait_for(seen.wait(), DEADLINE_S)


def _builtins_that_import(**modules: types.ModuleType) -> dict[str, Any]:
    def import_(name: str, *args: Any, **kwargs: Any) -> Any:
        return modules.get(name) or builtins.__import__(name, *args, **kwargs)

    return {**vars(builtins), "__import__": import_}


async def test_46_a_handler_that_polls_its_token_ends_and_the_caller_gets_cancelled_error(stage: Stage) -> None:
    polled, ended = asyncio.Event(), asyncio.Event()

    async def sleep(delay_s: float) -> None:
        polled.set()
        await asyncio.sleep(delay_s)

    def cancelled_error() -> asyncio.CancelledError:
        ended.set()
        return asyncio.CancelledError()

    observed = types.ModuleType("asyncio")
    observed.__dict__.update({**vars(asyncio), "sleep": sleep, "CancelledError": cancelled_error})
    notebook = stage.notebook(
        RoutedAgent=RoutedAgent, rpc=rpc, MessageContext=MessageContext, Request=Request, Response=Response,
        asyncio=observed,
    )  # fmt: skip
    await notebook.run(46)
    runtime = stage.runtime()
    await notebook["Worker"].register(runtime, "worker", notebook["Worker"])
    await runtime.start()
    token = CancellationToken()
    call = asyncio.ensure_future(
        runtime.send_message(Request(), AgentId("worker", "k"), cancellation_token=token, timeout=DEADLINE_S)
    )
    await asyncio.wait_for(polled.wait(), DEADLINE_S)

    token.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(ended.wait(), DEADLINE_S)


async def test_47_a_serializer_without_a_type_name_is_used_for_the_class_it_names(stage: Stage) -> None:
    runtime = stage.runtime()
    notebook = stage.notebook(runtime=runtime, MyMessage=MyMessage)
    await notebook.run(47)
    serialized: list[MyMessage] = []
    serializer_class = notebook["MyMessageSerializer"]
    original = serializer_class.serialize

    def serialize(self: Any, message: MyMessage) -> bytes:
        serialized.append(message)
        return original(self, message)

    serializer_class.serialize = serialize
    runtime.add_message_serializer(serializer_class())
    await Recorder.register(runtime, "echo", Recorder)
    await runtime.start()

    assert await runtime.send_message(MyMessage("x", 1), AgentId("echo", "k")) == MyMessage("x", 1)
    assert len(serialized) == 2
    assert json.loads(original(serializer_class(), MyMessage("x", 1))) == {"field1": "x", "field2": 1}


async def test_48_a_dataclass_has_known_serializers(local_stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await local_stage.notebook(MyMessage=MyMessage).run(48)
    assert capsys.readouterr().out == "Found 1 serializers\n"


async def test_49_the_complete_example_prints_both_events_and_the_response(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook(__name__="complete_example")
    await notebook.run(49)

    await notebook["main"]()

    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines) == ["Response: Processed: sample", "Task 123: completed", "Task 123: started"]
    assert lines.index("Task 123: started") < lines.index("Task 123: completed")
