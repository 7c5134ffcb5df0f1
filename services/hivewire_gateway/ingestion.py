"""Events in: `POST /v1/events`."""

from __future__ import annotations

from hashlib import sha256

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hivewire import BrokerUnavailableError, MessageTooLargeError, TopicId, UndeliverableException
from hivewire.relay import Encoded, Stored
from hivewire_gateway.bodies import read_body
from hivewire_gateway.cloud_events import CloudEvent, read_events
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.problems import Problem


class Ingestion:
    """Stores what comes in; what is answered with 202 is in JetStream."""

    def __init__(self, gateway: Gateway) -> None:
        self._relay = gateway.relay
        self._settings = gateway.settings

    def routes(self) -> list[Route]:
        return [Route("/v1/events", self.post_events, methods=["POST"])]

    async def post_events(self, request: Request) -> Response:
        """Store CloudEvents."""
        body = await read_body(request, max_bytes=self._settings.max_body_bytes)
        (event,) = read_events(request.headers, body)
        stored = await self._store(event)
        headers = {"X-Duplicate": "true"} if stored.duplicate else {}
        return JSONResponse({"id": event.id, "sequence": stored.sequence}, status_code=202, headers=headers)

    async def _store(self, event: CloudEvent) -> Stored:
        try:
            topic = TopicId(event.type, event.source)
        except ValueError as error:
            raise Problem(400, f"The type of the event can't be a topic type: {error}.") from None
        message = Encoded(event.attributes.get("dataschema", ""), event.content_type, event.data)
        try:
            return await self._relay.store_event(
                message,
                topic,
                message_id=event.id,
                deduplication_id=deduplication_id(event.source, event.id),
                attributes=event.attributes,
                timeout=self._settings.store_timeout_s,
            )
        except MessageTooLargeError as error:
            raise Problem(413, str(error)) from error
        except BrokerUnavailableError as error:
            raise Problem(503, "The event may not be stored: send it again.", headers={"Retry-After": "2"}) from error
        except UndeliverableException as error:
            raise Problem(503, str(error), headers={"Retry-After": "10"}) from error


def deduplication_id(source: str, event_id: str) -> str:
    """Return what identifies an event: its source and its id, as the specification says (CloudEvents 1.0, id)."""
    data = source.encode()
    return sha256(b"%d|%b|%b" % (len(data), data, event_id.encode())).hexdigest()[:32]
