"""Messages through their serializers. The local runtime does it here too, so that both meet the same bytes."""

import datetime
import decimal
import enum
import json
import math
import pathlib
import uuid
import warnings
from dataclasses import InitVar, dataclass, field
from typing import Any, Generic, Literal, TypeVar

import pytest
from google.protobuf import struct_pb2, timestamp_pb2, wrappers_pb2
from pydantic import BaseModel, Field

from contract.support import (
    Inbox,
    MakeRuntime,
    Number,
    Runtime,
    Scripted,
    Settle,
    Text,
    echo,
    ignore,
    only_network,
    serve,
    until,
)
from hivewire import (
    PROTOBUF_DATA_CONTENT_TYPE,
    AgentId,
    DataclassJsonMessageSerializer,
    FunctionCall,
    Image,
    MessageContext,
    MessageSerializer,
    ProtobufMessageSerializer,
    PydanticJsonMessageSerializer,
    RoutedAgent,
    RpcCall,
    SerializationError,
    TopicId,
    UnknownPayload,
    message_handler,
)

AGENT = AgentId("agent", "k")
TOPIC = TopicId("t", "k")
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Leaf:
    name: str
    weight: float = 1.0


@dataclass
class OtherLeaf:
    name: str
    petals: int


@dataclass
class Tree:
    leaf: Leaf
    leaves: list[Leaf] = field(default_factory=list)
    by_name: dict[str, "Leaf"] = field(default_factory=dict)
    either: "Leaf | OtherLeaf | None" = None
    pair: tuple[Leaf, int] | None = None
    child: "Tree | None" = None


@dataclass
class Everything:
    flag: bool
    number: int
    ratio: float
    text: str
    data: bytes
    nothing: None
    anything: Any
    optional: str | None
    when: datetime.datetime
    day: datetime.date
    span: datetime.timedelta
    id: uuid.UUID
    colour: Colour
    choice: Literal["a", "b"]
    numbers: list[int]
    names: set[str]
    pairs: tuple[int, ...]
    table: dict[str, list[int]]
    by_number: dict[int, str]
    price: decimal.Decimal
    path: pathlib.PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    value: int
    leaf: Leaf


@dataclass
class Base:
    a: int


@dataclass
class Derived(Base):
    b: int


@dataclass
class Twin:
    name: str


@dataclass
class OtherTwin:
    name: str


@dataclass
class Twins:
    one: Twin | OtherTwin
    many: list[Twin | OtherTwin]


@dataclass
class Computed:
    value: int
    scale: InitVar[int] = 1
    double: int = field(init=False, default=0)

    def __post_init__(self, scale: int) -> None:
        self.value *= scale
        self.double = 2 * self.value


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class WithIds:
    agent: AgentId
    agents: list[AgentId]
    topic: TopicId | None = None


class Address(BaseModel):
    street: str
    number: int | None = None


class Person(BaseModel):
    name: str = Field(min_length=1)
    addresses: list[Address] = Field(default_factory=list)
    home: Address | None = None
    leaf: Leaf | None = None
    friends: "list[Person]" = Field(default_factory=list)


class Empty(BaseModel):
    pass


class Aliased(BaseModel):
    value: int = Field(alias="v")


class Open(BaseModel, extra="allow"):
    value: int


class Wrapped(BaseModel, Generic[T]):
    content: T


@dataclass
class WithModel:
    person: Person
    people: dict[str, Person]


TREE = Tree(
    leaf=Leaf("a", 0.1),
    leaves=[Leaf("b"), Leaf("c", -1.5)],
    by_name={"d": Leaf("d")},
    either=OtherLeaf("e", 5),
    pair=(Leaf("f"), 6),
    child=Tree(leaf=Leaf("g"), either=Leaf("h")),
)
EVERYTHING = Everything(
    flag=True,
    number=2**70,
    ratio=0.1,
    text='tab\t, line\n, quote", ünicode 🐝, zero \x00',
    data=b"\x00\xff\xfe",
    nothing=None,
    anything={"nested": [1, "a", None, {"b": 1.5}]},
    optional=None,
    when=datetime.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=datetime.UTC),
    day=datetime.date(2026, 1, 2),
    span=datetime.timedelta(days=1, seconds=2),
    id=uuid.UUID(int=7),
    colour=Colour.BLUE,
    choice="b",
    numbers=[],
    names={"a", "b"},
    pairs=(1, 2, 3),
    table={"": [1], "x": []},
    by_number={1: "a", -2: "b"},
    price=decimal.Decimal("1.10"),
    path=pathlib.PurePosixPath("/a b"),
)
PERSON = Person(
    name="Ann",
    addresses=[Address(street="Main", number=1), Address(street="Side")],
    home=Address(street="Hill"),
    leaf=Leaf("p"),
    friends=[Person(name="Bob")],
)


