"""Exceptions on the wire.

An error that cannot be sent whole is sent in part, and one that cannot be rebuilt becomes a `RemoteAgentError`: there
is always an error to raise at the caller. Nothing is imported because a message names it, and no code of an exception
class runs when it is rebuilt, save for the built-in ones.
"""

from __future__ import annotations

import asyncio
import base64
import builtins
import json
import traceback
from collections.abc import Sequence
from typing import Any

import hivewire.exceptions
from hivewire.exceptions import HivewireError, RemoteAgentError, registered_exception
from hivewire.model.relaying import is_relaying

__all__ = ["decode_error", "encode_error", "is_passed_on", "raised_by"]


def encode_error(exc: BaseException, *, agent: str, with_traceback: bool = True) -> bytes:
    """Write an exception that the agent raised as JSON of at most 32 KiB. Never fails.

    Arguments that JSON cannot hold are sent as their text, such fields are left out, what is too long is cut. One that
    a process only passes on stays as it came.
    """
    try:
        kept = vars(exc).get(_KEPT)
        if kept is not None:
            return bytes(kept)
        document = {
            **_document(exc, _VALUES_BYTES, depth=0),
            "agent": _clipped(agent, 512),
            "traceback": _traceback(exc) if with_traceback else "",
        }
        payload = json.dumps(document).encode()
        if len(payload) <= _MAX_BYTES:
            return payload
    except Exception:  # an exception class may break anything that is asked of it
        pass
    return json.dumps({**_names(type(exc)), "message": _text(exc), "agent": _clipped(agent, 512)}).encode()


def is_passed_on(exc: BaseException) -> bool:
    """Tell whether an error came from elsewhere, in a process that passes it on."""
    return _KEPT in vars(exc)


def decode_error(payload: bytes) -> BaseException:
    """Read an exception that `encode_error` wrote. Never fails.

    Built-in exceptions, those of Hivewire and registered ones come back as their classes with arguments, fields and
    notes; the others as `RemoteAgentError`, and so do those that would end a process. The remote traceback is a note.
    """
    try:
        document = json.loads(payload)
        error = _rebuilt(document)
        vars(error)[_RAISED_BY] = str(document.get("agent") or "")
    except Exception:
        error = RemoteAgentError("An error came back that cannot be read")
        vars(error)[_RAISED_BY] = ""
    if is_relaying.get():
        vars(error)[_KEPT] = payload
    return error


def raised_by(error: BaseException) -> str | None:
    """Return the agent that raised an exception which `decode_error` read, empty if nobody said; None for others."""
    agent = vars(error).get(_RAISED_BY)
    return agent if isinstance(agent, str) else None


_MAX_BYTES = 32 * 1024
_TRACEBACK_BYTES = 12 * 1024
_MESSAGE_BYTES = 3 * 1024
_VALUES_BYTES = 4 * 1024
_MAX_DEPTH = 8
_TAG = "$type"
_RAISED_BY = "__hivewire_raised_by__"
_KEPT = "__hivewire_encoded__"
_STAYS_HERE = ("__notes__", "not_handled", _RAISED_BY, _KEPT)
_ENDS_PROCESS = (KeyboardInterrupt, SystemExit, GeneratorExit)


