import json
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Generic, Literal, NewType, TypeVar
from uuid import UUID

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2, timestamp_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from hivewire.exceptions import SerializationError
from hivewire.model.ids import AgentId
from hivewire.model.serialization import (
    JSON_DATA_CONTENT_TYPE,
    PROTOBUF_DATA_CONTENT_TYPE,
    DataclassJsonMessageSerializer,
    JsonValueMessageSerializer,
    MessageSerializer,
    ProtobufMessageSerializer,
    PydanticJsonMessageSerializer,
    RpcCall,
    UnknownPayload,
    try_get_known_serializers_for_type,
)
from hivewire.model.topics import TopicId


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class TextMessage:
    content: str
    source: str = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: float
    y: float = 0.0


class Model(BaseModel):
    name: str
    points: list[Point] = []
    inner: "Model | None" = None


@dataclass
class Everything:
    text: str
    number: int
    real: float
    flag: bool
    nothing: None
    raw: bytes
    color: Color
    when: datetime
    day: date
    span: timedelta
    id: UUID
    amount: Decimal
    point: Point
    model: Model
    maybe: Point | None
    either: int | str
    point_or_model: Point | Model
    points: list[Point]
    pair: tuple[int, str]
    many: tuple[Point, ...]
    unique: set[int]
    frozen: frozenset[str]
    by_name: dict[str, Point]
    by_number: dict[int, list[Model]]
    anything: Any
    loose: dict
    agent: AgentId
    topic: TopicId
    kind: Literal["a", "b"] = "a"


@dataclass
class Tree:
    """String annotations, and a class that contains itself."""

    value: "Point | None"
    children: "list[Tree]" = field(default_factory=list)
    named: "dict[str, Tree]" = field(default_factory=dict)


JSON_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=8)
)
JSON_VALUES = st.recursive(
    JSON_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)
texts = st.text(max_size=8)
floats = st.floats(allow_nan=False)
points = st.builds(Point, x=floats, y=floats)
finite_points = st.builds(Point, x=st.floats(allow_nan=False, allow_infinity=False))
models = st.deferred(
    lambda: st.builds(
        Model, name=texts, points=st.lists(finite_points, max_size=2), inner=st.none() | st.builds(Model, name=texts)
    )
)
everything = st.builds(
    Everything,
    text=texts,
    number=st.integers(),
    real=floats,
    flag=st.booleans(),
    nothing=st.none(),
    raw=st.binary(max_size=8),
    color=st.sampled_from(Color),
    when=st.datetimes(timezones=st.none() | st.just(UTC)),
    day=st.dates(),
    span=st.timedeltas(min_value=timedelta(days=-999), max_value=timedelta(days=999)),
    id=st.uuids(),
    amount=st.decimals(allow_nan=False, allow_infinity=False),
    point=points,
    model=models,
    maybe=st.none() | points,
    either=st.integers() | texts,
    point_or_model=points | models,
    points=st.lists(points, max_size=2),
    pair=st.tuples(st.integers(), texts),
    many=st.lists(points, max_size=2).map(tuple),
    unique=st.sets(st.integers(), max_size=3),
    frozen=st.frozensets(texts, max_size=3),
    by_name=st.dictionaries(texts, points, max_size=2),
    by_number=st.dictionaries(st.integers(), st.lists(models, max_size=1), max_size=2),
    anything=JSON_VALUES,
    loose=st.dictionaries(texts, JSON_VALUES, max_size=2),
    agent=st.builds(AgentId, st.sampled_from(["a", "b.c"]), texts),
    topic=st.builds(TopicId, st.sampled_from(["a", "b.c:"]), texts),
    kind=st.sampled_from(["a", "b"]),
)
trees = st.recursive(
    st.builds(Tree, value=st.none() | points),
    lambda inner: st.builds(
        Tree,
        value=st.none() | points,
        children=st.lists(inner, max_size=2),
        named=st.dictionaries(texts, inner, max_size=2),
    ),
    max_leaves=5,
)

EVERYTHING = DataclassJsonMessageSerializer(Everything)


def round_trip(message: Any) -> Any:
    [serializer] = try_get_known_serializers_for_type(type(message))
    return serializer.deserialize(serializer.serialize(message))


