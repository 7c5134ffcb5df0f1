"""What the gateway's own routes are, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hivewire_gateway.agent_streams import STREAM_ID_HEADER
from hivewire_gateway.message_bodies import JSON, MESSAGE_TYPE_HEADER, TIMEOUT_HEADER
from hivewire_gateway.problems import PROBLEM_CONTENT_TYPE
from hivewire_gateway.sse import MEDIA_TYPE

Part = dict[str, Any]

PROBLEM_SCHEMA: Part = {
    "type": "object",
    "description": "RFC 9457: what is wrong, and what to do.",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error_type": {"type": "string", "description": "The class of the error that a handler raised."},
    },
    "required": ["type", "title", "status", "detail"],
}

CLOUD_EVENT_SCHEMA: Part = {
    "type": "object",
    "description": "A CloudEvent in the JSON format.",
    "properties": {
        "specversion": {"type": "string", "const": "1.0"},
        "id": {"type": "string", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "source": {"type": "string", "minLength": 1},
        "datacontenttype": {"type": "string"},
        "dataschema": {"type": "string"},
        "subject": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "data": {},
        "data_base64": {"type": "string", "contentEncoding": "base64"},
    },
    "required": ["specversion", "id", "type", "source"],
}

_PROBLEMS = {
    400: "The request is malformed.",
    401: "There are no credentials, or they are not valid.",
    403: "It is not allowed.",
    404: "There is no such agent type or stream, or there can't be.",
    405: "There is no such method here.",
    408: "The request came too slowly.",
    409: "Somebody else wrote the agent's state; the message had no effect on it.",
    413: "It is larger than may be.",
    415: "The content type is not one that is taken here.",
    422: "The agent does not take such a message.",
    429: "There is no room at the moment. See `Retry-After`.",
    431: "The headers are too large.",
    500: "The handler failed.",
    502: "The process of the agent was lost, or the connection to it: the message may have been handled.",
    503: "The gateway can't do it at the moment. See `Retry-After`.",
    504: "The deadline passed: the message may have been handled.",
}

_COMMON = (400, 401, 403, 405, 408, 413, 415, 429, 431, 503)
CALL_ERRORS = (*_COMMON, 404, 409, 422, 500, 502, 504)
EVENT_ERRORS = (*_COMMON, 504)
READ_ERRORS = (400, 401, 403, 404, 405, 408, 429, 431, 500, 502, 503, 504)


def problems(statuses: tuple[int, ...]) -> Part:
    """Return the responses of some statuses that are problem documents."""
    return {str(status): {"$ref": f"#/components/responses/Problem{status}"} for status in sorted(statuses)}


def problem_components() -> Part:
    """Return these responses as components."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        f"Problem{status}": {"description": text, "content": {PROBLEM_CONTENT_TYPE: {"schema": schema}}}
        for status, text in _PROBLEMS.items()
    }


def parameter(name: str, where: str, description: str, schema: Part, *, required: bool = False) -> Part:
    return {
        "name": name,
        "in": where,
        "description": description,
        "schema": schema,
        **({"required": True} if required else {}),
    }


KEY = parameter(
    "key", "path", "Which agent of the type it is: any text, percent-encoded.", {"type": "string"}, required=True
)
TYPE_HEADER = parameter(
    MESSAGE_TYPE_HEADER,
    "header",
    "The type of the message, unless the content type names it. Without either it is that of the JSON value: `dict`, "
    "`list`, `str`, `int`, `float`, `bool`, `NoneType`.",
    {"type": "string", "maxLength": 512},
)
DEADLINE = parameter(
    TIMEOUT_HEADER,
    "header",
    "How many seconds the client waits. Longer than the gateway's limit counts as the limit.",
    {"type": "string", "pattern": "^[0-9]{1,9}(\\.[0-9]{1,9})?$"},
)
RESUMABLE = parameter(
    "resumable",
    "query",
    "With `Accept: text/event-stream`: keep the stream, so that it can be read again by its id.",
    {"type": "string", "enum": ["true", "false"]},
)
ANY_MESSAGE: Part = {"required": True, "content": {JSON: {"schema": {}}, "*/*": {"schema": {}}}}
_LAST_EVENT_ID = parameter(
    "Last-Event-ID", "header", "The id of the last event that the client has.", {"type": "string"}
)
_LAST_EVENT_ID_QUERY = parameter(
    "last_event_id", "query", "The same, for clients that can't set the header.", {"type": "string"}
)


def event_stream(description: str) -> Part:
    return {MEDIA_TYPE: {"schema": {"type": "string", "description": description}}}


STREAM_HEADERS: Part = {
    STREAM_ID_HEADER: {"description": "The id of a resumable stream.", "schema": {"type": "string"}},
}

_STORED: Part = {
    "202": {"description": "It is stored, or was before.", "content": {JSON: {"schema": {}}}},
}