def struct(**fields: Any) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(fields)
    return message


MESSAGES: list[Any] = [
    "text",
    "",
    "ünicode 🐝 \n\t\x00",
    "\ud800 lone",
    0,
    -1,
    2**70,
    1.0,
    0.1,
    -0.0,
    math.inf,
    -math.inf,
    True,
    False,
    None,
    {},
    {"a": 1, "b": [None, {"c": "d"}], "": 1.5},
    [],
    [1, "a", None, [2.5, {}]],
    Leaf("a"),
    TREE,
    EVERYTHING,
    Frozen(value=1, leaf=Leaf("a")),
    Derived(1, 2),
    Twins(OtherTwin("a"), [Twin("b"), OtherTwin("b")]),
    Computed(2, scale=3),
    PERSON,
    Person(name="Bob"),
    Empty(),
    Aliased(v=1),
    Open(value=1, other="x"),
    Wrapped[int](content=1),
    WithModel(person=PERSON, people={"b": Person(name="Bob")}),
    wrappers_pb2.StringValue(value="ünicode 🐝"),
    wrappers_pb2.BytesValue(value=b"\x00\xff"),
    timestamp_pb2.Timestamp(seconds=1, nanos=2),
    struct(a=1, b="x", c=[True, None]),
    wrappers_pb2.StringValue(),
    RpcCall("method", {"a": 1}),
    FunctionCall(id="1", arguments='{"a": 1}', name="f"),
    WithIds(AgentId("a", "k/ü"), [AgentId("b", "")], TopicId("t", "s")),
    UnknownPayload("name", "application/json", b"\x00\xff"),
]
NAMES = [f"{number}-{type(message).__name__}" for number, message in enumerate(MESSAGES)]


@pytest.mark.parametrize("message", MESSAGES, ids=NAMES)
async def test_a_message_survives_the_way_there_and_back(copying_runtime: Runtime, message: Any) -> None:
    inbox = await serve(copying_runtime, "agent", echo)
    answer = await copying_runtime.send_message(message, AGENT)

    for arrived in (inbox.only.message, answer):
        assert arrived == message
        assert type(arrived) is type(message)


async def test_events_survive_their_way(copying_runtime: Runtime, settle: Settle) -> None:
    inbox = await serve(copying_runtime, "agent", ignore, "t")
    for message in MESSAGES:
        await copying_runtime.publish_message(message, TOPIC)
    await settle(copying_runtime)

    assert inbox.messages == MESSAGES
    assert [type(message) for message in inbox.messages] == [type(message) for message in MESSAGES]


async def test_what_is_no_number_stays_none(copying_runtime: Runtime) -> None:
    await serve(copying_runtime, "agent")

    assert math.isnan(await copying_runtime.send_message(math.nan, AGENT))
    assert math.isnan((await copying_runtime.send_message(Leaf("a", math.nan), AGENT)).weight)


async def test_an_image_survives_in_a_model(copying_runtime: Runtime) -> None:
    pillow = pytest.importorskip("PIL.Image")

    class Picture(BaseModel):
        image: Image

    await serve(copying_runtime, "agent")
    sent = Picture(image=Image(pillow.new("RGB", (2, 3), "red")))

    answer = await copying_runtime.send_message(sent, AGENT)
    assert answer.image.to_base64() == sent.image.to_base64()


async def test_nested_things_come_back_as_their_classes(copying_runtime: Runtime) -> None:
    await serve(copying_runtime, "agent")
    tree: Tree = await copying_runtime.send_message(TREE, AGENT)
    person: Person = await copying_runtime.send_message(PERSON, AGENT)

    assert isinstance(tree.child, Tree)
    assert isinstance(tree.either, OtherLeaf)
    assert isinstance(tree.child.either, Leaf)
    assert [type(leaf) for leaf in (*tree.leaves, *tree.by_name.values())] == [Leaf] * 3
    assert isinstance(person.friends[0], Person)
    assert isinstance(person.leaf, Leaf)