@settings(deadline=None)
@given(everything)
def test_row_59_a_dataclass_comes_back_equal_with_all_its_classes(message):
    assert EVERYTHING.deserialize(EVERYTHING.serialize(message)) == message


@settings(deadline=None)
@given(trees)
def test_row_59_string_annotations_and_recursion_come_back_as_their_classes(tree):
    assert round_trip(tree) == tree


@settings(deadline=None)
@given(models)
def test_a_pydantic_model_comes_back_equal(model):
    assert round_trip(model) == model


@settings(deadline=None)
@given(JSON_VALUES)
def test_json_values_come_back_equal_and_of_their_class(value):
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


@settings(deadline=None)
@given(st.text(st.characters()))
def test_text_of_any_characters_comes_back_equal_even_half_a_surrogate_pair(text):
    assert round_trip(text) == text
    assert round_trip({text: [text]}) == {text: [text]}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_survive(value):
    for back in (round_trip(Point(x=value)).x, round_trip(value), round_trip([value])[0]):
        assert back == value or (math.isnan(back) and math.isnan(value))


def test_dataclass_json_is_compact_and_equal_in_value_to_what_autogen_writes():
    serializer = DataclassJsonMessageSerializer(TextMessage)
    assert serializer.serialize(TextMessage("häl\n🐝")) == '{"content":"häl\\n🐝","source":"user"}'.encode()
    # What AutoGen writes for the same message.
    theirs = b'{"content": "h\\u00e4l\\n\\ud83d\\udc1d", "source": "user"}'
    assert json.loads(serializer.serialize(TextMessage("häl\n🐝"))) == json.loads(theirs)
    assert serializer.deserialize(theirs) == TextMessage("häl\n🐝")


def test_pydantic_json_is_what_autogen_writes():
    serializer = PydanticJsonMessageSerializer(Model)
    theirs = b'{"name":"a","points":[{"x":1.0,"y":2.0}],"inner":{"name":"b","points":[],"inner":null}}'
    model = Model(name="a", points=[Point(x=1, y=2)], inner=Model(name="b"))
    assert serializer.serialize(model) == theirs
    assert serializer.deserialize(theirs) == model


def test_protobuf_bytes_are_what_autogen_writes():
    serializer = ProtobufMessageSerializer(timestamp_pb2.Timestamp)
    theirs = b"\n-type.googleapis.com/google.protobuf.Timestamp\x12\x04\x08\x01\x10\x02"
    assert serializer.serialize(timestamp_pb2.Timestamp(seconds=1, nanos=2)) == theirs
    assert serializer.deserialize(theirs) == timestamp_pb2.Timestamp(seconds=1, nanos=2)


def test_json_values_are_compact_utf_8():
    assert JsonValueMessageSerializer(dict).serialize({"a": ["ä", None, True]}) == '{"a":["ä",null,true]}'.encode()


def protobuf_class(package: str, name: str) -> type:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    message = file.message_type.add(name=name)
    label = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    message.field.add(name="task_id", number=1, label=label, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))


def test_a_protobuf_class_made_at_run_time_travels_under_its_full_name():
    TaskRequest = protobuf_class("hivewire.test", "TaskRequest")
    [serializer] = try_get_known_serializers_for_type(TaskRequest)
    assert serializer.type_name == "hivewire.test.TaskRequest"
    assert serializer.data_content_type == PROTOBUF_DATA_CONTENT_TYPE
    assert serializer.deserialize(serializer.serialize(TaskRequest(task_id="7"))) == TaskRequest(task_id="7")


def test_a_protobuf_payload_of_another_type_is_refused():
    payload = ProtobufMessageSerializer(struct_pb2.Struct).serialize(struct_pb2.Struct())
    with pytest.raises(SerializationError, match=r"google\.protobuf\.Timestamp.*holds google\.protobuf\.Struct"):
        ProtobufMessageSerializer(timestamp_pb2.Timestamp).deserialize(payload)


