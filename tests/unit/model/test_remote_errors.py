import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivewire import exceptions
from hivewire.exceptions import (
    AgentNotFoundError,
    CantHandleException,
    DeadlineExceededError,
    HivewireError,
    MessageDroppedException,
    OverloadedError,
    RemoteAgentError,
    register_exception,
)
from hivewire.model.interventions import DropMessage
from hivewire.model.remote_errors import decode_error, encode_error, raised_by

LIMIT = 32 * 1024


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def through_the_wire(error: BaseException, agent: str = "worker/1") -> BaseException:
    payload = encode_error(raised(error), agent=agent)
    assert len(payload) <= LIMIT
    return decode_error(payload)


@register_exception
class ToolException(Exception):
    """Like a tool's error: fields, and nothing to show for itself."""

    def __init__(self, call_id: str, content: str, *, name: str) -> None:
        self.call_id = call_id
        self.content = content
        self.name = name


@register_exception
@dataclass
class DataError(Exception):
    code: int
    detail: Any


class Unregistered(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError(""),
        ValueError("text"),
        KeyError("boom"),
        KeyError(("a", 1)),
        RuntimeError("a", 2, None, 1.5, True, [1, "x"], {"k": (1, b"\xff")}),
        ZeroDivisionError("division by zero"),
        NotImplementedError(),
        StopAsyncIteration("end"),
        AssertionError("no"),
        TimeoutError(),
        RecursionError("deep"),
        UserWarning("careful"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        OSError("only text"),
        CantHandleException("cannot"),
        AgentNotFoundError("Recipient not found: a/b"),
        DeadlineExceededError("after 5 s"),
        asyncio.CancelledError(),
        asyncio.CancelledError("why"),
    ],
)
def test_row_11_and_12_errors_come_back_as_their_class_with_their_arguments(error):
    back = through_the_wire(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)


@pytest.mark.parametrize("name", sorted(set(exceptions.__all__) - {"register_exception", "registered_exception"}))
def test_row_11_every_error_of_hivewire_comes_back(name):
    cls = getattr(exceptions, name)
    assert issubclass(cls, HivewireError)
    back = through_the_wire(cls("text"))
    assert type(back) is cls
    assert str(back) == "text"


def test_an_os_error_keeps_number_and_file():
    back = through_the_wire(FileNotFoundError(2, "No such file", "photo.jpg"))
    assert isinstance(back, FileNotFoundError)
    assert (back.errno, back.strerror, back.filename) == (2, "No such file", "photo.jpg")


def test_fields_come_back():
    back = through_the_wire(MessageDroppedException("not approved"))
    assert back.reason == "not approved"
    drop = through_the_wire(DropMessage("policy"))
    assert (type(drop), drop.reason) == (DropMessage, "policy")
    error = ValueError("text")
    error.code = 7
    assert through_the_wire(error).code == 7


def test_row_12_a_registered_exception_keeps_its_fields_without_a_call_of_its_constructor(monkeypatch):
    error = ToolException("call-1", "failed", name="search")
    payload = encode_error(raised(error), agent="a/b")
    monkeypatch.setattr(ToolException, "__init__", None)
    back = decode_error(payload)
    assert type(back) is ToolException
    assert (back.call_id, back.content, back.name) == ("call-1", "failed", "search")
    assert through_the_wire(DataError(3, {"a": (1, b"x")})) == DataError(3, {"a": (1, b"x")})


def test_any_other_exception_becomes_a_remote_agent_error():
    back = through_the_wire(Unregistered("text"), agent="worker/7")
    assert type(back) is RemoteAgentError
    assert back.message == "text"
    assert back.type_name == f"{Unregistered.__module__}.Unregistered"
    assert back.agent_id == "worker/7"
    assert "Unregistered: text" in back.remote_traceback
    assert "in raised" in back.remote_traceback


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), BaseException("base")])
def test_what_would_end_the_process_is_only_reported(error):
    back = through_the_wire(error)
    assert type(back) is RemoteAgentError
    assert back.type_name == type(error).__name__


def test_a_remote_agent_error_that_is_handed_on_keeps_saying_who_raised_it():
    first = through_the_wire(Unregistered("text"), agent="worker/1")
    second = through_the_wire(first, agent="middle/1")
    assert type(second) is RemoteAgentError
    assert (second.agent_id, second.type_name, second.message) == (first.agent_id, first.type_name, "text")


def test_the_remote_traceback_and_all_notes_come_along():
    error = ValueError("text")
    error.add_note("while counting")
    back = through_the_wire(error, agent="worker/1")
    assert back.__notes__[0] == "while counting"
    assert back.__notes__[1].startswith("Raised by worker/1:\nTraceback")
    assert "in raised" in back.__notes__[1]
    assert back.__notes__[1].count("while counting") == 0


def test_a_group_comes_back_with_its_errors():
    group = ExceptionGroup("many", [ValueError("a"), ExceptionGroup("inner", [ToolException("1", "c", name="n")])])
    back = through_the_wire(group)
    assert type(back) is ExceptionGroup
    assert back.message == "many"
    assert type(back.exceptions[0]) is ValueError
    assert back.exceptions[1].exceptions[0].call_id == "1"
    remote = through_the_wire(ExceptionGroup("many", [Unregistered("u")])).exceptions[0]
    assert (type(remote), remote.message) == (RemoteAgentError, "u")