async def test_a_generic_message_comes_back(copying_runtime: Runtime) -> None:
    await serve(copying_runtime, "agent")

    assert await copying_runtime.send_message(Box([1, 2]), AGENT) == Box([1, 2])


async def test_each_side_knows_the_types_that_it_handles_and_sends(copying_runtime: Runtime) -> None:
    class Routed(RoutedAgent):
        @message_handler
        async def on_tree(self, message: Tree | Person, ctx: MessageContext) -> Leaf | Address:
            return message.leaf if isinstance(message, Tree) else message.addresses[0]

    await Routed.register(copying_runtime, "agent", Routed)

    assert await copying_runtime.send_message(TREE, AGENT) == Leaf("a", 0.1)
    assert await copying_runtime.send_message(PERSON, AGENT) == Address(street="Main", number=1)


@pytest.mark.parametrize("message", [object(), {1: object()}, lambda: None, Leaf], ids=["object", "dict", "fn", "type"])
async def test_what_nothing_serializes_is_an_error_before_it_is_sent(copying_runtime: Runtime, message: Any) -> None:
    inbox = await serve(copying_runtime, "agent")
    with pytest.raises(SerializationError):
        await copying_runtime.send_message(message, AGENT)

    assert inbox.received == []
    assert await copying_runtime.send_message("x", AGENT) == "x"


async def test_an_answer_that_nothing_serializes_is_an_error_of_the_caller(copying_runtime: Runtime) -> None:
    async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> object:
        return object()

    await serve(copying_runtime, "agent", answer)
    with pytest.raises(SerializationError):
        await copying_runtime.send_message("x", AGENT)


class Reversing(MessageSerializer[str]):
    """Replaces the built-in serializer of texts."""

    def serialize(self, message: str) -> bytes:
        return json.dumps(message[::-1]).encode()

    def deserialize(self, payload: bytes) -> str:
        text: str = json.loads(payload)
        return text[::-1] + "!"


class Versioned(MessageSerializer[Leaf]):
    """Has a type name of its own, and refuses what it does not know."""

    @property
    def data_content_type(self) -> str:
        return "application/json"

    @property
    def type_name(self) -> str:
        return "leaf_v1"

    def serialize(self, message: Leaf) -> bytes:
        if message.weight == 2:
            raise ValueError("version 2 is not supported")
        return json.dumps({"version": 1, "name": message.name}).encode()

    def deserialize(self, payload: bytes) -> Leaf:
        data = json.loads(payload)
        if data["name"] == "unreadable":
            raise KeyError("missing")
        return Leaf(data["name"], 99)


class TwoArguments:
    """Has neither type name nor content type, and wants the type name to decode."""

    def serialize(self, message: Any) -> bytes:
        return json.dumps(vars(message)).encode()

    def deserialize(self, data: bytes, type_name: str) -> Any:
        return {"type": type_name, **json.loads(data)}


class RawProtobuf(MessageSerializer[wrappers_pb2.StringValue]):
    """Spells the content type of protobuf the other way."""

    @property
    def data_content_type(self) -> str:
        return "application/protobuf"

    def serialize(self, message: wrappers_pb2.StringValue) -> bytes:
        return message.SerializeToString()

    def deserialize(self, payload: bytes) -> wrappers_pb2.StringValue:
        return wrappers_pb2.StringValue.FromString(payload)


class Opaque:
    def __init__(self, value: int) -> None:
        self.value = value


