"""The cases of the conformance suite of CloudEvents for HTTP and for the JSON format, by their names there.

The invalid attributes are in the tests of the attributes.
"""

import json
from typing import Any

import pytest

from unit.gateway.events import BATCH, MINIMAL, STRUCTURED, Headers, binary, read, refused, structured

EXAMPLE = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "time": "2018-04-05T03:56:24Z",
    "id": "1234-1234-1234",
    "source": "/mycontext/subcontext",
}
PRETTY = b'{\n    "message": "Hello World!"\n}\n'
EXTENSIONS = {
    "extinteger": 10,
    "extboolean": True,
    "extstring": "text",
    "exturi": "https://cloudevents.io",
    "exturiref": "//authority/path",
    "exttimestamp": "2023-03-31T15:12:00Z",
    "extbinary": "TWE=",
}
OLD = {**MINIMAL, "specversion": "0.9"}


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8"])
def test_binary_content_mode(content_type: str) -> None:
    headers: Headers = [(f"ce-{name}", value) for name, value in EXAMPLE.items()]
    (event,) = read([("Host", "example.com"), *headers, ("Content-Type", content_type)], PRETTY).events
    assert (event.id, event.type, event.source) == (EXAMPLE["id"], EXAMPLE["type"], EXAMPLE["source"])
    assert event.attributes == {"time": EXAMPLE["time"]}
    assert event.data.content_type == content_type
    assert json.loads(event.data.payload) == {"message": "Hello World!"}


@pytest.mark.parametrize("content_type", [STRUCTURED, f"{STRUCTURED}; charset=utf-8"])
def test_structured_content_mode(content_type: str) -> None:
    members = {**EXAMPLE, "datacontenttype": "application/json", "data": {"message": "Hello World!"}}
    (event,) = read([("Content-Type", content_type)], json.dumps(members, indent=4).encode()).events
    assert (event.id, event.type, event.source) == (EXAMPLE["id"], EXAMPLE["type"], EXAMPLE["source"])
    assert event.attributes == {"time": EXAMPLE["time"]}
    assert event.data.content_type == "application/json"
    assert json.loads(event.data.payload) == {"message": "Hello World!"}


def test_a_minimal_event_is_one_with_nulls_for_all_that_is_optional() -> None:
    assert structured(datacontenttype=None, dataschema=None, subject=None, time=None) == structured()


def test_all_core_attributes() -> None:
    core = {"dataschema": "https://cloudevents.io/dataschema", "subject": "tests", "time": "2018-04-05T17:31:00Z"}
    event = structured(datacontenttype="text/plain", **core)
    assert event.data_schema == core.pop("dataschema")
    assert (event.data.content_type, event.data.payload) == ("text/plain", b"")
    assert event.attributes == core


def test_all_extension_types() -> None:
    canonical = {**EXTENSIONS, "extinteger": "10", "extboolean": "true"}
    assert structured(**EXTENSIONS).attributes == canonical
    assert binary(**canonical).attributes == canonical


@pytest.mark.parametrize(
    "batch",
    [[], [MINIMAL], [MINIMAL, MINIMAL], [MINIMAL, {**MINIMAL, **EXTENSIONS}], [MINIMAL, {**MINIMAL, "id": "2"}]],
)
def test_valid_batches(batch: list[Any]) -> None:
    assert len(read([("content-type", BATCH)], json.dumps(batch).encode()).events) == len(batch)


@pytest.mark.parametrize("batch", [[MINIMAL, OLD], [OLD, OLD], [{"specversion": "1.0"}], ["not an object", MINIMAL]])
def test_invalid_batches(batch: list[Any]) -> None:
    refused(400, [("content-type", BATCH)], json.dumps(batch).encode())
