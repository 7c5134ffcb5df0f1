"""What the errors of direct messages are over HTTP."""

import asyncio

import pytest

from hivewire import (
    AccessDeniedError,
    AgentId,
    AgentNotFoundError,
    BrokerUnavailableError,
    DeadlineExceededError,
    MessageTooLargeError,
    OverloadedError,
    RemoteAgentError,
    RuntimeStateError,
    SerializationError,
    StreamNotFoundError,
    UndeliverableException,
    WorkerLostError,
)
from hivewire.model.remote_errors import decode_error, encode_error
from hivewire_gateway.call_errors import problem_of

AGENT = AgentId("shop", "paris")


def not_handled(error):
    error.not_handled = True
    return error


def remote(error, agent="shop/paris"):
    return decode_error(encode_error(error, agent=agent))


@pytest.mark.parametrize(
    ("error", "status", "advice"),
    [
        (not_handled(AgentNotFoundError("Recipient not found: x")), 404, ""),
        (StreamNotFoundError("gone"), 404, ""),
        (MessageTooLargeError("too large"), 413, ""),
        (not_handled(OverloadedError("no room")), 429, "may be sent again"),
        (DeadlineExceededError("late"), 504, "may have been handled"),
        (not_handled(DeadlineExceededError("nobody took it")), 504, "may be sent again"),
        (WorkerLostError("nats://secret"), 502, "may have been handled"),
        (BrokerUnavailableError("nats://secret"), 502, "may have been handled"),
        (not_handled(BrokerUnavailableError("nats://secret")), 503, "may be sent again"),
        (RuntimeStateError("stopped"), 502, "may have been handled"),
        (AccessDeniedError("nats://secret"), 403, ""),
        (SerializationError("unreadable"), 502, ""),
        (UndeliverableException("full"), 503, ""),
        (ValueError("odd"), 400, ""),
        (RuntimeError("bug"), 500, ""),
    ],
)
def test_an_error_on_the_way_says_whether_to_send_again(error, status, advice):
    problem = problem_of(error, AGENT)
    assert problem.status == status
    assert advice in problem.detail
    assert "nats://" not in problem.detail


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (AgentNotFoundError("of another agent"), 500, "AgentNotFoundError"),
        (OverloadedError("another agent"), 500, "OverloadedError"),
        (MessageTooLargeError("the reply"), 500, "MessageTooLargeError"),
        (SerializationError("of another message"), 500, "SerializationError"),
        (WorkerLostError("stopped"), 502, "WorkerLostError"),
        (DeadlineExceededError("late"), 504, "DeadlineExceededError"),
        (KeyError("x"), 500, "KeyError"),
        (asyncio.CancelledError(), 500, "CancelledError"),
    ],
)
def test_what_the_handler_raised_is_not_taken_for_what_happened_on_the_way(error, status, error_type):
    problem = problem_of(remote(error), AGENT)
    assert (problem.status, problem.members["error_type"]) == (status, error_type)


def test_only_the_message_itself_is_the_mistake_of_the_client():
    error = SerializationError("Cannot decode")
    error.message_to = "shop/paris"
    assert problem_of(remote(error), AGENT).status == 422
    assert problem_of(remote(error), AgentId("shop", "rome")).status == 500


def test_classes_that_are_not_known_here_are_named_with_their_text_and_no_traceback():
    error = RemoteAgentError("no tea", type_name="shop.OutOfStock", remote_traceback="Traceback")
    problem = problem_of(error, AGENT)
    assert (problem.status, problem.detail, problem.members) == (500, "no tea", {"error_type": "shop.OutOfStock"})
