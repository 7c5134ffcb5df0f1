"""Events out: `GET /v1/topics/{type}/events`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hivewire import TopicId
from hivewire.relay import TopicFilter
from hivewire_gateway.agent_streams import last_event_id
from hivewire_gateway.event_documents import EventPosition
from hivewire_gateway.event_streams import EventStreamResponse
from hivewire_gateway.feed import Feed
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.outlets import Outlet
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.principals import principal_of
from hivewire_gateway.sse import MEDIA_TYPE

_MAX_SOURCES = 64


class TopicEvents:
    """Streams the events of topics to clients."""

    def __init__(self, gateway: Gateway) -> None:
        self._settings = gateway.settings.event_streams
        self._open_streams = gateway.open_streams
        self._feed = Feed(gateway.relay, self._settings)

    def routes(self) -> list[Route]:
        return [Route("/v1/topics/{type}/events", self.get_events, methods=["GET"])]

    async def get_events(self, request: Request) -> Response:
        """Stream events of a topic type, or of all that begin with a prefix, as they are stored."""
        topics = topic_filter(request.path_params["type"])
        sources = frozenset(request.query_params.getlist("source"))
        if len(sources) > _MAX_SOURCES:
            raise Problem(400, f"At most {_MAX_SOURCES} sources: leave them out and choose among the events instead.")
        principal = principal_of(request)
        for source in sources or (None,):
            principal.check_read(request.path_params["type"], source)
        begin = request.query_params.get("from", "now")
        if begin not in ("now", "start"):
            raise Problem(400, "The parameter from must be now or start.")
        after = _position(request)
        if request.method == "HEAD":
            return Response(media_type=MEDIA_TYPE)
        if self._open_streams.draining:
            raise Problem(503, "This gateway stops.", headers={"Retry-After": "1"})

        async def fill(outlet: Outlet) -> None:
            self._open_streams.add(outlet)
            try:
                await self._feed.follow(outlet, topics, sources, after=after, from_start=begin == "start")
            finally:
                self._open_streams.discard(outlet)

        return EventStreamResponse(
            fill,
            outlet=self._feed.new_outlet(),
            heartbeat_s=self._settings.heartbeat_s,
            retry_s=self._settings.retry_s,
        )


def topic_filter(text: str) -> TopicFilter:
    """Read a topic type, or a prefix that ends in `*`.

    Raises:
        Problem: it can't be a topic type.
    """
    prefix = text.endswith("*")
    value = text.removesuffix("*")
    found = TopicFilter(kind="prefix" if prefix else "exact", value=value)
    try:
        if value or not prefix:
            TopicId(value, "")
        found.tail()
    except ValueError as error:
        raise Problem(400, f"{error}. A * may stand at its end only.") from None
    return found


def _position(request: Request) -> EventPosition | None:
    text = last_event_id(request)
    try:
        return None if text is None else EventPosition.from_str(text)
    except ValueError:
        raise Problem(400, "Last-Event-ID must be the id of an event that came from here.") from None
