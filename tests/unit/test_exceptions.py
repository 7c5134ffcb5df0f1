import pickle

import pytest

from hivewire import exceptions
from hivewire.exceptions import (
    AccessDeniedError,
    AgentNotFoundError,
    BrokerUnavailableError,
    CantHandleException,
    DeadlineExceededError,
    HivewireError,
    MessageDroppedException,
    MessageTooLargeError,
    NotAccessibleError,
    OverloadedError,
    RemoteAgentError,
    RuntimeStateError,
    ScheduleNotFoundError,
    SerializationError,
    StateConflictError,
    SubscriptionNotFoundError,
    UndeliverableException,
    WorkerLostError,
    register_exception,
    registered_exception,
)


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (CantHandleException, ()),
        (UndeliverableException, ()),
        (MessageDroppedException, ()),
        (NotAccessibleError, ()),
        (AgentNotFoundError, (UndeliverableException, LookupError)),
        (DeadlineExceededError, (UndeliverableException, TimeoutError)),
        (WorkerLostError, (UndeliverableException, ConnectionError)),
        (BrokerUnavailableError, (UndeliverableException, ConnectionError)),
        (MessageTooLargeError, (UndeliverableException, ValueError)),
        (OverloadedError, (UndeliverableException,)),
        (AccessDeniedError, (UndeliverableException, PermissionError)),
        (SerializationError, (ValueError,)),
        (StateConflictError, ()),
        (SubscriptionNotFoundError, (LookupError, ValueError)),
        (RuntimeStateError, (RuntimeError,)),
        (ScheduleNotFoundError, (LookupError,)),
        (RemoteAgentError, ()),
    ],
)
def test_every_error_is_a_hivewire_error_and_what_the_standard_library_calls_it(cls, bases):
    assert issubclass(cls, (HivewireError,))
    for base in bases:
        assert issubclass(cls, base)
    assert str(cls("what happened")) == "what happened"


def test_every_error_class_is_exported():
    defined = {
        name for name, value in vars(exceptions).items() if isinstance(value, type) and issubclass(value, Exception)
    }
    assert defined | {"register_exception", "registered_exception"} == set(exceptions.__all__)


def test_a_dropped_message_tells_its_reason():
    assert MessageDroppedException("not approved").reason == "not approved"
    assert str(MessageDroppedException("not approved")) == "not approved"
    assert MessageDroppedException().reason is None
    assert "dropped" in str(MessageDroppedException())


def test_an_unknown_recipient_has_a_text_of_its_own():
    assert str(AgentNotFoundError()).startswith("Recipient not found")


def test_a_remote_error_tells_class_text_and_agent():
    error = RemoteAgentError("too hot", type_name="oven.Overheated", agent_id="oven/1", remote_traceback="Traceback")
    assert (error.message, error.type_name) == ("too hot", "oven.Overheated")
    assert (error.agent_id, error.remote_traceback) == ("oven/1", "Traceback")
    assert str(error) == "oven.Overheated: too hot (raised by oven/1)"
    assert str(RemoteAgentError()) == "remote error"


def test_errors_survive_pickling_for_process_pools():
    error = pickle.loads(pickle.dumps(MessageDroppedException("why")))
    assert (type(error), error.reason) == (MessageDroppedException, "why")
    remote = pickle.loads(pickle.dumps(RemoteAgentError("m", type_name="a.B", agent_id="a/b")))
    assert (remote.message, remote.type_name, remote.agent_id) == ("m", "a.B", "a/b")


def test_a_registered_exception_is_found_by_module_and_name_only():
    @register_exception
    class Overheated(Exception):
        pass

    assert registered_exception(Overheated.__module__, Overheated.__qualname__) is Overheated
    assert registered_exception(Overheated.__module__, "Overheated") is None
    assert registered_exception("builtins", "ValueError") is None


@pytest.mark.parametrize("wrong", [int, KeyboardInterrupt, ValueError("instance"), "name", None])
def test_only_exception_classes_can_be_registered(wrong):
    with pytest.raises(TypeError):
        register_exception(wrong)
