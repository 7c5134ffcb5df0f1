"""Webhooks of others come in: `POST /v1/hooks/{name}`. What is answered with 202 is in JetStream."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hivewire import TopicId
from hivewire.relay import Encoded
from hivewire_gateway.bodies import parse_json, read_body
from hivewire_gateway.configuration_error import ConfigurationError
from hivewire_gateway.event_attributes import check_text
from hivewire_gateway.event_data import JSON_TYPE
from hivewire_gateway.event_store import EventStore, deduplication_id
from hivewire_gateway.gateway import Gateway
from hivewire_gateway.hooks.settings import HookSettings
from hivewire_gateway.hooks.signatures import SCHEMES
from hivewire_gateway.hooks.templates import MissingValueError, Template
from hivewire_gateway.media_types import MediaType
from hivewire_gateway.problems import Problem
from hivewire_gateway.security.secrets import WatchedSecret


class Hooks:
    """Stores what senders have signed, once for each delivery. The signature is all the permission there is.

    Args:
        clock: Tells the seconds since 1970.

    Raises:
        ConfigurationError: a secret can't be read or understood.
    """

    def __init__(self, gateway: Gateway, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = gateway.settings
        self._store = EventStore(gateway.relay, timeout_s=gateway.settings.store_timeout_s, metrics=gateway.metrics)
        self._clock = clock
        self._hooks = {name: _Hook(name, settings) for name, settings in gateway.settings.hooks.items()}

    def routes(self) -> list[Route]:
        return [Route("/v1/hooks/{name}", self.post_delivery, methods=["POST"])]

    async def post_delivery(self, request: Request) -> Response:
        """Store one delivery."""
        hook = self._hooks.get(request.path_params["name"])
        if hook is None:
            raise Problem(404, "There is no such hook here: it has to be set up in the gateway's configuration.")
        body = await read_body(request, max_bytes=self._settings.max_body_bytes)
        hook.check_signature(request.headers, body, now=self._clock())
        _check_json(request.headers)
        value = parse_json(body)
        topic, event_id = hook.topic(request.headers, value), hook.event_id(request.headers, value)
        stored = await self._store.store(
            await self._store.prepare(
                Encoded(hook.message_type(request.headers, value), JSON_TYPE, body),
                topic,
                event_id=event_id,
                identity=deduplication_id("hook", hook.name, topic.source, event_id),
                attributes={},
            )
        )
        headers = {"X-Duplicate": "true"} if stored.duplicate else {}
        return JSONResponse({"id": event_id, "sequence": stored.sequence}, status_code=202, headers=headers)


class _Hook:
    """One sender: how it signs, and what its deliveries become."""

    def __init__(self, name: str, settings: HookSettings) -> None:
        self.name = name
        self._settings = settings
        self._scheme = SCHEMES[settings.scheme]
        self._id = settings.id or self._scheme.delivery_id
        self._secrets = []
        for source in settings.secrets:
            try:
                self._secrets.append(WatchedSecret(source, self._keys))
            except (OSError, ValueError) as error:
                raise ConfigurationError(f"hooks.{name}.secrets: can't use {source}: {error}") from None

    def check_signature(self, headers: Headers, body: bytes, *, now: float) -> None:
        """Let a delivery pass that was signed lately with one of the secrets.

        Raises:
            Problem: 401, with the same text for whatever is wrong.
        """
        keys = [key for secret in self._secrets for key in secret.value]
        if not self._scheme.is_signed(headers, body, keys, now=now, window_s=self._settings.window_s):
            raise Problem(
                401,
                "The signature is missing or not valid: sign the body exactly as it is sent, with the secret of this "
                "hook, and send it at once.",
                headers={"WWW-Authenticate": "Webhook-Signature"},
            )

    def topic(self, headers: Headers, value: Any) -> TopicId:
        topic_type = self._rendered("topic_type", self._settings.topic_type, headers, value)
        source = self._rendered("source", self._settings.source, headers, value)
        try:
            return TopicId(topic_type, source)
        except ValueError:
            raise Problem(
                400,
                f"The topic type of this delivery, made by {self._settings.topic_type}, can't be one: it may have "
                "letters, digits and the characters _ - . : = only.",
            ) from None

    def event_id(self, headers: Headers, value: Any) -> str:
        return self._rendered("id", self._id, headers, value)

    def message_type(self, headers: Headers, value: Any) -> str:
        if self._settings.message_type is None:
            return type(value).__name__
        return self._rendered("message_type", self._settings.message_type, headers, value)

    def _rendered(self, what: str, template: Template, headers: Headers, value: Any) -> str:
        try:
            text = template.render(headers, value)
        except MissingValueError as error:
            raise Problem(400, f"This delivery has no {what} as this hook makes it: {error}.") from None
        try:
            check_text(text)
        except ValueError as error:
            raise Problem(400, f"The {what} of this delivery, made by {template}, {error}.") from None
        return text

    def _keys(self, text: str) -> tuple[bytes, ...]:
        """Read secrets, one a line."""
        keys = tuple(self._scheme.key(line.strip()) for line in text.splitlines() if line.strip())
        if not keys or not all(keys):
            raise ValueError("it holds no secret")
        return keys


def _check_json(headers: Headers) -> None:
    try:
        is_json = MediaType.parse(headers.get("content-type", JSON_TYPE)).is_json
    except ValueError:
        is_json = False
    if not is_json:
        raise Problem(415, "Let the sender send JSON, with Content-Type: application/json.")
