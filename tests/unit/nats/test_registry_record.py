"""What the registry keeps of a type."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.exceptions import UnsupportedFormatError
from hivewire.nats.buckets import Entry
from hivewire.nats.event_stream import EventStream
from hivewire.nats.positions import SubscriptionChange
from hivewire.nats.registry import Beginning, Registry, TypeRecord, TypeShape, _shaped, read_marker
from hivewire.nats.session import SessionRecord, read_session
from hivewire.nats.subjects import Subjects
from hivewire.nats.topic_filters import TopicFilter

A = TopicFilter(kind="exact", value="a")
B = TopicFilter(kind="prefix", value="b.")
C = TopicFilter(kind="exact", value="c:d")

filters = st.builds(TopicFilter, kind=st.sampled_from(["exact", "prefix"]), value=st.text(max_size=5))
changes = st.lists(
    st.one_of(
        st.tuples(st.just("declare"), st.lists(filters, max_size=3)),
        st.tuples(st.just("add"), filters),
        st.tuples(st.just("remove"), filters),
    ),
    max_size=20,
)


def test_a_new_type_begins_with_a_change_even_without_subscriptions() -> None:
    assert TypeRecord(name="t").declare([]).change == 1


def test_declaring_the_same_again_changes_nothing() -> None:
    once = TypeRecord(name="t").declare([A, B])
    assert once.declare([B, A, A]) == once


def test_what_the_code_no_longer_declares_goes_away_and_what_was_added_stays() -> None:
    record = TypeRecord(name="t").declare([A, B]).add(C).declare([B])
    assert set(record.subscriptions.filters) == {B, C}
    assert record.change == 3


def test_adding_what_is_declared_changes_nothing() -> None:
    record = TypeRecord(name="t").declare([A])
    assert record.add(A) == record


def test_removing_takes_it_away_wherever_it_came_from() -> None:
    record = TypeRecord(name="t").declare([A]).add(B).remove(A).remove(B)
    assert record.subscriptions.filters == ()
    assert record.remove(C) == record


def test_what_is_added_and_then_declared_stays_one_subscription() -> None:
    record = TypeRecord(name="t").add(A).declare([A])
    assert record.subscriptions.filters == (A,)
    assert record.change == 1


@given(changes)
def test_the_count_of_changes_grows_with_each_change_of_the_set_and_only_then(steps: list[tuple[str, object]]) -> None:
    record = TypeRecord(name="t")
    for name, argument in steps:
        before = record
        record = getattr(record, name)(argument)
        same = set(record.subscriptions.filters) == set(before.subscriptions.filters)
        assert record.change == before.change + (0 if same and before.change else 1) or (
            # An addition of what is declared, or a removal of what is not there, is no change even of a new record.
            record == before
        )
        assert TypeRecord.from_json(record.to_json()) == record


def test_a_record_survives_its_bytes() -> None:
    record = TypeRecord(
        name="дом/x",
        shape=TypeShape(kind="sharded", shards=4),
        declared=frozenset({A.content_id, C.content_id}),
        added=frozenset({B.content_id}),
        change=9,
        marked=8,
        begins=Beginning(
            sequence=3, stream="2026-01-01T00:00:00Z", subscriptions=SubscriptionChange(change=1, filters=(A,))
        ),
    )
    assert TypeRecord.from_json(record.to_json()) == record
    assert TypeRecord.from_json(TypeRecord(name="t").to_json()) == TypeRecord(name="t")


def test_the_set_is_told_in_one_order_whoever_tells_it() -> None:
    one, other = TypeRecord(name="t").declare([A, B, C]), TypeRecord(name="t").declare([C, A]).add(B)
    assert one.subscriptions.filters == other.subscriptions.filters


def test_a_type_takes_its_shape_from_the_first_process_that_registers_it() -> None:
    shape = TypeShape(kind="sharded", shards=8)
    record = _shaped(TypeRecord(name="t").add(A), shape)
    assert record.shape == shape
    assert _shaped(record, shape) == record


def test_a_shape_is_never_changed() -> None:
    record = TypeRecord(name="t", shape=TypeShape(kind="sharded", shards=8))
    with pytest.raises(ValueError, match="'t' has 8 shards and this process wants 16"):
        _shaped(record, TypeShape(kind="sharded", shards=16))
    with pytest.raises(ValueError, match="registered as sharded and this process wants it stateless"):
        _shaped(record, TypeShape(kind="stateless", shards=1))


def test_a_marker_that_cannot_be_read_is_no_change() -> None:
    for payload in (b"", b"{}", b"[]", b"null", b'{"change": "x", "set": []}', b'{"change": 1, "set": ["nothing"]}'):
        assert read_marker(payload) is None
    assert read_marker(b'{"type":"t","change":2,"set":["exact:a"]}') == SubscriptionChange(change=2, filters=(A,))


def newer(record: TypeRecord | SessionRecord) -> bytes:
    return json.dumps({**json.loads(record.to_json()), "format": 2, "declared": {"a": "new shape"}}).encode()


def test_a_record_without_a_format_is_of_the_first_one() -> None:
    data = json.loads(TypeRecord(name="t").to_json())
    assert data.pop("format") == 1
    assert TypeRecord.from_json(json.dumps(data).encode()) == TypeRecord(name="t")


async def test_the_record_of_a_newer_version_is_refused_and_not_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bucket:
        async def get(self, key: str) -> Entry:
            return Entry(newer(TypeRecord(name="t")), 7)

        async def put(self, key: str, value: bytes, *, revision: int) -> int:
            raise AssertionError("it is written")

    nothing: Any = None
    registry = Registry(nothing, Subjects("default"), EventStream(nothing, "EVENTS", "S"))
    monkeypatch.setattr(registry, "_bucket", Bucket())
    shape = TypeShape(kind="sharded", shards=16)
    for change in (registry.declare("t", shape, [A]), registry.join("t", shape, [A]), registry.add("t", A)):
        with pytest.raises(UnsupportedFormatError, match=r"registry's record of t has format 2.*upgrade this process"):
            await change
    with pytest.raises(UnsupportedFormatError):
        await registry.remove("t", A)


def test_the_view_ignores_the_record_of_a_newer_version_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    nothing: Any = None
    registry = Registry(nothing, Subjects("default"), EventStream(nothing, "EVENTS", "S"))
    registry._on_entry("t.type", Entry(TypeRecord(name="t").declare([A]).to_json(), 1))
    registry._on_entry("u.type", Entry(newer(TypeRecord(name="u")), 2))
    assert [record.name for record in registry.types()] == ["t"]
    assert "has format 2" in caplog.text


def test_a_session_of_a_newer_version_takes_no_part(caplog: pytest.LogCaptureFixture) -> None:
    record = SessionRecord(session="s1", deployment="web", instance="host", state="serving", types=("t",))
    assert read_session(record.to_json()) == record
    assert read_session(newer(record)) is None
    assert "the session s1 has format 2" in caplog.text
