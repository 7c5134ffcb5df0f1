"""What the errors of direct messages are over HTTP.

What a handler raised is told apart from what kept the message from its handler: a client may repeat the second without
a thought. `docs/guides/calling-agents-over-http.md` has the table.
"""

from __future__ import annotations

import asyncio

from hivewire import (
    AccessDeniedError,
    AgentId,
    AgentNotFoundError,
    BrokerUnavailableError,
    CantHandleException,
    DeadlineExceededError,
    MessageDroppedException,
    MessageTooLargeError,
    OverloadedError,
    RemoteAgentError,
    RuntimeStateError,
    SerializationError,
    StateConflictError,
    StreamNotFoundError,
    UndeliverableException,
    WorkerLostError,
)
from hivewire.relay import raised_by
from hivewire_gateway.problems import Problem

_NOT_HANDLED = "It was not handled, so it may be sent again."
_UNKNOWN = "It may have been handled: before you send it again, find out, unless handling it twice does no harm."


def problem_of(error: BaseException, agent: AgentId | None = None) -> Problem:
    """Return what a client is told of an error that `send_message` raised, or that came out of a stream. `agent` is the
    recipient, as far as it is known."""
    if raised_by(error):
        return _raised_by_agent(error, agent)
    whom = "The agent" if agent is None else f"Agent {agent}"
    advice = _NOT_HANDLED if isinstance(error, UndeliverableException) and error.not_handled else _UNKNOWN
    match error:
        case AgentNotFoundError() | StreamNotFoundError():
            return Problem(404, f"{error}.")
        case MessageTooLargeError():
            return Problem(413, f"{error}.")
        case OverloadedError():
            return Problem(429, f"{whom} had no room for the message. {advice}", headers={"Retry-After": "1"})
        case DeadlineExceededError():
            return Problem(504, f"{whom} did not answer within the deadline. {advice}")
        case BrokerUnavailableError() if error.not_handled:
            detail = f"The gateway has no connection to its broker. {advice}"
            return Problem(503, detail, headers={"Retry-After": "2"})
        case BrokerUnavailableError():
            return Problem(502, f"The gateway lost the connection to its broker. {advice}", error_type=_name(error))
        case WorkerLostError():
            return Problem(502, f"{whom} was lost while it had the message. {advice}", error_type=_name(error))
        case RuntimeStateError():
            return Problem(502, f"The gateway stops. {advice}", error_type=_name(error))
        case AccessDeniedError():
            return Problem(403, "The gateway's own credentials do not let it do this.")
        case SerializationError():
            return Problem(502, f"The answer can't be passed on: {error}.", error_type=_name(error))
        case UndeliverableException():
            return Problem(503, f"{error}.", headers={"Retry-After": "5"})
        case ValueError():
            return Problem(400, f"{error}.")
    return _failed(error)


def _raised_by_agent(error: BaseException, agent: AgentId | None) -> Problem:
    match error:
        case SerializationError() if agent is not None and error.message_to == str(agent):
            return Problem(422, f"{error}.", error_type=_name(error))
        case CantHandleException():
            return Problem(422, f"{error}.", error_type=_name(error))
        case MessageDroppedException():
            return Problem(403, f"{error}.", error_type=_name(error))
        case StateConflictError():
            detail = f"{error}. The message had no effect on the agent's state, so it may be sent again."
            return Problem(409, detail, error_type=_name(error))
        case WorkerLostError():
            return Problem(502, f"{error}. {_UNKNOWN}", error_type=_name(error))
        case DeadlineExceededError():
            return Problem(504, f"{error}.", error_type=_name(error))
    return _failed(error)


def _failed(error: BaseException) -> Problem:
    """The text goes to the client, as it does to callers without HTTP; the traceback stays here."""
    if isinstance(error, RemoteAgentError):
        return Problem(500, error.message or "The handler failed.", error_type=error.type_name or "RemoteAgentError")
    if isinstance(error, asyncio.CancelledError):
        return Problem(500, str(error) or "The handler was cancelled.", error_type="CancelledError")
    return Problem(500, str(error) or f"The handler raised {_name(error)}.", error_type=_name(error))


def _name(error: BaseException) -> str:
    return type(error).__name__