class TestCustomSerializers:
    async def test_one_replaces_the_built_in_one(self, copying_runtime: Runtime) -> None:
        copying_runtime.add_message_serializer(Reversing())
        inbox = await serve(copying_runtime, "agent")

        assert await copying_runtime.send_message("abc", AGENT) == "abc!!"
        assert inbox.messages == ["abc!"]

    async def test_one_replaces_the_built_in_one_also_after_that_was_used(self, copying_runtime: Runtime) -> None:
        await serve(copying_runtime, "agent")
        assert await copying_runtime.send_message("abc", AGENT) == "abc"
        copying_runtime.add_message_serializer([Reversing()])

        assert await copying_runtime.send_message("abc", AGENT) == "abc!!"

    async def test_a_later_one_replaces_an_earlier_one(self, copying_runtime: Runtime) -> None:
        class Shouting(Reversing):
            def deserialize(self, payload: bytes) -> str:
                return super().deserialize(payload).upper()

        copying_runtime.add_message_serializer(Reversing())
        copying_runtime.add_message_serializer(Shouting())
        await serve(copying_runtime, "agent")

        assert await copying_runtime.send_message("abc", AGENT) == "ABC!!"

    async def test_one_may_name_its_type_as_it_likes(self, copying_runtime: Runtime) -> None:
        copying_runtime.add_message_serializer(Versioned())
        inbox = await serve(copying_runtime, "agent", echo, "t")

        assert await copying_runtime.send_message(Leaf("a"), AGENT) == Leaf("a", 99)
        await copying_runtime.publish_message(Leaf("b"), TOPIC)
        await until(lambda: inbox.messages == [Leaf("a", 99), Leaf("b", 99)])

    async def test_it_is_also_used_where_the_class_is_handled(self, copying_runtime: Runtime) -> None:
        class Routed(RoutedAgent):
            @message_handler
            async def on_leaf(self, message: Leaf, ctx: MessageContext) -> Leaf:
                return message

        copying_runtime.add_message_serializer(Versioned())
        await Routed.register(copying_runtime, "agent", Routed)

        assert await copying_runtime.send_message(Leaf("a"), AGENT) == Leaf("a", 99)

    async def test_what_it_raises_when_it_encodes_is_an_error_of_the_sender(self, copying_runtime: Runtime) -> None:
        copying_runtime.add_message_serializer(Versioned())
        inbox = await serve(copying_runtime, "agent")

        with pytest.raises(SerializationError, match="version 2 is not supported"):
            await copying_runtime.send_message(Leaf("a", 2), AGENT)
        assert inbox.received == []

    async def test_what_it_raises_when_it_decodes_is_an_error_of_the_sender(self, copying_runtime: Runtime) -> None:
        copying_runtime.add_message_serializer(Versioned())
        inbox = await serve(copying_runtime, "agent")

        with pytest.raises(SerializationError, match=r"leaf_v1.*application/json"):
            await copying_runtime.send_message(Leaf("unreadable"), AGENT)
        assert inbox.received == []
        assert await copying_runtime.send_message(Leaf("a"), AGENT) == Leaf("a", 99)

    async def test_an_event_that_cannot_be_decoded_disturbs_no_other(self, copying_runtime: Runtime) -> None:
        copying_runtime.add_message_serializer(Versioned())
        inbox = await serve(copying_runtime, "agent", ignore, "t")
        for name in ("a", "unreadable", "b"):
            await copying_runtime.publish_message(Leaf(name), TOPIC)

        await until(lambda: inbox.messages == [Leaf("a", 99), Leaf("b", 99)])

    async def test_one_without_names_that_wants_the_type_name_is_the_last_resort(
        self, copying_runtime: Runtime
    ) -> None:
        two_arguments: Any = TwoArguments()
        copying_runtime.add_message_serializer(two_arguments)
        inbox = await serve(copying_runtime, "agent", ignore)
        await copying_runtime.send_message(Opaque(1), AGENT)

        assert inbox.messages == [{"type": "Opaque", "value": 1}]

    async def test_protobuf_has_two_spellings(self, copying_runtime: Runtime) -> None:
        copying_runtime.add_message_serializer(RawProtobuf())
        await serve(copying_runtime, "agent")

        message = wrappers_pb2.StringValue(value="x")
        assert await copying_runtime.send_message(message, AGENT) == message

    @pytest.mark.parametrize(
        ("serializer", "message"),
        [
            (DataclassJsonMessageSerializer(Leaf), Leaf("a")),
            (PydanticJsonMessageSerializer(Address), Address(street="Main")),
            (ProtobufMessageSerializer(wrappers_pb2.StringValue), wrappers_pb2.StringValue(value="a")),
        ],
        ids=["dataclass", "pydantic", "protobuf"],
    )
    async def test_the_built_in_ones_may_be_added_by_hand(
        self, copying_runtime: Runtime, serializer: Any, message: Any
    ) -> None:
        copying_runtime.add_message_serializer(serializer)
        await serve(copying_runtime, "agent")

        assert await copying_runtime.send_message(message, AGENT) == message
        assert PROTOBUF_DATA_CONTENT_TYPE == "application/x-protobuf"


