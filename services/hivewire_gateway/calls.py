"""Direct messages: `POST /v1/agents/{type}/{key}`."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hivewire import AgentId, AgentNotFoundError, DeadlineExceededError, OverloadedError
from hivewire.relay import Encoded
from hivewire_gateway.bodies import parse_json, read_body
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.problems import Problem


class Calls:
    """Sends a message to an agent and answers with its reply."""

    def __init__(self, gateway: Gateway) -> None:
        self._relay = gateway.relay
        self._settings = gateway.settings

    def routes(self) -> list[Route]:
        return [Route("/v1/agents/{type}/{key:path}", self.post_message, methods=["POST"])]

    async def post_message(self, request: Request) -> Response:
        """Send one message."""
        body = await read_body(request, max_bytes=self._settings.max_body_bytes)
        try:
            agent = AgentId(request.path_params["type"], request.path_params["key"])
        except ValueError as error:
            raise Problem(404, f"There can't be such an agent: {error}.") from None
        type_name = request.headers.get("hivewire-message-type") or type(parse_json(body)).__name__
        try:
            reply = await self._relay.send_message(Encoded(type_name, "application/json", body), agent)
        except AgentNotFoundError as error:
            raise Problem(404, str(error)) from error
        except DeadlineExceededError as error:
            raise Problem(504, str(error)) from error
        except OverloadedError as error:
            raise Problem(429, str(error), headers={"Retry-After": "1"}) from error
        except Exception as error:
            raise Problem(500, str(error), error=type(error).__name__) from error
        if reply is None:
            return Response(b"null", media_type="application/json")
        return Response(
            reply.payload, media_type=reply.content_type, headers={"Hivewire-Message-Type": reply.type_name}
        )