_FIXED: Mapping[tuple[str, str], Part] = {
    ("POST", "/v1/events"): {
        "tags": ["Events"],
        "summary": "Store CloudEvents",
        "description": "CloudEvents 1.0 in structured, batch or binary mode. The topic is `type` and `source`.",
        "operationId": "postEvents",
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": {"$ref": "#/components/schemas/CloudEvent"}},
                "application/cloudevents-batch+json": {
                    "schema": {"type": "array", "items": {"$ref": "#/components/schemas/CloudEvent"}}
                },
                "*/*": {"schema": {}},
            },
        },
        "responses": {**_STORED, **problems(EVENT_ERRORS)},
    },
    ("POST", "/v1/topics/{type}/{source}"): {
        "tags": ["Events"],
        "summary": "Store any body as an event of a topic",
        "operationId": "postToTopic",
        "parameters": [
            parameter("type", "path", "The type of the topic.", {"type": "string"}, required=True),
            parameter("source", "path", "Its source: any text, percent-encoded.", {"type": "string"}, required=True),
            TYPE_HEADER,
            parameter("Idempotency-Key", "header", "Of events with the same key one is stored.", {"type": "string"}),
        ],
        "requestBody": ANY_MESSAGE,
        "responses": {**_STORED, **problems(EVENT_ERRORS)},
    },
    ("GET", "/v1/topics/{type}/events"): {
        "tags": ["Events"],
        "summary": "Read events as they are stored",
        "description": "Each server-sent event is a CloudEvent in the JSON format. `begin` and `reset` events "
        "tell from where on.",
        "operationId": "getEvents",
        "parameters": [
            parameter("type", "path", "A topic type, or a prefix that ends in `*`.", {"type": "string"}, required=True),
            {
                **parameter("source", "query", "Only events of this source.", {}),
                "schema": {"type": "array", "items": {"type": "string"}, "maxItems": 64},
                "explode": True,
            },
            parameter("from", "query", "Where to begin without a last event.", {"enum": ["now", "start"]}),
            _LAST_EVENT_ID,
            _LAST_EVENT_ID_QUERY,
        ],
        "responses": {
            "200": {"description": "The events.", "content": event_stream("CloudEvents.")},
            **problems(READ_ERRORS),
        },
    },
    ("POST", "/v1/hooks/{name}"): {
        "tags": ["Events"],
        "summary": "Take a webhook of another service",
        "operationId": "postHook",
        "security": [{}],
        "parameters": [parameter("name", "path", "The name it is configured by.", {"type": "string"}, required=True)],
        "requestBody": ANY_MESSAGE,
        "responses": {
            "202": {"description": "It is stored.", "content": {JSON: {"schema": {}}}},
            "204": {"description": "There was nothing to store."},
            **problems((*EVENT_ERRORS, 404)),
        },
    },
    ("POST", "/v1/agents/{type}/{key}"): {
        "tags": ["Agents"],
        "summary": "Send a message to an agent",
        "description": "Types that are registered are further below, with their messages.",
        "operationId": "postMessage",
        "parameters": [
            parameter("type", "path", "The agent type.", {"type": "string"}, required=True),
            KEY,
            TYPE_HEADER,
            DEADLINE,
            RESUMABLE,
        ],
        "requestBody": ANY_MESSAGE,
        "responses": {
            "200": {
                "description": "The reply, or a stream of it.",
                "headers": STREAM_HEADERS,
                "content": {"*/*": {"schema": {}}},
            },
            "204": {"description": "The reply is None."},
            **problems(CALL_ERRORS),
        },
    },
    ("GET", "/v1/streams/{id}"): {
        "tags": ["Agents"],
        "summary": "Read a resumable stream",
        "operationId": "getStream",
        "parameters": [
            parameter("id", "path", f"The {STREAM_ID_HEADER} of the stream.", {"type": "string"}, required=True),
            _LAST_EVENT_ID,
            _LAST_EVENT_ID_QUERY,
        ],
        "responses": {
            "200": {"description": "The chunks.", "headers": STREAM_HEADERS, "content": event_stream("Chunks.")},
            "204": {"description": "The client has seen the end."},
            **problems(READ_ERRORS),
        },
    },
    ("DELETE", "/v1/streams/{id}"): {
        "tags": ["Agents"],
        "summary": "Cancel the handler of a resumable stream",
        "operationId": "deleteStream",
        "parameters": [
            parameter("id", "path", f"The {STREAM_ID_HEADER} of the stream.", {"type": "string"}, required=True),
        ],
        "responses": {"204": {"description": "No handler runs for it."}, **problems(READ_ERRORS)},
    },
    ("GET", "/v1/workers"): {
        "tags": ["Workers"],
        "summary": "Host agents over a WebSocket",
        "description": "For `HttpAgentRuntime`; a request that is no upgrade is refused.",
        "operationId": "getWorkers",
        "responses": {
            "101": {"description": "The WebSocket is open."},
            **problems((400, 401, 403, 404, 405, 429, 503)),
        },
    },
    ("GET", "/openapi.json"): {
        "tags": ["Documents"],
        "summary": "This document",
        "operationId": "getOpenApi",
        "responses": {
            "200": {"description": "The document.", "content": {JSON: {"schema": {"type": "object"}}}},
            "304": {"description": "It is as the client has it."},
            **problems((400, 401, 403, 405, 408, 429, 431, 503)),
        },
    },
    ("GET", "/docs"): {
        "tags": ["Documents"],
        "summary": "This document for people",
        "operationId": "getDocs",
        "security": [{}],
        "responses": {
            "200": {"description": "A page.", "content": {"text/html": {"schema": {"type": "string"}}}},
            **problems((400, 403, 405, 408, 429, 431, 503)),
        },
    },
}


def fixed_paths(routes: frozenset[tuple[str, str]]) -> dict[str, Part]:
    """Return the operations of those routes, as method and path, that are there."""
    paths: dict[str, Part] = {}
    for (method, path), operation in _FIXED.items():
        if (method, path) in routes:
            paths.setdefault(path, {})[method.lower()] = operation
    return paths
