"""Events in: `POST /v1/events` and `POST /v1/topics/{type}/{source}`. What is answered with 202 is in JetStream."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hivewire import TopicId
from hivewire.relay import Encoded, PreparedEvent, Stored
from hivewire_gateway.bodies import read_body
from hivewire_gateway.cloud_events import CloudEvent, read_events
from hivewire_gateway.event_data import data_of_body
from hivewire_gateway.event_store import EventStore, deduplication_id
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.message_bodies import named_type
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.principals import principal_of
from hivewire_gateway.topic_requests import check_plain_json, idempotency_key, topic_of_path
from hivewire_gateway.trace_context import trace_of_event
from hivewire_gateway.webhook_consent import answer_to_options

_METHODS = ["POST", "OPTIONS"]


class Ingestion:
    """Stores what comes in, once for each source and id within the stream's deduplication window."""

    def __init__(self, gateway: Gateway) -> None:
        self._settings = gateway.settings
        self._store = EventStore(gateway.relay, timeout_s=gateway.settings.store_timeout_s, metrics=gateway.metrics)

    def routes(self) -> list[Route]:
        return [
            Route("/v1/events", self.events, methods=_METHODS),
            Route("/v1/topics/{type}/{source:path}", self.topic, methods=_METHODS),
        ]

    async def events(self, request: Request) -> Response:
        """Store CloudEvents."""
        if request.method == "OPTIONS":
            return answer_to_options(request.headers, self._settings.ingestion)
        type_name = named_type(request.headers)
        body = await read_body(request, max_bytes=self._settings.max_body_bytes)
        read = read_events(request.headers.items(), body, max_events=self._settings.ingestion.max_batch_events)
        if read.mode == "batch":
            return await self._store_batch(request, read.events, type_name)
        (event,) = read.events
        prepared = await self._prepare_cloud_event(request, event, type_name)
        return _accepted(event.id, await self._store.store(prepared))

    async def topic(self, request: Request) -> Response:
        """Store any JSON as an event."""
        if request.method == "OPTIONS":
            return answer_to_options(request.headers, self._settings.ingestion)
        topic = topic_of_path(request)
        principal_of(request).check_publish(topic)
        type_name = named_type(request.headers)
        key = idempotency_key(request)
        check_plain_json(request)
        body = await read_body(request, max_bytes=self._settings.max_body_bytes)
        if not body:
            raise Problem(400, "There is no body: send JSON; an event without content is `null`.")
        data = data_of_body(body, request.headers.get("content-type", "application/json"))
        event_id = key or uuid4().hex
        prepared = await self._store.prepare(
            Encoded(type_name or data.value_type, data.content_type, data.payload),
            topic,
            event_id=event_id,
            # Whoever uses the same key for another topic means another event.
            identity=deduplication_id("topic", topic.type, topic.source, event_id),
            attributes={},
        )
        return _accepted(event_id, await self._store.store(prepared))

    async def _store_batch(self, request: Request, events: tuple[CloudEvent, ...], type_name: str) -> Response:
        prepared = []
        for index, event in enumerate(events):
            try:
                prepared.append(await self._prepare_cloud_event(request, event, type_name))
            except Problem as problem:
                text = f"Nothing was stored, as event {index} of the batch can't be. {problem.detail}"
                raise Problem(problem.status, text, headers=problem.headers, index=index) from None
        at_once = asyncio.Semaphore(self._settings.ingestion.batch_concurrency)

        async def outcome(event: PreparedEvent) -> Stored | Problem:
            async with at_once:
                try:
                    return await self._store.store(event)
                except Problem as problem:
                    return problem

        async with asyncio.TaskGroup() as group:
            storing = [group.create_task(outcome(event)) for event in prepared]
        outcomes = [task.result() for task in storing]
        results = [_result(event.id, outcome) for event, outcome in zip(events, outcomes, strict=True)]
        failed = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
        if not failed:
            return JSONResponse(results, status_code=202)
        raise Problem(
            503,
            f"{len(failed)} of {len(events)} events are not stored, or may not be: send the whole batch again. What is "
            "stored already will not be stored twice.",
            headers={"Retry-After": max((outcome.headers.get("Retry-After", "2") for outcome in failed), key=int)},
            results=results,
        )

    async def _prepare_cloud_event(self, request: Request, event: CloudEvent, type_name: str) -> PreparedEvent:
        try:
            topic = TopicId(event.type, event.source)
        except ValueError:
            raise Problem(
                400,
                "The attribute 'type' can't be a topic type: use letters, digits and the characters _ - . : = only.",
            ) from None
        principal_of(request).check_publish(topic)
        return await self._store.prepare(
            Encoded(type_name or event.type_name, event.data.content_type, event.data.payload),
            topic,
            event_id=event.id,
            identity=deduplication_id(event.source, event.id),
            attributes=event.attributes,
            trace=trace_of_event(event.attributes, request.headers),
        )


def _accepted(event_id: str, stored: Stored) -> Response:
    headers = {"X-Duplicate": "true"} if stored.duplicate else {}
    return JSONResponse({"id": event_id, "sequence": stored.sequence}, status_code=202, headers=headers)


def _result(event_id: str, outcome: Stored | Problem) -> dict[str, Any]:
    if isinstance(outcome, Problem):
        return {"id": event_id, "status": outcome.status, "detail": outcome.detail}
    duplicate = {"duplicate": True} if outcome.duplicate else {}
    return {"id": event_id, "status": 202, "sequence": outcome.sequence, **duplicate}
