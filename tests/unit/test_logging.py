import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from hivewire.logging import (
    EVENT_LOGGER_NAME,
    ROOT_LOGGER_NAME,
    TRACE_LOGGER_NAME,
    AgentConstructionExceptionEvent,
    DeliveryStage,
    LLMCallEvent,
    LLMStreamEndEvent,
    LLMStreamStartEvent,
    MessageDroppedEvent,
    MessageEvent,
    MessageHandlerExceptionEvent,
    MessageKind,
    ToolCallEvent,
    current_agent_id,
)


@pytest.fixture
def running_handler() -> Any:
    token = current_agent_id.set("worker/default")
    yield
    current_agent_id.reset(token)


def test_the_logger_names_are_those_that_existing_set_ups_configure() -> None:
    assert (ROOT_LOGGER_NAME, EVENT_LOGGER_NAME, TRACE_LOGGER_NAME) == (
        "autogen_core",
        "autogen_core.events",
        "autogen_core.trace",
    )


def test_a_level_set_on_the_root_name_holds_for_events() -> None:
    root = logging.getLogger(ROOT_LOGGER_NAME)
    before = root.level
    try:
        root.setLevel(logging.INFO)
        assert logging.getLogger(EVENT_LOGGER_NAME).isEnabledFor(logging.INFO)
        root.setLevel(logging.ERROR)
        assert not logging.getLogger(EVENT_LOGGER_NAME).isEnabledFor(logging.INFO)
    finally:
        root.setLevel(before)


@pytest.mark.usefixtures("running_handler")
def test_a_model_call_is_logged_with_its_usage_and_the_running_agent() -> None:
    event = LLMCallEvent(
        messages=[{"role": "user"}], response={"text": "hi"}, prompt_tokens=3, completion_tokens=4, model="m"
    )
    assert (event.prompt_tokens, event.completion_tokens) == (3, 4)
    assert json.loads(str(event)) == {
        "type": "LLMCall",
        "messages": [{"role": "user"}],
        "response": {"text": "hi"},
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "agent_id": "worker/default",
        "model": "m",
    }


@pytest.mark.usefixtures("running_handler")
def test_both_ends_of_a_model_stream_are_logged() -> None:
    start = LLMStreamStartEvent(messages=[], attempt=1)
    end = LLMStreamEndEvent(response={}, prompt_tokens=1, completion_tokens=2)
    assert json.loads(str(start)) == {
        "type": "LLMStreamStart",
        "messages": [],
        "agent_id": "worker/default",
        "attempt": 1,
    }
    assert json.loads(str(end)) == {
        "type": "LLMStreamEnd",
        "response": {},
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "agent_id": "worker/default",
    }
    assert (end.prompt_tokens, end.completion_tokens) == (1, 2)


def test_outside_of_handlers_a_tool_call_has_no_agent() -> None:
    event = ToolCallEvent(tool_name="add", arguments={"a": 1}, result="1")
    assert json.loads(str(event)) == {
        "type": "ToolCall",
        "tool_name": "add",
        "arguments": {"a": 1},
        "result": "1",
        "agent_id": None,
    }


@pytest.mark.usefixtures("running_handler")
def test_a_tool_call_names_the_running_agent() -> None:
    assert ToolCallEvent(tool_name="add", arguments={}, result="").kwargs["agent_id"] == "worker/default"


def test_a_message_event_prints_its_enums_by_name() -> None:
    event = MessageEvent(
        payload="{}", sender=None, receiver="a/b", kind=MessageKind.DIRECT, delivery_stage=DeliveryStage.DELIVER, size=2
    )
    assert json.loads(str(event)) == {
        "type": "Message",
        "payload": "{}",
        "sender": None,
        "receiver": "a/b",
        "kind": "MessageKind.DIRECT",
        "delivery_stage": "DeliveryStage.DELIVER",
        "size": 2,
    }


def test_the_kinds_and_stages_are_complete() -> None:
    assert [kind.name for kind in MessageKind] == ["DIRECT", "PUBLISH", "RESPOND"]
    assert [stage.name for stage in DeliveryStage] == ["SEND", "DELIVER"]


def test_a_dropped_message_carries_the_reason_it_is_given() -> None:
    event = MessageDroppedEvent(payload="", sender="a/b", receiver=None, kind=MessageKind.PUBLISH, reason="policy")
    assert json.loads(str(event)) == {
        "type": "MessageDropped",
        "payload": "",
        "sender": "a/b",
        "receiver": None,
        "kind": "MessageKind.PUBLISH",
        "reason": "policy",
    }


def test_exceptions_of_handlers_and_factories_are_logged_as_text() -> None:
    handler = MessageHandlerExceptionEvent(payload="", handling_agent="a/b", exception=KeyError("k"))
    factory = AgentConstructionExceptionEvent(agent_id="a/b", exception=RuntimeError("no"))
    assert json.loads(str(handler)) == {
        "type": "MessageHandlerException",
        "payload": "",
        "handling_agent": "a/b",
        "exception": "'k'",
    }
    assert json.loads(str(factory)) == {"type": "AgentConstructionException", "agent_id": "a/b", "exception": "no"}


def test_an_exception_without_text_still_names_itself() -> None:
    event = AgentConstructionExceptionEvent(agent_id="a/b", exception=ValueError())
    assert event.kwargs["exception"] == "ValueError()"


def test_a_further_keyword_does_not_replace_an_events_own_field() -> None:
    event = LLMStreamStartEvent(messages=[], type="forged", agent_id="forged")
    assert (event.kwargs["type"], event.kwargs["agent_id"]) == ("LLMStreamStart", None)


def test_a_value_that_json_has_no_form_for_is_printed_as_text() -> None:
    event = ToolCallEvent(tool_name="t", arguments={"when": {1}}, result="")
    assert json.loads(str(event))["arguments"] == {"when": "{1}"}


def test_all_loggers_are_below_hivewire_or_autogens_own() -> None:
    root = Path(__file__).parents[2]
    sources = [file for folder in ("runtime", "services") for file in (root / folder).rglob("*.py")]
    named = {found for file in sources for found in re.findall(r"getLogger\(([^)]*)\)", file.read_text())}
    # `name` stands for the loggers of the OpenTelemetry SDK, which are told to be quiet, as is that of kopf.
    allowed = {"", "__name__", "name", "EVENT_LOGGER_NAME", "ROOT_LOGGER_NAME", '"kopf._core.reactor.running"'}
    assert {name for name in named if not name.startswith(('"hivewire"', '"hivewire.'))} == allowed
    # What AutoGen logs there, it logs here, too.
    of_autogen = {file.name for file in sources if "getLogger(ROOT_LOGGER_NAME)" in file.read_text()}
    assert of_autogen == {"handlers.py", "routed.py"}
