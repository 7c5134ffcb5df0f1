"""What is stored of an agent: any state that serializers know comes back, and errors say where."""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf import wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hivewire.exceptions import SerializationError, UnsupportedFormatError
from hivewire.model.ids import AgentId
from hivewire.model.serialization import UnknownPayload
from hivewire.model.serializer_registry import SerializerRegistry
from hivewire.model.state_values import decode_state, encode_state
from hivewire.nats.state_records import StateRecord


@dataclass
class Point:
    x: int
    names: list[str] = field(default_factory=list)


class Order(BaseModel):
    item: str
    count: int = 1


class Unknown:
    pass


texts = st.text(max_size=8)
keys = texts | st.sampled_from(["$type", "$value", ""])
values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | texts
    | st.builds(Point, x=st.integers(), names=st.lists(texts, max_size=2))
    | st.builds(Order, item=texts, count=st.integers())
    | st.builds(wrappers_pb2.BytesValue, value=st.binary(max_size=8))
)
states = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)
records = st.builds(
    StateRecord,
    agent=st.builds(AgentId, st.sampled_from(["worker", "my.type"]), texts),
    state=st.none()
    | states.filter(lambda state: state is not None).map(lambda state: encode_state(state, SerializerRegistry())),
    stream=texts,
    last=st.integers(0, 1 << 62),
    dead=st.none() | st.integers(0, 1 << 62),
    writer=texts,
)


def with_lists(state: Any) -> Any:
    """JSON knows no tuples."""
    if isinstance(state, dict):
        return {name: with_lists(each) for name, each in state.items()}
    return [with_lists(each) for each in state] if isinstance(state, list | tuple) else state


@given(states)
@settings(deadline=None)
def test_a_state_comes_back_as_it_was(state: Any) -> None:
    text = encode_state(state, SerializerRegistry())
    reader = SerializerRegistry()
    for cls in (Point, Order, wrappers_pb2.BytesValue):
        reader.learn(cls)
    assert decode_state(text, reader) == with_lists(state)


@given(records)
@settings(deadline=None)
def test_a_record_survives_its_bytes_to_the_letter(record: StateRecord) -> None:
    # So a state that did not change is seen to be the same.
    assert StateRecord.from_json(record.to_json()) == record


def test_json_values_are_stored_as_they_are() -> None:
    state = OrderedDict(count=3, names=("a", "b"), nested={"x": None, "y": [True, 1.5]})
    text = encode_state(state, SerializerRegistry())
    assert text == '{"count":3,"names":["a","b"],"nested":{"x":null,"y":[true,1.5]}}'


def test_a_dict_that_looks_like_an_object_comes_back_as_a_dict() -> None:
    serializers = SerializerRegistry()
    for state in (
        {"$type": ["Point", "application/json", "{}"]},
        {"$value": 1},
        {"$value": {"$type": "x"}},
        {"$type": 1, "$value": 2, "other": 3},
        {"$value": {"$value": {"$value": None}}},
    ):
        assert decode_state(encode_state(state, serializers), serializers) == state


def test_bytes_in_a_message_survive() -> None:
    serializers = SerializerRegistry()
    state = {"raw": wrappers_pb2.BytesValue(value=b"\x00\xff\xfe")}
    text = encode_state(state, serializers)
    assert json.loads(text)["raw"]["$type"][3] == "base64"
    assert decode_state(text, serializers) == state


@pytest.mark.parametrize(
    ("state", "where"),
    [
        (Unknown(), r"^state: No serializer for messages of class .*Unknown"),
        ({"a": [1, {"b c": Unknown()}]}, r"^state\['a'\]\[1\]\['b c'\]: No serializer"),
        ({"a": {1: 2}}, r"^state\['a'\]: the key 1 of a dict is not a text"),
        ({"a": b"x"}, r"^state\['a'\]: No serializer for messages of class builtins.bytes"),
        ({"a": {1, 2}}, r"^state\['a'\]: No serializer for messages of class builtins.set"),
    ],
)
def test_what_cannot_be_stored_is_an_error_that_says_where_it_is(state: Any, where: str) -> None:
    with pytest.raises(SerializationError, match=where):
        encode_state(state, SerializerRegistry())


@pytest.mark.parametrize(
    ("stored", "where"),
    [
        (
            {"a": [{"$type": ["Gone", "application/json", "{}"]}]},
            r"^state\['a'\]\[0\]: No serializer can decode 'Gone'",
        ),
        ({"a": {"$type": ["Point", "application/json", "{"]}}, r"^state\['a'\]: "),
        ({"$value": {"$type": {"$type": ["Gone", "application/json", "{}"]}}}, r"^state\['\$type'\]: "),
        ({"$type": "Point"}, r"^state: 'Point' does not describe an object"),
        ({"$type": ["Point", "application/json"]}, "does not describe an object"),
        ({"$type": ["Point", "application/json", 1]}, "does not describe an object"),
        ({"$type": ["Point", "application/json", "?", "base64"]}, "does not describe an object"),
        ({"$type": None}, "does not describe an object"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_says_where_it_is(stored: Any, where: str) -> None:
    serializers = SerializerRegistry()
    serializers.learn(Point)
    with pytest.raises(SerializationError, match=where):
        decode_state(json.dumps(stored), serializers)


def test_whoever_only_looks_at_a_state_needs_none_of_its_classes() -> None:
    text = encode_state({"at": Order(item="tea")}, SerializerRegistry())
    with pytest.warns(RuntimeWarning, match="UnknownPayload"):
        state = decode_state(text.replace("Order", "Gone"), SerializerRegistry(), strict=False)
    assert state == {"at": UnknownPayload("Gone", "application/json", b'{"item":"tea","count":1}')}


def test_an_event_at_or_below_the_last_one_is_handled_and_those_of_another_stream_are_not() -> None:
    record = StateRecord(agent=AgentId("worker", "k"), state="{}", stream="S", last=7)
    assert [record.has_handled(sequence, stream="S") for sequence in (1, 7, 8)] == [True, True, False]
    assert not record.has_handled(1, stream="T")


def test_a_record_of_a_newer_format_is_refused_by_the_name_of_its_agent() -> None:
    with pytest.raises(UnsupportedFormatError, match="the state of worker/k has format 2"):
        StateRecord.from_json(b'{"format":2,"agent":"worker/k","state":"another shape"}')


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"{}", b'{"agent":"worker/k"}', b'{"format":1,"agent":5}'])
def test_what_is_no_record_is_refused(payload: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, AttributeError)):
        StateRecord.from_json(payload)
