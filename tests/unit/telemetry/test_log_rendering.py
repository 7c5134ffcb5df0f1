"""Log records become lines, whatever they hold."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from hivewire.logging import LLMCallEvent, MessageHandlerExceptionEvent, current_agent_id, lines_about
from hivewire.telemetry.log_rendering import line_handler

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class Message:
    agent: object = "greeter/ada"
    message_id: str = "m-1"
    trace: Mapping[str, str] = field(default_factory=dict)


class Silent:
    """Has no text."""

    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


def record(text: object, *arguments: object, **more: Any) -> logging.LogRecord:
    error = more.pop("error", None)
    made = logging.LogRecord("shop", logging.WARNING, "shop.py", 1, text, arguments, None)  # type: ignore[arg-type]
    made.exc_info = None if error is None else (type(error), error, error.__traceback__)
    made.__dict__.update(more)
    return made


def line(made: logging.LogRecord) -> dict[str, Any]:
    text = line_handler(as_text=False).format(made)
    assert text.isascii() and text.isprintable(), text
    read: dict[str, Any] = json.loads(text, parse_constant=pytest.fail)
    return read


def shown(made: logging.LogRecord) -> str:
    return line_handler(as_text=True).format(made)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Silent),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text() | st.integers() | st.tuples(), inner),
    max_leaves=5,
)


@given(st.text() | st.builds(Silent), st.lists(anything, max_size=2), st.dictionaries(st.text(), anything))
def test_whatever_a_record_holds_is_one_object_on_one_line(
    text: object, some: list[Any], fields: dict[str, Any]
) -> None:
    added = {name: value for name, value in fields.items() if name not in vars(record(""))}
    made = record(text, *some, **added)
    read = line(made)
    assert (read["level"], read["logger"]) == ("warning", "shop")
    assert isinstance(read["event"], str)
    shown(record(text, *some, **added))


def test_a_line_begins_with_when_what_and_where() -> None:
    read = line(record("%s of %d\nlines\x1b[2J\udc80", "two", 2, created=1_767_355_200.5))
    assert list(read.items()) == [
        ("timestamp", "2026-01-02T12:00:00.500+00:00"),
        ("level", "warning"),
        ("logger", "shop"),
        ("event", "two of 2\nlines\x1b[2J\udc80"),
    ]


def test_arguments_that_do_not_fit_are_left_out() -> None:
    assert line(record("%d melons", "secret"))["event"] == "%d melons (its arguments can't be shown: TypeError)"


def test_fields_of_a_record_are_fields_and_never_hide_what_a_line_says() -> None:
    fields = {"status": 200, "event": "mine", "level": 7, "agent": "other", "ratio": math.nan}
    with lines_about(Message()):
        read = line(record("done", **fields))
    assert (read["event"], read["level"], read["agent"]) == ("done", "warning", "greeter/ada")
    assert (read["event_"], read["level_"], read["agent_"]) == ("mine", 7, "other")
    assert (read["status"], read["ratio"]) == (200, "nan")


def test_a_line_names_the_message_that_it_is_about_and_its_trace() -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"}
    with lines_about(Message(trace=headers)):
        read = line(record("x"))
    assert {"agent": "greeter/ada", "message_id": "m-1", "trace_id": TRACE_ID}.items() <= read.items()
    assert "span_id" not in read
    assert line(record("x")).keys() == {"timestamp", "level", "logger", "event"}


@pytest.mark.parametrize("traceparent", ["", "00-x-y-01", f"00-{'0' * 32}-b7ad6b7169203331-01", "secret"])
def test_what_is_no_trace_is_not_named(traceparent: str) -> None:
    with lines_about(Message(trace={"traceparent": traceparent})):
        assert line(record("x")).keys() == {"timestamp", "level", "logger", "event", "agent", "message_id"}


def test_the_span_that_is_open_is_named() -> None:
    tracer = TracerProvider().get_tracer("t")
    message = Message(trace={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"})
    with lines_about(message), tracer.start_as_current_span("s") as span:
        read = line(record("x"))
    context = span.get_span_context()
    assert read["trace_id"] == trace.format_trace_id(context.trace_id) != TRACE_ID
    assert read["span_id"] == trace.format_span_id(context.span_id)


def test_outside_of_messages_the_agent_alone_is_named() -> None:
    token = current_agent_id.set("greeter/ada")
    try:
        assert line(record("x"))["agent"] == "greeter/ada"
    finally:
        current_agent_id.reset(token)


def test_structured_events_are_fields_and_not_json_in_json() -> None:
    event = LLMCallEvent(messages=[{"a": 1}], response={"b": [2]}, prompt_tokens=3, completion_tokens=4, level="x")
    read = line(record(event))
    assert (read["event"], read["type"], read["level"], read["level_"]) == ("LLMCall", "LLMCall", "warning", "x")
    assert (read["messages"], read["response"], read["prompt_tokens"]) == ([{"a": 1}], {"b": [2]}, 3)


def test_a_traceback_is_one_field_and_keeps_the_one_that_an_event_has() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        read = line(record("failed", error=error))
        both = line(
            record(MessageHandlerExceptionEvent(payload="T", handling_agent="a/k", exception=error), error=error)
        )
    assert read["exception"].startswith("Traceback (most recent call last):\n")
    assert read["exception"].endswith("ValueError: two\nlines")
    assert both["exception"] == read["exception"] and both["exception_"] == "two\nlines"


def test_on_a_terminal_it_is_text_without_control_characters() -> None:
    try:
        secret = "melon"
        raise ValueError(f"{len(secret)} letters")
    except ValueError as error:
        with lines_about(Message(agent="greeter/\x1b[2Ja")):
            text = shown(record("fails\x1b[2J", error=error, status=3))
    first, *others = text.splitlines()
    assert "[warning  ] fails\\x1b[2J [shop]" in first
    assert "agent=" in first and "message_id=m-1" in first and "status=3" in first and "\x1b" not in text
    assert others[0] == "Traceback (most recent call last):" and others[-1] == "ValueError: 5 letters"
    # The values of variables are contents of messages.
    assert "melon" not in text


@pytest.fixture
def bound() -> Iterator[None]:
    with structlog.contextvars.bound_contextvars(request="r-1"):
        yield


def test_what_is_bound_to_the_context_is_in_lines_of_the_standard_library(bound: None) -> None:
    assert line(record("x"))["request"] == "r-1"
