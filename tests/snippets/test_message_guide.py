"""The examples of the message guide, run as printed. They share one namespace, in order, as the cells of a notebook."""

import pytest

from hivewire import AgentId, AgentType
from snippets.documented_examples import Notebook, example
from snippets.stages import Stage
from snippets.stand_ins import Inbox, Recorder


async def test_74_both_messages_make_the_round_trip(stage: Stage) -> None:
    notebook = stage.notebook()
    await notebook.run(74)
    inbox, runtime = Inbox(), stage.runtime()
    await Recorder.register(runtime, "echo", inbox.recorder)
    await runtime.start()

    messages = [
        notebook["TextMessage"](content="Hello", source="User"),
        notebook["ImageMessage"](url="https://example.com/image.jpg", source="User"),
    ]
    for message in messages:
        answer = await runtime.send_message(message, AgentId("echo", "default"))
        assert (type(answer), answer) == (type(message), message)
    assert inbox.messages == messages


async def test_75_each_message_type_has_a_handler(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = stage.notebook()
    await notebook.run(74, 75)
    runtime = stage.runtime()
    await notebook["MyAgent"].register(runtime, "my_agent", lambda: notebook["MyAgent"]("My Agent"))
    await runtime.start()

    await runtime.send_message(notebook["ImageMessage"](url="u", source="me"), AgentId("my_agent", "k"))
    await runtime.send_message(notebook["TextMessage"](content="c", source="me"), AgentId("my_agent", "k"))

    assert capsys.readouterr().out == "Hello, me, you sent me u!\nHello, me, you said c!\n"


async def test_76_registering_returns_the_agent_type(stage: Stage) -> None:
    notebook = stage.notebook()
    registered = await notebook.run(74, 75, 76)
    assert registered == AgentType("my_agent")
    assert f"{registered!r}\n" == example(76).output


async def test_77_sending_prints_exactly_the_documented_lines(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await check_output(stage.notebook(), capsys, 74, 75, 76, 77)


async def test_78_match_functions_decorate_handlers_of_one_message_type(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook()
    await notebook.run(74, 75, 78)
    agent_class, runtime = notebook["RoutedBySenderAgent"], stage.runtime()
    await agent_class.register(runtime, "my_agent", agent_class)
    await runtime.start()

    await runtime.send_message(notebook["TextMessage"](content="c", source="user2"), AgentId("my_agent", "k"))

    assert capsys.readouterr().out == "Hello from user 2 handler, user2, you said c!\n"


async def test_79_a_message_that_no_handler_takes_is_answered_with_none(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook()
    await check_output(notebook, capsys, 74, 75, 78, 79)

    agent_class, runtime = notebook["RoutedBySenderAgent"], stage.runtime()
    await agent_class.register(runtime, "my_agent", agent_class)
    await runtime.start()
    unmatched = notebook["ImageMessage"](url="u", source="user1-test")
    assert await runtime.send_message(unmatched, AgentId("my_agent", "k")) is None
    assert capsys.readouterr().out == ""


async def test_80_an_agent_knows_its_key_in_its_constructor(stage: Stage) -> None:
    notebook = stage.notebook(AgentId=AgentId)
    await notebook.run(80)
    outer_class, runtime = notebook["OuterAgent"], stage.runtime()
    await outer_class.register(runtime, "outer_agent", lambda: outer_class("OuterAgent", "inner_agent"))
    await runtime.start()

    outer = await runtime.try_get_underlying_agent_instance(AgentId("outer_agent", "some key"), outer_class)

    assert outer.inner_agent_id == AgentId("inner_agent", "some key")


async def test_81_a_handler_that_awaits_another_agent_prints_exactly_the_documented_lines(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await check_output(stage.notebook(AgentId=AgentId), capsys, 80, 81)


async def test_82_a_decorated_class_subscribes_when_it_is_registered(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = stage.notebook(AgentId=AgentId)
    await notebook.run(80, 82, 83)
    receiver, runtime = notebook["ReceivingAgent"], stage.runtime()
    await receiver.register(runtime, "receiving_agent", lambda: receiver("Receiving Agent"))
    await runtime.start()

    await runtime.publish_message(notebook["Message"]("x"), notebook["TopicId"]("default", "s"))
    await runtime.stop_when_idle()

    assert capsys.readouterr().out == "Received a message: x\n"


async def test_83_an_agent_publishes_with_its_own_key_as_the_source(stage: Stage) -> None:
    notebook = stage.notebook(AgentId=AgentId)
    await notebook.run(80, 83)
    broadcaster, inbox, runtime = notebook["BroadcastingAgent"], Inbox(), stage.runtime()
    await broadcaster.register(runtime, "broadcasting_agent", lambda: broadcaster("Broadcasting Agent"))
    await Recorder.register(runtime, "listener", inbox.recorder)
    await notebook.run_text("from hivewire import TypeSubscription")
    await runtime.add_subscription(notebook["TypeSubscription"]("default", "listener"))
    await runtime.start()

    await runtime.send_message(notebook["Message"]("go"), AgentId("broadcasting_agent", "its key"))
    await runtime.stop_when_idle()

    assert inbox.agents == [AgentId("listener", "its key")]
    assert inbox.messages == [notebook["Message"]("Publishing a message from broadcasting agent!")]


async def test_84_the_receiver_prints_both_messages_and_the_broadcaster_does_not_hear_itself(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await check_output(stage.notebook(AgentId=AgentId), capsys, 80, 82, 83, 84)


async def test_85_the_default_topic_in_a_handler_has_the_agents_key_as_its_source(stage: Stage) -> None:
    notebook = stage.notebook(AgentId=AgentId)
    await notebook.run(80, 82, 85)
    broadcaster, inbox, runtime = notebook["BroadcastingAgentDefaultTopic"], Inbox(), stage.runtime()
    await broadcaster.register(runtime, "broadcasting_agent", lambda: broadcaster("Broadcasting Agent"))
    await Recorder.register(runtime, "listener", inbox.recorder)
    await notebook.run_text("from hivewire import DefaultSubscription, DefaultTopicId")
    await runtime.add_subscription(notebook["DefaultSubscription"](agent_type="listener"))
    await runtime.start()

    # The source of what is published here comes from an event handler.
    await runtime.publish_message(notebook["Message"]("go"), notebook["DefaultTopicId"](source="its key"))
    await runtime.stop_when_idle()

    texts = ["Publishing a message from broadcasting agent!", "go"]
    assert sorted(each.message.content for each in inbox.received) == texts
    assert set(inbox.agents) == {AgentId("listener", "its key")}


async def test_86_the_default_topic_prints_the_same_two_lines(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    await check_output(stage.notebook(AgentId=AgentId), capsys, 80, 82, 83, 85, 86)


async def check_output(notebook: Notebook, capsys: pytest.CaptureFixture[str], *numbers: int) -> None:
    """Run examples and compare what the last one printed with the documented output."""
    *before, last = numbers
    await notebook.run(*before)
    assert capsys.readouterr().out == ""
    await notebook.run(last)
    assert capsys.readouterr().out == example(last).output
