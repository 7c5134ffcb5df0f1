"""Schemas of messages as components of one document."""

import pytest

from hivewire.relay import AgentTypeInfo, HandledMessage, MessageForm, TopicFilter, TypeMessages
from hivewire_gateway.openapi import openapi_document
from hivewire_gateway.openapi_schemas import SchemaTable


def form(name, schema=None, **options):
    return MessageForm(name=name, content_type="application/json", schema=schema, **options)


def test_definitions_become_components_and_references_follow():
    table = SchemaTable()
    order = {
        "$defs": {"Line": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Line"}}}},
        "type": "object",
        "properties": {"line": {"$ref": "#/$defs/Line"}, "$ref": {"type": "string"}, "$id": {"type": "string"}},
        "default": {"$ref": "#/$defs/Line"},
        "$schema": "https://json-schema.org/draft/2020-12/schema",
    }
    assert table.reference("shop", form("Order", order)) == {"$ref": "#/components/schemas/shop.Order"}
    components = table.as_components()
    line = {"$ref": "#/components/schemas/shop.Line"}
    assert components["shop.Line"]["properties"]["next"] == line
    assert components["shop.Order"]["properties"] == {
        "line": line,
        "$ref": {"type": "string"},
        "$id": {"type": "string"},
    }
    # What is data stays as it is.
    assert components["shop.Order"]["default"] == {"$ref": "#/$defs/Line"}
    assert "$schema" not in components["shop.Order"]


def test_equal_schemas_are_there_once_and_others_never_share_a_name():
    table = SchemaTable()
    one, other = {"type": "object", "title": "one"}, {"type": "object", "title": "other"}
    first = table.reference("a.b", form("c", one))
    assert table.reference("a.b", form("c", one)) == first
    names = {
        table.reference(agent_type, form(name, schema))["$ref"]
        for agent_type, name, schema in (("a.b", "c", one), ("a.b", "c", other), ("a", "b.c", one), ("a ", "b/c", one))
    }
    assert len(names) == 4
    assert len(table.as_components()) == 4


def test_a_definition_is_told_apart_by_what_it_refers_to():
    table = SchemaTable()
    for leaf in ("string", "integer"):
        definitions = {"Leaf": {"type": leaf, "title": "x"}, "Node": {"properties": {"leaf": {"$ref": "#/$defs/Leaf"}}}}
        table.reference("a", form("Node", {"$ref": "#/$defs/Node", "$defs": definitions}))
    components = table.as_components()
    targets = {components[name]["properties"]["leaf"]["$ref"] for name in ("a.Node", "a.Node-2")}
    assert targets == {"#/components/schemas/a.Leaf", "#/components/schemas/a.Leaf-2"}


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://elsewhere/schema"},
        {"$ref": "#/$defs/Missing"},
        {"$ref": "#"},
        {"$defs": 7},
        {"discriminator": {"mapping": {"a": "#/definitions/A"}}},
    ],
)
def test_what_refers_elsewhere_allows_anything_and_says_so(schema):
    shown = SchemaTable().reference("a", form("B", schema))
    assert set(shown) == {"description"}
    assert "can't be shown" in shown["description"]


def test_a_message_without_a_schema_says_why():
    assert SchemaTable().reference("a", form("B", note="Too large.")) == {"description": "B. Too large."}


def test_types_without_a_description_take_anything():
    unknown = AgentTypeInfo(name="a", kind="stateless", shards=1, subscriptions=(), messages=None)
    call = openapi_document([unknown], frozenset())["paths"]["/v1/agents/a/{key}"]["post"]
    assert set(call["requestBody"]["content"]) == {"application/json", "*/*"}


def test_names_are_fit_for_paths_and_headers():
    message = HandledMessage(form=form('Größe "x"', {"type": "string"}), replies=(form("int", {"type": "integer"}),))
    messages = TypeMessages(type="größe", messages=(message,))
    info = AgentTypeInfo(
        name="größe",
        kind="sharded",
        shards=16,
        subscriptions=(TopicFilter(kind="exact", value="größe:x"), TopicFilter(kind="prefix", value="y")),
        messages=messages,
    )
    paths = openapi_document([info], frozenset({("POST", "/v1/topics/{type}/{source}")}))["paths"]
    assert set(paths) >= {"/v1/agents/gr%C3%B6%C3%9Fe/{key}", "/v1/topics/gr%C3%B6%C3%9Fe:x/{source}"}
    (content,) = paths["/v1/agents/gr%C3%B6%C3%9Fe/{key}"]["post"]["requestBody"]["content"]
    assert content == 'application/json; type="Gr%C3%B6%C3%9Fe%20%22x%22"'