class First:
    @dataclass
    class Same:
        a: int


class Second:
    @dataclass
    class Same:
        b: str


async def test_two_classes_of_one_name_are_warned_of_and_each_arrives_where_it_is_handled(
    copying_runtime: Runtime,
) -> None:
    def routed(handled: Any, inbox: list[Any]) -> type[RoutedAgent]:
        class Routed(RoutedAgent):
            @message_handler
            async def on_message_of_that_name(self, message: handled, ctx: MessageContext) -> None:
                inbox.append(message)

        return Routed

    firsts: list[Any] = []
    seconds: list[Any] = []
    first, second = routed(First.Same, firsts), routed(Second.Same, seconds)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await first.register(copying_runtime, "first", first)
        await second.register(copying_runtime, "second", second)
        await copying_runtime.send_message(First.Same(1), AgentId("first", "k"))
        await copying_runtime.send_message(Second.Same("x"), AgentId("second", "k"))

    assert any("First.Same" in str(each.message) and "Second.Same" in str(each.message) for each in caught)
    assert (firsts, seconds) == ([First.Same(1)], [Second.Same("x")])


class Alien(MessageSerializer[Leaf]):
    """What only the sender knows."""

    @property
    def type_name(self) -> str:
        return "alien.v1"

    def serialize(self, message: Leaf) -> bytes:
        return b"{}"

    def deserialize(self, payload: bytes) -> Leaf:
        return Leaf("never")


@only_network
class TestUnknownTypes:
    async def pair(self, make_runtime: MakeRuntime, namespace: str, **options: Any) -> tuple[Runtime, Runtime, Inbox]:
        sending, serving = (make_runtime(namespace=namespace, **options) for _ in range(2))
        inbox = await serve(serving, "agent", echo, "t")
        sending.add_message_serializer(Alien())
        for runtime in (serving, sending):
            await runtime.start()
        return sending, serving, inbox

    async def test_they_arrive_as_unknown_payloads_with_a_warning(
        self, make_runtime: MakeRuntime, namespace: str
    ) -> None:
        sending, _, inbox = await self.pair(make_runtime, namespace)
        unknown = UnknownPayload("alien.v1", "application/json", b"{}")

        with pytest.warns(RuntimeWarning, match=r"alien\.v1"):
            await sending.send_message(Leaf("a"), AGENT)
        with pytest.warns(RuntimeWarning, match=r"alien\.v1"):
            await sending.publish_message(Leaf("a"), TOPIC)
            await until(lambda: inbox.messages == [unknown, unknown])

    async def test_an_unknown_answer_comes_back_as_one_too(self, make_runtime: MakeRuntime, namespace: str) -> None:
        async def answer(agent: Scripted, message: Any, ctx: MessageContext) -> Leaf:
            return Leaf("a")

        asking, serving = (make_runtime(namespace=namespace) for _ in range(2))
        await serve(serving, "agent", answer)
        serving.add_message_serializer(Alien())
        for runtime in (serving, asking):
            await runtime.start()

        with pytest.warns(RuntimeWarning, match=r"alien\.v1"):
            assert await asking.send_message("x", AGENT) == UnknownPayload("alien.v1", "application/json", b"{}")

    async def test_a_runtime_may_make_them_an_error(self, make_runtime: MakeRuntime, namespace: str) -> None:
        sending, _, inbox = await self.pair(make_runtime, namespace, strict_payloads=True)

        with pytest.raises(SerializationError, match=r"alien\.v1"):
            await sending.send_message(Leaf("a"), AGENT)
        assert inbox.received == []

    async def test_an_answer_of_a_class_that_the_caller_has_not_used_yet_is_found(
        self, make_runtime: MakeRuntime, namespace: str
    ) -> None:
        async def answer(agent: Scripted, message: Number, ctx: MessageContext) -> Text:
            return Text(str(message.value))

        asking, serving = (make_runtime(namespace=namespace) for _ in range(2))
        await serve(serving, "agent", answer)
        for runtime in (serving, asking):
            await runtime.start()

        assert await asking.send_message(Number(1), AGENT) == Text("1")
