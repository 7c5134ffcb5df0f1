import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from hivewire.model.serialization import DataclassJsonMessageSerializer


@dataclass
class Started:
    id: str
    at: bytes = b""


@dataclass
class Stopped:
    id: str


@dataclass
class Renamed(Stopped):
    name: str = ""


class Failed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    id: str


@dataclass
class Circle:
    radius: float


@dataclass
class Square:
    side: float


@dataclass
class Log:
    last: Stopped | Started | Failed | None
    entries: "list[Started | Stopped | Renamed]" = field(default_factory=list)
    by_id: dict[str, Failed | Stopped] = field(default_factory=dict)
    when: datetime | str = ""
    raw: bytes | str = ""
    items: tuple[int, ...] | set[int] | list[int] = ()
    nested: "Log | Stopped | None" = None


LOG = DataclassJsonMessageSerializer(Log)

ids = st.text(max_size=3)
started = st.builds(Started, ids, st.binary(max_size=3))
stopped = st.builds(Stopped, ids)
failed = st.builds(Failed, id=ids)
logs = st.recursive(
    st.builds(
        Log,
        last=st.none() | stopped | started | failed,
        entries=st.lists(started | stopped | st.builds(Renamed, ids, ids), max_size=3),
        by_id=st.dictionaries(ids, failed | stopped, max_size=2),
        when=st.datetimes() | st.datetimes().map(str) | ids,
        raw=st.binary(max_size=3) | ids,
        items=st.lists(st.integers(), max_size=2)
        | st.sets(st.integers(), max_size=2)
        | st.lists(st.integers(), max_size=2).map(tuple),
    ),
    lambda inner: st.builds(Log, last=st.none(), nested=inner | stopped),
    max_leaves=3,
)


@settings(deadline=None)
@given(logs)
def test_every_member_of_a_union_comes_back_as_its_class(log):
    assert LOG.deserialize(LOG.serialize(log)) == log


@dataclass
class Drawing:
    shapes: list[Circle | Square]
    label: int | str | None = None


def test_members_that_json_tells_apart_stay_plain():
    serializer = DataclassJsonMessageSerializer(Drawing)
    drawing = Drawing([Circle(1), Square(2)], "x")
    assert serializer.serialize(drawing) == b'{"shapes":[{"radius":1.0},{"side":2.0}],"label":"x"}'
    assert serializer.deserialize(serializer.serialize(drawing)) == drawing


def test_a_tag_is_written_only_where_it_is_needed():
    assert json.loads(LOG.serialize(Log(Stopped("1"))))["last"] == {"id": "1"}
    assert json.loads(LOG.serialize(Log(Failed(id="1"))))["last"] == {"$type": "Failed", "$value": {"id": "1"}}
    assert json.loads(LOG.serialize(Log(None, when=datetime(2024, 1, 1))))["when"] == "2024-01-01T00:00:00"
    assert json.loads(LOG.serialize(Log(None, when="2024-01-01")))["when"] == "2024-01-01"
    assert json.loads(LOG.serialize(Log(None, when="2024-01-01T00:00:00")))["when"] == {
        "$type": "str",
        "$value": "2024-01-01T00:00:00",
    }


def test_plain_members_of_other_writers_are_read():
    assert LOG.deserialize(b'{"last":{"id":"1","at":"eA=="}}') == Log(Started("1", b"x"))


def test_a_message_that_looks_like_a_tag_is_not_mistaken_for_one():
    @dataclass
    class Loose:
        value: dict[str, Any] | Circle

    serializer = DataclassJsonMessageSerializer(Loose)
    for value in ({"$type": "Circle", "$value": {"radius": 1.0}}, {"$type": "dict"}, {"radius": 1.0}, Circle(1.0)):
        assert serializer.deserialize(serializer.serialize(Loose(value))) == Loose(value)


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


@dataclass
class Home:
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    other: Cat | Dog


def test_unions_with_a_discriminator_stay_plain():
    serializer = DataclassJsonMessageSerializer(Home)
    assert serializer.serialize(Home(Dog(), Dog())) == b'{"pet":{"kind":"dog"},"other":{"kind":"dog"}}'
    assert serializer.deserialize(serializer.serialize(Home(Dog(), Cat()))) == Home(Dog(), Cat())


class Envelope(BaseModel):
    content: Stopped | Started


@dataclass
class Carrier:
    envelope: Envelope | None
    last: Started | Stopped | None = None


def test_a_model_inside_a_dataclass_writes_its_own_json():
    serializer = DataclassJsonMessageSerializer(Carrier)
    carrier = Carrier(Envelope(content=Stopped("1")), Stopped("2"))
    assert json.loads(serializer.serialize(carrier))["envelope"] == {"content": {"id": "1"}}
    assert serializer.deserialize(serializer.serialize(carrier)) == carrier


def test_members_of_one_name_are_told_apart_by_their_place():
    def made(name: str) -> type:
        @dataclass
        class Event:
            id: str

        Event.__doc__ = name
        return Event

    First, Second = made("first"), made("second")

    @dataclass
    class Holder:
        event: First | Second

    serializer = DataclassJsonMessageSerializer(Holder)
    for cls in (First, Second):
        assert type(serializer.deserialize(serializer.serialize(Holder(cls("1")))).event) is cls


def test_equality_that_raises_only_costs_a_tag():
    @dataclass(eq=False)
    class Odd:
        id: str

        def __eq__(self, other: object) -> bool:
            raise TypeError("not comparable")

        __hash__ = None

    @dataclass
    class Holder:
        value: Odd | Stopped

    serializer = DataclassJsonMessageSerializer(Holder)
    payload = serializer.serialize(Holder(Odd("1")))
    assert json.loads(payload)["value"]["$type"] == "Odd"
    assert serializer.deserialize(payload).value.id == "1"


@pytest.mark.parametrize("tag", ["Nobody", 1, None])
def test_an_unknown_tag_is_no_tag(tag):
    payload = json.dumps({"last": {"$type": tag, "$value": {"id": "1"}}}).encode()
    with pytest.raises(ValueError, match="Cannot decode 'Log'"):
        LOG.deserialize(payload)
