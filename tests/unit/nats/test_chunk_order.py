"""Chunks in the order of their numbers, however they were stored."""

from hypothesis import given
from hypothesis import strategies as st

from hivewire.nats.chunk_order import AT_ONCE, ChunkOrder, ChunkSearch, Place
from hivewire.nats.envelope import ReplyEnvelope, ReplyStatus


def record(number: int, status: ReplyStatus = "value") -> ReplyEnvelope:
    return ReplyEnvelope(number=number, status=status)


def taken(order: ChunkOrder) -> list[tuple[int | None, str]]:
    records = []
    while (each := order.take()) is not None:
        records.append((each.number, each.status))
    return records


@st.composite
def stored(draw: st.DrawFn) -> list[ReplyEnvelope]:
    """What a producer stores whose chunks may be lost on their way, and whose acknowledgements may be."""
    count = draw(st.integers(0, 150))
    log = [record(0, "alive")]
    under_way: list[int] = []
    number = 0
    while number < count or under_way:
        if number < count and (not under_way or (number + 1 - under_way[0] < AT_ONCE and draw(st.booleans()))):
            number += 1
            each = number
            under_way.append(each)
        else:
            each = draw(st.sampled_from(under_way))
        fate = draw(st.sampled_from(["acknowledged", "acknowledged", "acknowledged", "lost", "stored"]))
        if fate != "lost":
            log.append(record(each))
        if fate == "acknowledged":
            under_way.remove(each)
    log.append(record(count + 1, draw(st.sampled_from(["end", "error"]))))
    return log


@given(stored(), st.data())
def test_a_reader_gets_each_chunk_once_and_in_order_however_often_it_begins_anew(
    log: list[ReplyEnvelope], data: st.DataObject
) -> None:
    last = log[-1].number or 0
    after = data.draw(st.integers(0, last - 1))
    order = ChunkOrder(after)
    read = []
    for index, each in enumerate(log):
        order.arrive(each)
        if data.draw(st.integers(0, 20)) == 0:
            for again in log[data.draw(st.integers(0, index)) : index + 1]:
                order.arrive(again)
        assert not order.is_broken and not order.is_beyond
        read += taken(order)
    assert read == [(number, "value") for number in range(after + 1, last)] + [(last, log[-1].status)]
    assert order.missing is None and len(order) == 0


@given(stored(), st.data())
def test_a_search_finds_where_a_reader_misses_nothing(log: list[ReplyEnvelope], data: st.DataObject) -> None:
    last = log[-1].number or 0
    after = data.draw(st.integers(0, last + 40))
    # Other streams are stored in between.
    steps = data.draw(st.lists(st.integers(1, 50), min_size=len(log), max_size=len(log)))
    places, sequence = [], 0
    for each, step in zip(log, steps, strict=True):
        sequence += step
        places.append(Place(sequence=sequence, number=each.number or 0))
    search = ChunkSearch(after=after, first=places[0], last=places[-1])
    questions = 0
    while (question := search.question) is not None:
        questions += 1
        search.answer(next(place for place in places if place.sequence >= question))
    assert questions <= 14
    order = ChunkOrder(after)
    for each, place in zip(log, places, strict=True):
        if place.sequence >= search.start:
            order.arrive(each)
    assert order.is_beyond == (after >= last)
    if after < last:
        assert [number for number, _ in taken(order)] == list(range(after + 1, last + 1))


@given(stored(), st.data())
def test_what_is_dropped_is_told_and_never_passed_over(log: list[ReplyEnvelope], data: st.DataObject) -> None:
    last = log[-1].number or 0
    dropped = data.draw(st.integers(0, len(log) - 1))
    after = data.draw(st.integers(0, last - 1))
    order = ChunkOrder(after)
    for each in log[dropped:]:
        order.arrive(each)
    kept = {each.number for each in log[dropped:]}
    wanted = list(range(after + 1, last + 1))
    read = [number for number, _ in taken(order)]
    if kept.issuperset(wanted):
        assert read == wanted and not order.is_broken
    else:
        assert read == wanted[: len(read)] and order.is_broken


def test_an_error_takes_the_place_of_the_first_chunk_that_was_not_stored() -> None:
    order = ChunkOrder(0)
    for each in (record(1), record(2), record(4), record(5), record(3, "error")):
        order.arrive(each)
    assert taken(order) == [(1, "value"), (2, "value"), (3, "error")]
    assert not order.is_broken and len(order) == 0


def test_an_error_ends_the_stream_also_when_the_chunk_of_its_number_was_stored_after_all() -> None:
    for after in (0, 3, 4):
        order = ChunkOrder(after)
        for each in (record(1), record(2), record(3), record(4), record(3, "error"), record(3, "error")):
            order.arrive(each)
        assert taken(order) == [*[(number, "value") for number in range(after + 1, 5)], (3, "error")]
        assert not order.is_broken and not order.is_beyond


def test_a_chunk_that_is_too_far_behind_does_not_come_any_more() -> None:
    order = ChunkOrder(10)
    order.arrive(record(12))
    assert order.missing == 11 and not order.is_broken
    order.arrive(record(11 + AT_ONCE))
    assert order.is_broken


def test_a_stream_that_ended_before_the_chunk_to_begin_after_is_told_apart() -> None:
    order = ChunkOrder(3)
    order.arrive(record(2))
    assert not order.is_beyond
    order.arrive(record(3, "end"))
    assert order.is_beyond and order.take() is None
