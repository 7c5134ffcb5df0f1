"""The OpenAPI 3.1 document of a gateway: its routes, and the agent types of the registry with their messages.

A message type is a parameter of the content type, so each has a schema of its own: `application/json; type=Order`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from hivewire import __version__
from hivewire.relay import AgentTypeInfo, HandledMessage, MessageForm, TypeMessages
from hivewire_gateway.message_bodies import JSON, MESSAGE_TYPE_HEADER, quoted_type
from hivewire_gateway.openapi_routes import (
    ANY_MESSAGE,
    CALL_ERRORS,
    CLOUD_EVENT_SCHEMA,
    DEADLINE,
    EVENT_ERRORS,
    KEY,
    PROBLEM_SCHEMA,
    RESUMABLE,
    STREAM_HEADERS,
    Part,
    event_stream,
    fixed_paths,
    parameter,
    problem_components,
    problems,
)
from hivewire_gateway.openapi_schemas import Schema, SchemaTable

_BARE = ("str", "int", "float", "bool", "dict", "list", "NoneType")
_TOPIC_ROUTE = ("POST", "/v1/topics/{type}/{source}")


def openapi_document(types: Sequence[AgentTypeInfo], routes: frozenset[tuple[str, str]]) -> dict[str, Any]:
    """Make the document of a gateway that has these routes, as method and path."""
    table = SchemaTable()
    table.add("Problem", PROBLEM_SCHEMA)
    table.add("CloudEvent", CLOUD_EVENT_SCHEMA)
    paths = fixed_paths(routes)
    for info in types:
        messages = info.messages or TypeMessages(type=info.name, any_message=True)
        paths[f"/v1/agents/{quote(info.name, safe='')}/{{key}}"] = {"post": _call(info, messages, table)}
    if _TOPIC_ROUTE in routes:
        for topic, messages_of_topic in _subscribed(types).items():
            path = f"/v1/topics/{quote(topic, safe=':=')}/{{source}}"
            paths[path] = {"post": _publication(topic, messages_of_topic, table)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hivewire gateway",
            "version": __version__,
            "description": "Events and messages for agents. Errors are problem documents (RFC 9457).",
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {}],
        "paths": paths,
        "components": {
            "schemas": table.as_components(),
            "responses": problem_components(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _call(info: AgentTypeInfo, messages: TypeMessages, table: SchemaTable) -> Part:
    direct = [message for message in messages.messages if message.kind != "event"]
    content = _request_content(info.name, (message.form for message in direct), table)
    if messages.any_message:
        content = {**ANY_MESSAGE["content"], **content}
    told = [f"- `{message.form.name}`: {message.description}" for message in direct if message.description]
    return {
        "tags": [info.name],
        "summary": messages.description or f"Send a message to an agent of type {info.name}",
        "description": "\n".join(told),
        "operationId": f"post:{info.name}",
        "parameters": [KEY, DEADLINE, RESUMABLE],
        "requestBody": {"required": True, "content": content or ANY_MESSAGE["content"]},
        "responses": {
            "200": {
                "description": "The reply, or, for who accepts server-sent events, its chunks.",
                "headers": {
                    MESSAGE_TYPE_HEADER: {"description": "The type of the reply.", "schema": {"type": "string"}},
                    **STREAM_HEADERS,
                },
                "content": {
                    **_reply_content(info.name, direct, table, any_reply=messages.any_message),
                    **event_stream("An event `message` for each chunk, then `end` or `error`."),
                },
            },
            "204": {"description": "The reply is None."},
            **problems(CALL_ERRORS),
        },
        "x-hivewire-kind": info.kind,
        "x-hivewire-shards": info.shards,
        "x-hivewire-subscriptions": [each.content_id for each in info.subscriptions],
    }


def _publication(topic: str, handled: Sequence[tuple[str, MessageForm]], table: SchemaTable) -> Part:
    schemas = [table.reference(agent_type, form) for agent_type, form in handled]
    names = sorted({form.name for _, form in handled})
    takers = sorted({agent_type for agent_type, _ in handled})
    type_header = parameter(
        MESSAGE_TYPE_HEADER, "header", "The type of the message.", {"type": "string", "examples": names}
    )
    return {
        "tags": ["Topics"],
        "summary": f"Publish to {topic}",
        "description": f"Agent types that subscribe: {', '.join(takers)}.",
        "operationId": f"publish:{topic}",
        "parameters": [
            parameter("source", "path", "The source of the topic.", {"type": "string"}, required=True),
            type_header,
        ],
        "requestBody": {"required": True, "content": {JSON: {"schema": {"anyOf": _distinct(schemas)}}}},
        "responses": {
            "202": {"description": "It is stored, or was before.", "content": {JSON: {"schema": {}}}},
            **problems(EVENT_ERRORS),
        },
    }


def _subscribed(types: Iterable[AgentTypeInfo]) -> dict[str, list[tuple[str, MessageForm]]]:
    """Return what may be published to the topics that are subscribed to by name, as JSON."""
    found: dict[str, list[tuple[str, MessageForm]]] = {}
    for info in types:
        events = [message.form for message in info.messages.messages if message.kind != "rpc"] if info.messages else []
        forms = [(info.name, form) for form in events if form.content_type == JSON]
        for topic_filter in info.subscriptions:
            if topic_filter.kind == "exact" and forms:
                found.setdefault(topic_filter.value, []).extend(forms)
    return dict(sorted(found.items()))


def _request_content(agent_type: str, forms: Iterable[MessageForm], table: SchemaTable) -> Part:
    content: Part = {}
    bare: list[Schema] = []
    for form in forms:
        if not form.content_type:
            continue
        schema = table.reference(agent_type, form)
        content[f'{form.content_type}; type="{quoted_type(form.name)}"'] = {"schema": schema}
        if form.content_type == JSON and form.name in _BARE:
            bare.append(schema)
    if bare:
        content[JSON] = {"schema": {"anyOf": bare} if len(bare) > 1 else bare[0]}
    return content


def _reply_content(agent_type: str, messages: Sequence[HandledMessage], table: SchemaTable, *, any_reply: bool) -> Part:
    by_media_type: dict[str, list[Schema]] = {}
    for message in messages:
        any_reply |= message.any_reply
        schemas: dict[str, list[Schema]] = {form.content_type: [] for form in message.replies}
        for form in message.replies:
            schemas[form.content_type].append(table.reference(agent_type, form))
        if message.streams:
            # Who does not ask for a stream gets the chunks in an array.
            items = {"anyOf": _distinct(schemas[JSON])} if set(schemas) == {JSON} else {}
            schemas = {JSON: [{"type": "array", "items": items}]}
        for media_type, some in schemas.items():
            by_media_type.setdefault(media_type, []).extend(some)
    content = {
        media_type: {"schema": {"anyOf": _distinct(some)}} for media_type, some in by_media_type.items() if media_type
    }
    return {**content, "*/*": {"schema": {}}} if any_reply or not content else content


def _distinct(schemas: Iterable[Schema]) -> list[Schema]:
    found: list[Schema] = []
    for schema in schemas:
        if schema not in found:
            found.append(schema)
    return found