def _document(exc: BaseException, budget: int, *, depth: int) -> dict[str, Any]:
    fields = {name: value for name, value in vars(exc).items() if isinstance(name, str) and name not in _STAYS_HERE}
    notes = [note for note in getattr(exc, "__notes__", ()) if isinstance(note, str)]
    return {
        **_names(type(exc)),
        "message": _clipped(_text(exc), min(budget, _MESSAGE_BYTES)),
        "args": _encoded_args(_args(exc), budget, depth=depth),
        "fields": _encoded_fields(fields, budget, depth=depth),
        "notes": _fitting(notes, budget // 2),
    }


def _names(cls: type) -> dict[str, str]:
    return {"module": _clipped(cls.__module__, 512), "qualname": _clipped(cls.__qualname__, 512)}


def _args(exc: BaseException) -> Sequence[Any]:
    if type(exc).__module__ == "builtins" and isinstance(exc, OSError):
        # Only here does the file name come along.
        return exc.__reduce__()[1]
    return exc.args


def _encoded_args(args: Sequence[Any], budget: int, *, depth: int) -> list[Any]:
    # Each is replaced rather than left out, for its place among the others has a meaning.
    share, left = budget // max(len(args), 1), budget
    encoded = []
    for arg in args:
        limit = max(share, left)
        try:
            value = _encoded(arg, limit, depth)
            size = _size(value)
        except (TypeError, ValueError, RecursionError):
            size = limit + 1
        if size > limit:
            value = _clipped(_text(arg), limit)
            size = _size(value)
        encoded.append(value)
        left -= size
    return encoded if _size(encoded) <= 2 * budget else []


def _encoded_fields(fields: dict[str, Any], budget: int, *, depth: int) -> dict[str, Any]:
    encoded = {}
    for name, field in fields.items():
        try:
            value = _encoded(field, budget, depth)
            size = _size({name: value})
        except (TypeError, ValueError, RecursionError):
            continue
        if size <= budget:
            encoded[name] = value
            budget -= size
    return encoded


def _fitting(notes: Sequence[str], budget: int) -> list[str]:
    fitting = []
    for note in notes:
        budget -= _size(note)
        if budget < 0:
            break
        fitting.append(note)
    return fitting


def _encoded(value: Any, budget: int, depth: int) -> Any:
    """Return the JSON value for a value: itself, or an object with a tag for what JSON has no form for."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if depth >= _MAX_DEPTH:
        raise ValueError("nested too deeply")
    depth += 1
    if isinstance(value, bytes):
        return {_TAG: "bytes", "value": base64.b64encode(value).decode()}
    if isinstance(value, BaseException):
        return {_TAG: "error", "value": _document(value, budget // 2, depth=depth)}
    if type(value) in (list, tuple):
        items = [_encoded(item, budget // len(value), depth) for item in value]
        return items if type(value) is list else {_TAG: "tuple", "value": items}
    if type(value) is dict and all(type(key) is str for key in value):
        members = {key: _encoded(member, budget, depth) for key, member in value.items()}
        return {_TAG: "dict", "value": members} if _TAG in members else members
    raise TypeError(f"no JSON for {type(value).__name__}")


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    tag = value.get(_TAG)
    if tag is None:
        return {key: _decoded(member) for key, member in value.items()}
    content = value["value"]
    if tag == "bytes":
        return base64.b64decode(content)
    if tag == "error":
        return _rebuilt(content)
    if tag == "tuple":
        return tuple(_decoded(item) for item in content)
    return {key: _decoded(member) for key, member in content.items()}


def _rebuilt(document: dict[str, Any]) -> BaseException:
    module, qualname = str(document["module"]), str(document["qualname"])
    remote_traceback = str(document.get("traceback") or "")
    error = _instance(_class_named(module, qualname), document)
    if error is None:
        error = RemoteAgentError(
            str(document.get("message") or ""),
            type_name=qualname if module == "builtins" else f"{module}.{qualname}",
            agent_id=document.get("agent"),
            remote_traceback=remote_traceback,
        )
    for note in document.get("notes") or ():
        error.add_note(str(note))
    if remote_traceback:
        error.add_note(f"Raised by {document.get('agent')}:\n{remote_traceback}")
    return error


def _class_named(module: str, qualname: str) -> type[BaseException] | None:
    cls: Any = None
    if module == "builtins":
        cls = vars(builtins).get(qualname)
    elif module == hivewire.exceptions.__name__:
        cls = vars(hivewire.exceptions).get(qualname)
        cls = cls if isinstance(cls, type) and issubclass(cls, HivewireError) else None
    elif (module, qualname) == (asyncio.CancelledError.__module__, asyncio.CancelledError.__qualname__):
        cls = asyncio.CancelledError
    else:
        cls = registered_exception(module, qualname)
    if not (isinstance(cls, type) and issubclass(cls, BaseException)) or issubclass(cls, _ENDS_PROCESS):
        return None
    return None if cls is BaseException else cls


def _instance(cls: type[BaseException] | None, document: dict[str, Any]) -> BaseException | None:
    if cls is None:
        return None
    try:
        args = tuple(_decoded(arg) for arg in document.get("args") or ())
        fields = {str(name): _decoded(field) for name, field in (document.get("fields") or {}).items()}
        if cls.__module__ == "builtins":
            error = cls(*args)
        else:
            error = cls.__new__(cls, *args)
            error.args = args
        vars(error).update(fields)
    except Exception:
        return None
    return error


def _traceback(exc: BaseException) -> str:
    report = traceback.TracebackException.from_exception(exc)
    # They travel on their own, and with each further process they would double.
    report.__notes__ = None
    return _clipped("".join(report.format()), _TRACEBACK_BYTES, keep_end=True)


def _text(value: object) -> str:
    try:
        return _clipped(str(value), _MESSAGE_BYTES)
    except Exception:
        return f"<{type(value).__name__}>"


def _clipped(text: str, limit: int, *, keep_end: bool = False) -> str:
    """Cut a text so that its JSON has at most so many bytes."""
    while (size := _size(text)) > limit:
        kept = len(text) * limit // size - 4
        if kept <= 0:
            return ""
        text = f"...{text[-kept:]}" if keep_end else f"{text[:kept]}..."
    return text


def _size(value: Any) -> int:
    return len(json.dumps(value))