@pytest.mark.parametrize(
    ("serializer", "payload"),
    [
        (DataclassJsonMessageSerializer(TextMessage), b"\xff"),
        (DataclassJsonMessageSerializer(TextMessage), b""),
        (DataclassJsonMessageSerializer(TextMessage), b"null"),
        (DataclassJsonMessageSerializer(TextMessage), b"[]"),
        (DataclassJsonMessageSerializer(TextMessage), b'{"source":"x"}'),
        (DataclassJsonMessageSerializer(TextMessage), b'{"content":1}'),
        (PydanticJsonMessageSerializer(Model), b"{}"),
        (PydanticJsonMessageSerializer(Model), b"null"),
        (ProtobufMessageSerializer(timestamp_pb2.Timestamp), b"\xff"),
        (JsonValueMessageSerializer(str), b"1"),
        (JsonValueMessageSerializer(int), b"true"),
        (JsonValueMessageSerializer(int), b"1.5"),
        (JsonValueMessageSerializer(type(None)), b"0"),
        (JsonValueMessageSerializer(dict), b"[]"),
        (JsonValueMessageSerializer(dict), b"{"),
        (JsonValueMessageSerializer(list), b"\xff"),
        (JsonValueMessageSerializer(list), b"[" * 100_000),
    ],
)
def test_undecodable_bytes_are_an_error_that_names_type_and_content_type(serializer, payload):
    with pytest.raises(SerializationError) as caught:
        serializer.deserialize(payload)
    assert repr(serializer.type_name) in str(caught.value)
    assert serializer.data_content_type in str(caught.value)


def test_errors_name_the_field_but_not_what_was_in_it():
    with pytest.raises(SerializationError, match="content: ") as caught:
        DataclassJsonMessageSerializer(TextMessage).deserialize(b'{"content":["secret"]}')
    assert "secret" not in str(caught.value)


def test_a_whole_number_is_a_float_too():
    assert JsonValueMessageSerializer(float).deserialize(b"3") == 3.0
    assert type(JsonValueMessageSerializer(float).deserialize(b"3")) is float


@pytest.mark.parametrize("value", [{"a": object()}, [{1, 2}], {"p": Point(x=1)}, {(1, 2): 3}])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(SerializationError):
        round_trip(value)


def test_a_circular_value_is_refused():
    value: list[Any] = []
    value.append(value)
    with pytest.raises(SerializationError):
        round_trip(value)


def test_as_always_in_json_tuples_become_lists_and_keys_strings():
    assert round_trip({1: (2, 3)}) == {"1": [2, 3]}


def test_a_value_that_does_not_fit_its_hint_is_refused_before_it_is_sent():
    with pytest.raises(SerializationError, match=r"Cannot encode 'TextMessage' as application/json: content: "):
        round_trip(TextMessage(content=None))
    with pytest.raises(SerializationError, match="name: "):
        round_trip(Model.model_construct(name=[1]))


def test_a_value_that_the_receiver_can_read_is_sent_and_comes_back_as_hinted():
    tree = Tree(None, children=(Tree(None),))
    assert round_trip(tree) == Tree(None, children=[Tree(None)])


def test_a_dataclass_that_no_json_fits_may_exist_but_not_be_sent():
    @dataclass
    class Local:
        handle: "object_of_nowhere"  # noqa: F821

    class Handle:
        pass

    @dataclass
    class Open:
        handle: Handle

    for message, hint in ((Local(1), "object_of_nowhere"), (Open(Handle()), "Handle")):
        [serializer] = try_get_known_serializers_for_type(type(message))
        for _ in range(2):
            with pytest.raises(SerializationError, match=hint):
                serializer.serialize(message)


def test_fields_that_are_set_after_construction_come_back_too():
    @dataclass
    class Derived:
        base: int
        double: int = field(init=False)
        twice: int = field(init=False, default=2)

        def __post_init__(self) -> None:
            self.double = self.base * 2

    message = Derived(4)
    message.twice = 9
    assert round_trip(message) == message


def test_a_field_may_be_none_when_that_is_its_default_whatever_its_hint():
    @dataclass
    class Sloppy:
        name: str = None
        tags: list[str] = None

    assert round_trip(Sloppy()) == Sloppy()
    assert round_trip(Sloppy("a", ["b"])) == Sloppy("a", ["b"])


def test_unknown_fields_are_ignored_and_missing_ones_take_their_default():
    serializer = DataclassJsonMessageSerializer(TextMessage)
    assert serializer.deserialize(b'{"content":"a","added_later":1}') == TextMessage("a", "user")


def test_a_model_with_aliases_reads_what_it_writes():
    class Aliased(BaseModel):
        to_whom: str = Field(alias="toWhom")

    class Generated(BaseModel):
        model_config = ConfigDict(alias_generator=str.upper, serialize_by_alias=True)
        a_field: int

    assert round_trip(Aliased(toWhom="x")) == Aliased(toWhom="x")
    assert round_trip(Generated(A_FIELD=1)) == Generated(A_FIELD=1)