class Opaque:
    def __str__(self) -> str:
        return "opaque thing"


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def test_arguments_that_json_cannot_hold_become_text_and_such_fields_are_left_out():
    error = ValueError(Opaque(), {1: 2}, {Opaque()}, "kept")
    error.handle = Opaque()
    error.kept = 1
    back = through_the_wire(error)
    assert back.args[0] == "opaque thing"
    assert back.args[1] == "{1: 2}"
    assert back.args[3] == "kept"
    assert back.kept == 1
    assert not hasattr(back, "handle")


class HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class HostileDict(Exception):
    @property
    def __dict__(self) -> Any:
        raise RuntimeError("no fields")


def circular() -> ValueError:
    cycle: list[Any] = []
    cycle.append(cycle)
    error = ValueError(cycle)
    error.itself = error
    return error


@pytest.mark.parametrize(
    "error", [HostileError("x"), HostileDict("x"), ValueError(Hostile()), circular(), ValueError("\ud800")]
)
def test_an_error_that_resists_is_sent_in_part(error):
    assert isinstance(through_the_wire(error), ValueError | RemoteAgentError)


@pytest.mark.parametrize("text", ["x" * 1_000_000, "🐝" * 100_000, "\x00" * 100_000, "a" * 2000 + "ä" * 50_000])
def test_the_size_is_bounded(text):
    error = ValueError(text, text)
    error.field = text
    error.small = "kept"
    error.add_note(text)
    back = through_the_wire(error, agent=text)
    assert type(back) is ValueError
    assert back.args[0].startswith(text[:100])
    assert back.small == "kept"
    assert type(through_the_wire(ValueError(*range(20_000)))) is ValueError
    assert type(through_the_wire(ExceptionGroup("g", [ValueError(text)] * 50))) in (ExceptionGroup, RemoteAgentError)


def test_a_long_traceback_keeps_its_end():
    def dive(depth: int) -> None:
        if depth:
            exec("dive(depth - 1)", {"dive": dive, "depth": depth})
        raise Unregistered("bottom")

    with pytest.raises(Unregistered) as caught:
        dive(200)
    payload = encode_error(caught.value, agent="a/b")
    assert len(payload) <= LIMIT
    assert "Unregistered: bottom" in decode_error(payload).remote_traceback


def document(**changes: Any) -> bytes:
    return json.dumps(
        {"module": "builtins", "qualname": "ValueError", "args": ["a"], "message": "m", **changes}
    ).encode()


def test_nothing_is_imported_or_run_because_a_message_names_it():
    for module, qualname in (
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "print"),
        ("builtins", "int"),
        ("hivewire.exceptions", "register_exception"),
        ("hivewire.exceptions", "TypeVar"),
        ("antigravity", "Error"),
        ("json", "JSONDecodeError"),
    ):
        back = decode_error(document(module=module, qualname=qualname))
        assert type(back) is RemoteAgentError
        assert back.message == "m"


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"\xff", b"null", b"[]", b"{}", b'"text"', b"[" * 100_000,
        document(args=5), document(args=[{"$type": "bytes"}]), document(args=[{"$type": "tuple", "value": 1}]),
        document(fields=[1]), document(notes=3), document(qualname="UnicodeDecodeError"),
        document(qualname="ExceptionGroup", args=["g", ["text"]]), document(args=[{"$type": "error", "value": {}}]),
    ],
)  # fmt: skip
def test_garbage_is_an_error_of_its_own(payload):
    assert type(decode_error(payload)) is RemoteAgentError


@settings(deadline=None)
@given(st.binary(max_size=50) | st.recursive(st.none() | st.integers() | st.text(max_size=5), st.lists).map(
    lambda value: json.dumps({"module": value, "qualname": value, "args": value, "fields": value}).encode()
))  # fmt: skip
def test_any_bytes_make_an_error(payload):
    assert isinstance(decode_error(payload), Exception)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()) | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, max_size=2).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.just("$type"), inner, max_size=2)
    ),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.lists(values, max_size=3), st.dictionaries(st.from_regex(r"[a-z]+\Z"), values, max_size=2))
def test_arguments_and_fields_come_back_equal(args, fields):
    error = RuntimeError(*args)
    vars(error).update(fields)
    back = through_the_wire(error)
    assert back.args == error.args
    assert {name: value for name, value in vars(back).items() if not name.startswith("__")} == fields


def test_who_raised_an_error_is_known_where_it_came_to_and_nowhere_else():
    own = ValueError("x")
    assert raised_by(own) is None
    back = through_the_wire(own)
    assert raised_by(back) == "worker/1"
    # Raised again by an agent that got it from another one, it is its own.
    assert raised_by(decode_error(encode_error(back, agent="other/2"))) == "other/2"
    assert raised_by(decode_error(b"nonsense")) == ""


def test_that_a_message_was_not_handled_is_said_of_the_own_message_only():
    error = OverloadedError("no room")
    error.not_handled = True
    back = through_the_wire(error)
    assert isinstance(back, OverloadedError)
    assert not back.not_handled
