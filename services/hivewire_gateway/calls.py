"""Direct messages: `POST /v1/agents/{type}/{key}`, answered at once or as a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hivewire import AgentId
from hivewire.relay import Encoded
from hivewire_gateway.agent_streams import AgentStreams
from hivewire_gateway.bodies import read_body
from hivewire_gateway.call_errors import problem_of
from hivewire_gateway.departures import ClientLeft, while_client_waits
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.message_bodies import (
    JSON,
    MESSAGE_TYPE_HEADER,
    message_as_json,
    message_of,
    seconds_of,
    type_header,
)
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.principals import principal_of
from hivewire_gateway.sse import accepts_event_stream

_GONE = 499
"""What nobody reads any more; only logs and metrics see it."""


class Calls:
    """Sends messages to agents and answers with what they reply."""

    def __init__(self, gateway: Gateway) -> None:
        self._relay = gateway.relay
        self._settings = gateway.settings
        self._streams = AgentStreams(gateway)

    def routes(self) -> list[Route]:
        return [
            Route("/v1/agents/{type}/{key:path}", self.post_message, methods=["POST"]),
            *self._streams.routes(),
        ]

    async def post_message(self, request: Request) -> Response:
        """Send one message."""
        agent = _agent_of(request)
        principal_of(request).check_send(agent)
        message = message_of(request.headers, await read_body(request, max_bytes=self._settings.max_body_bytes))
        self._check_handled(agent, message)
        if accepts_event_stream(request.headers.get("accept", "")):
            return self._streams.open(request, message, agent)
        limits = self._settings.calls
        timeout = seconds_of(request.headers, default=limits.timeout_s, limit=limits.max_timeout_s)
        try:
            reply = await while_client_waits(request, self._relay.send_message(message, agent, timeout=timeout))
        except ClientLeft:
            return Response(status_code=_GONE)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and _is_being_cancelled():
                raise
            raise problem_of(error, agent) from error
        return _answer(reply)

    def _check_handled(self, agent: AgentId, message: Encoded) -> None:
        """Refuse what its agent would pass over, as nobody would see why nothing comes back."""
        handled = self._relay.messages_of(agent.type)
        if handled is None or handled.handles_directly(message.type_name):
            return
        names = ", ".join(each.form.name for each in handled.messages if each.kind != "event") or "none"
        detail = (
            f"Agents of type {agent.type} handle no direct messages of type {message.type_name}, but these: {names}."
        )
        raise Problem(422, f"{detail} Name the type of the message by the header {MESSAGE_TYPE_HEADER}.")


def _agent_of(request: Request) -> AgentId:
    try:
        return AgentId(request.path_params["type"], request.path_params["key"])
    except ValueError as error:
        raise Problem(404, f"There can't be such an agent: {error}.") from None


def _answer(reply: Encoded | Sequence[Encoded | None] | None) -> Response:
    if reply is None:
        return Response(status_code=204, headers=type_header(Encoded("NoneType", JSON, b"")))
    if isinstance(reply, Encoded):
        return Response(reply.payload, headers={**type_header(reply), "Content-Type": reply.content_type})
    # What a handler yields, for a client that wants it all at once.
    chunks = f"[{','.join(map(message_as_json, reply))}]"
    return Response(chunks.encode(), headers=type_header(Encoded("list", JSON, b"")), media_type=JSON)


def _is_being_cancelled() -> bool:
    """Tell whether this request's own task was cancelled; else the error is that of a handler."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
