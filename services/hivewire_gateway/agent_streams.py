"""Streamed answers as server-sent events, and resumable ones under `/v1/streams/{id}`."""

from __future__ import annotations

import asyncio
import re

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hivewire import AgentId, MessageStream
from hivewire.relay import Encoded
from hivewire_gateway.call_errors import problem_of
from hivewire_gateway.event_streams import EventStreamResponse
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.message_bodies import compact_json, message_as_json, seconds_of
from hivewire_gateway.outlets import Outlet
from hivewire_gateway.problems import Problem
from hivewire_gateway.sse import MEDIA_TYPE, server_sent_event

STREAM_ID_HEADER = "Hivewire-Stream-Id"

_AHEAD = 16
"""Chunks that are taken before their client has them. Above that the handler is slowed down."""

_ENDED = ".end"
_is_stream_id = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_is_chunk_id = re.compile(r"([0-9]{1,15})(\.end)?").fullmatch


class AgentStreams:
    """Streams what handlers yield. The id of each event is the number of its chunk."""

    def __init__(self, gateway: Gateway) -> None:
        self._relay = gateway.relay
        self._open_streams = gateway.open_streams
        self._limits = gateway.settings.calls
        self._settings = gateway.settings.event_streams

    def routes(self) -> list[Route]:
        return [
            Route("/v1/streams/{id}", self.get_stream, methods=["GET"]),
            Route("/v1/streams/{id}", self.delete_stream, methods=["DELETE"]),
        ]

    def open(self, request: Request, message: Encoded, agent: AgentId) -> Response:
        """Send a message and stream the answer."""
        resumable = is_true(request, "resumable")
        limits = self._limits
        timeout = seconds_of(request.headers, default=limits.stream_timeout_s, limit=limits.max_stream_timeout_s)
        stream = self._relay.stream_message(message, agent, timeout=timeout, resumable=resumable)
        return self._response(stream, agent)

    async def get_stream(self, request: Request) -> Response:
        """Read a resumable stream after the last chunk that the client has."""
        stream_id = _stream_id(request)
        after, has_ended = _last_chunk(request)
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE)
        if has_ended:
            # What browsers understand as: don't come back.
            return Response(status_code=204)
        return self._response(self._relay.resume_stream(stream_id, after=after), None)

    async def delete_stream(self, request: Request) -> Response:
        """Cancel the handler of a resumable stream. What it has yielded can still be read."""
        stream_id = _stream_id(request)
        try:
            async with self._relay.resume_stream(stream_id) as stream:
                await stream.cancel()
        except Exception as error:
            raise problem_of(error) from error
        return Response(status_code=204)

    def _response(self, stream: MessageStream, agent: AgentId | None) -> Response:
        outlet = Outlet()

        async def fill(outlet: Outlet) -> None:
            if stream.id is not None:
                self._open_streams.add(outlet)
            try:
                await _fill(outlet, stream, agent)
            finally:
                self._open_streams.discard(outlet)

        headers = (
            {} if stream.id is None else {STREAM_ID_HEADER: stream.id, "Content-Location": f"/v1/streams/{stream.id}"}
        )
        return EventStreamResponse(
            fill,
            outlet=outlet,
            heartbeat_s=self._settings.heartbeat_s,
            retry_s=self._settings.retry_s,
            headers=headers,
        )


async def _fill(outlet: Outlet, stream: MessageStream, agent: AgentId | None) -> None:
    """Put all chunks into the outlet, and how it ended.

    Raises:
        Problem: it failed before the first chunk.
    """
    begun = stream.position
    try:
        async with stream:
            async for chunk in stream:
                outlet.push(_chunk_event(chunk, stream.position))
                if not await outlet.room(_AHEAD):
                    return
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        problem = problem_of(error, agent)
        if stream.position == begun and not outlet.begun:
            raise problem from error
        document = compact_json(problem.document())
        outlet.end(server_sent_event(document, event="error", id=f"{stream.position}{_ENDED}"))
    else:
        summary = compact_json({"chunks": stream.position})
        outlet.end(server_sent_event(summary, event="end", id=f"{stream.position}{_ENDED}"))


def _chunk_event(chunk: Encoded | None, number: int) -> bytes:
    type_name = "NoneType" if chunk is None else chunk.type_name
    return server_sent_event(message_as_json(chunk), event="message", id=str(number), type=type_name)


def is_true(request: Request, name: str) -> bool:
    """Read a switch from the query of a request.

    Raises:
        Problem: it is neither on nor off.
    """
    value = request.query_params.get(name, "false").lower()
    if value not in ("true", "false"):
        raise Problem(400, f"The parameter {name} must be true or false.")
    return value == "true"


def last_event_id(request: Request) -> str | None:
    """Return the id of the last event that a client has: by the header, or by the query where a client can't set it."""
    return request.headers.get("last-event-id") or request.query_params.get("last_event_id") or None


def _last_chunk(request: Request) -> tuple[int, bool]:
    text = last_event_id(request)
    match = None if text is None else _is_chunk_id(text)
    if text is not None and match is None:
        raise Problem(400, "Last-Event-ID must be the id of an event of this stream.")
    return (0, False) if match is None else (int(match[1]), match[2] is not None)


def _stream_id(request: Request) -> str:
    stream_id: str = request.path_params["id"]
    if not _is_stream_id(stream_id):
        raise Problem(404, "There can't be such a stream.")
    return stream_id
