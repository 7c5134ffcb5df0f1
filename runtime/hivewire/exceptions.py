"""The errors of Hivewire, and which exception classes may be rebuilt from the wire.

A caller gets a result, one of these, or the exception that the handler itself raised. Where a standard exception says
the same thing (`LookupError`, `TimeoutError`, ...), the class derives from it too, so code that knows nothing of
Hivewire catches it.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = [
    "AccessDeniedError",
    "AgentNotFoundError",
    "BrokerUnavailableError",
    "CantHandleException",
    "DeadlineExceededError",
    "HivewireError",
    "MessageDroppedException",
    "MessageTooLargeError",
    "NotAccessibleError",
    "OverloadedError",
    "RemoteAgentError",
    "RuntimeStateError",
    "ScheduleNotFoundError",
    "SerializationError",
    "StateConflictError",
    "StreamNotFoundError",
    "SubscriptionNotFoundError",
    "UndeliverableException",
    "UnsupportedFormatError",
    "WorkerLostError",
    "register_exception",
    "registered_exception",
]

ExceptionT = TypeVar("ExceptionT", bound=Exception)


class HivewireError(Exception):
    """Root of every error that Hivewire itself raises."""


class CantHandleException(HivewireError):
    """A handler, a subscription or a closure refuses what it was given."""


class UndeliverableException(HivewireError):
    """The message could not be delivered. Subclasses say why.

    `not_handled` is True on the error of a direct message that certainly reached no handler, so that it may be sent
    again. Where it is False that is not known. It is about the caller's own message, so it never comes from a handler.
    """

    not_handled: bool = False


class MessageDroppedException(HivewireError):
    """An intervention handler dropped a message or a response."""

    def __init__(self, reason: str | None = None) -> None:
        super().__init__("The message was dropped by an intervention handler" if reason is None else reason)
        self.reason = reason


class NotAccessibleError(HivewireError):
    """The agent instance lives in another process."""


class AgentNotFoundError(UndeliverableException, LookupError):
    """No agent of that type or id exists. The text starts with "Recipient not found"."""

    def __init__(self, message: str = "Recipient not found") -> None:
        super().__init__(message)


class StreamNotFoundError(UndeliverableException, LookupError):
    """No resumable stream has that id, or what is asked of it is no longer kept."""


class DeadlineExceededError(UndeliverableException, TimeoutError):
    """A deadline passed. The text says which one, and whether the call had started."""


class WorkerLostError(UndeliverableException, ConnectionError):
    """The worker vanished after it accepted the message: whether the message was handled is unknown."""


class BrokerUnavailableError(UndeliverableException, ConnectionError):
    """There is no connection to NATS."""


class MessageTooLargeError(UndeliverableException, ValueError):
    """Payload and headers together exceed the broker's limit. The text says both sizes."""


class OverloadedError(UndeliverableException):
    """The worker has no room for the message."""


class AccessDeniedError(UndeliverableException, PermissionError):
    """The broker refused the subject."""


class SerializationError(HivewireError, ValueError):
    """There is no serializer for a message, or it failed to encode or decode one.

    `message_to` is the agent, as `type/key`, whose direct message could not be decoded by the process that hosts it: it
    was not handled. None: it is about something else.
    """

    message_to: str | None = None


class StateConflictError(HivewireError):
    """Another activation of the agent wrote newer state."""


class UnsupportedFormatError(HivewireError, ValueError):
    """A newer version of Hivewire wrote a record or a message. It is left as it is."""


class SubscriptionNotFoundError(HivewireError, LookupError, ValueError):
    """No subscription has that id."""


class ScheduleNotFoundError(HivewireError, LookupError):
    """No schedule has that id, or it has fired for the last time."""


class RuntimeStateError(HivewireError, RuntimeError):
    """The runtime is not in the state that the call needs, or it stopped while the call waited."""


class RemoteAgentError(HivewireError):
    """An exception of another process that is not rebuilt as its own class.

    `type_name` is the dotted path of that class, `message` its text, `agent_id` the agent that raised it and
    `remote_traceback` the traceback as text; what is not known is empty or None.
    """

    def __init__(
        self,
        message: str = "",
        *,
        type_name: str = "",
        agent_id: str | None = None,
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.type_name = type_name
        self.agent_id = agent_id
        self.remote_traceback = remote_traceback

    def __str__(self) -> str:
        who = f" (raised by {self.agent_id})" if self.agent_id else ""
        what = ": ".join(part for part in (self.type_name, self.message) if part)
        return f"{what or 'remote error'}{who}"


_registered: dict[tuple[str, str], type[Exception]] = {}


def register_exception(cls: type[ExceptionT]) -> type[ExceptionT]:
    """Allow an exception class to be rebuilt from an error that another process sent. Usable as a decorator.

    Both processes must have it registered under the same module and name. It is rebuilt without a call of its
    constructor: arguments and fields are set as they were.

    Raises:
        TypeError: the argument is no subclass of `Exception`.
    """
    if not (isinstance(cls, type) and issubclass(cls, Exception)):
        raise TypeError(f"Only subclasses of Exception can be registered, not {cls!r}")
    _registered[cls.__module__, cls.__qualname__] = cls
    return cls


def registered_exception(module: str, qualname: str) -> type[Exception] | None:
    """Return the class that was registered under this module and qualified name, if any."""
    return _registered.get((module, qualname))