def test_a_model_that_overrides_its_json_keeps_its_say():
    class Own(BaseModel):
        value: int

        def model_dump_json(self, **kwargs: Any) -> str:
            return str(self.value)

        @classmethod
        def model_validate_json(cls, json_data: bytes, **kwargs: Any) -> "Own":
            return cls(value=int(json_data))

    serializer = PydanticJsonMessageSerializer(Own)
    assert serializer.serialize(Own(value=3)) == b"3"
    assert serializer.deserialize(b"3") == Own(value=3)


T = TypeVar("T")


class Response(BaseModel, Generic[T]):
    value: T


@dataclass
class Box(Generic[T]):
    value: T


def test_generic_models_and_dataclasses_travel():
    assert round_trip(Response[Point](value=Point(x=1))) == Response[Point](value=Point(x=1))
    assert round_trip(Box(3)) == Box(3)
    assert [s.cls for s in try_get_known_serializers_for_type(Box[int])] == [Box]


def test_the_built_in_serializers_name_their_type_and_content_type():
    for serializer, name in (
        (DataclassJsonMessageSerializer(TextMessage), "TextMessage"),
        (PydanticJsonMessageSerializer(Model), "Model"),
        (JsonValueMessageSerializer(type(None)), "NoneType"),
    ):
        assert (serializer.type_name, serializer.data_content_type) == (name, "application/json")
    assert (JSON_DATA_CONTENT_TYPE, PROTOBUF_DATA_CONTENT_TYPE) == ("application/json", "application/x-protobuf")
    assert repr(DataclassJsonMessageSerializer(TextMessage)) == "DataclassJsonMessageSerializer(TextMessage)"


@pytest.mark.parametrize("cls", [TextMessage, Model, struct_pb2.Struct, str, int, float, bool, None, dict, list])
def test_each_kind_of_message_has_one_known_serializer(cls):
    assert len(try_get_known_serializers_for_type(cls)) == 1


@pytest.mark.parametrize("hint", [list[int], dict[str, Any]])
def test_a_generic_hint_counts_as_its_class(hint):
    assert [s.cls for s in try_get_known_serializers_for_type(hint)] == [hint.__origin__]


@pytest.mark.parametrize("hint", [Any, object, bytes, tuple, int | str, T, "TextMessage", NewType("N", int), Color, 3])
def test_what_is_no_class_of_messages_has_no_serializer(hint):
    assert try_get_known_serializers_for_type(hint) == []


def test_the_protocol_gives_a_serializer_its_missing_properties():
    class Own(MessageSerializer[TextMessage]):
        pass

    class Named(MessageSerializer["TextMessage"]):
        pass

    class OfAnything(MessageSerializer):
        pass

    class OfAny(MessageSerializer[Any]):
        pass

    class OfNone(MessageSerializer[None]):
        pass

    class OfProtobuf(MessageSerializer[struct_pb2.Struct]):
        pass

    class OfList(MessageSerializer[list[int]]):
        pass

    class Family(MessageSerializer[T]):
        pass

    class Member(Family[TextMessage]):
        pass

    names = [cls().type_name for cls in (Own, Named, OfAnything, OfAny, OfNone, OfProtobuf, OfList, Family, Member)]
    assert names == [
        "TextMessage", "TextMessage", "", "", "NoneType", "google.protobuf.Struct", "list", "", "TextMessage"
    ]  # fmt: skip
    assert Family[TextMessage]().type_name == "TextMessage"
    assert Own().data_content_type == JSON_DATA_CONTENT_TYPE


@settings(deadline=None)
@given(st.builds(RpcCall, texts, st.dictionaries(texts, JSON_VALUES, max_size=3)))
def test_an_rpc_call_is_a_message(call):
    assert round_trip(call) == call


def test_an_rpc_call_needs_only_a_method():
    assert RpcCall("get_status").kwargs == {}


@settings(deadline=None)
@given(texts, texts, st.binary())
def test_an_unknown_payload_is_a_message_too(type_name, content_type, payload):
    unknown = UnknownPayload(type_name, content_type, payload)
    assert round_trip(unknown) == unknown
