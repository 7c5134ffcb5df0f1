import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from hivewire.nats.topic_filters import MAX_TOPIC_BYTES, TopicFilter, minimal_tails, topic_tokens, topic_type_of

# Few letters, so that prefixes, separators and equal parts are frequent.
topic_types = st.text(alphabet="ab.:=é", max_size=12)
filters = st.builds(TopicFilter, kind=st.sampled_from(["exact", "prefix"]), value=topic_types)


def exact(value: str) -> TopicFilter:
    return TopicFilter(kind="exact", value=value)


def prefix(value: str) -> TopicFilter:
    return TopicFilter(kind="prefix", value=value)


def covers(pattern: str, subject: str) -> bool:
    """Tell whether a NATS subject pattern takes a subject."""
    patterns, tokens = pattern.split("."), subject.split(".")
    for index, part in enumerate(patterns):
        if part == ">":
            return len(tokens) > index
        if index >= len(tokens) or part not in ("*", tokens[index]):
            return False
    return len(patterns) == len(tokens)


def overlap(one: str, other: str) -> bool:
    """Tell whether some subject matches both patterns, as the server decides it."""
    ones, others = one.split("."), other.split(".")
    for index in range(max(len(ones), len(others))):
        if index >= len(ones) or index >= len(others):
            return False
        left, right = ones[index], others[index]
        if ">" in (left, right):
            return True
        if "*" not in (left, right) and left != right:
            return False
    return True


@pytest.mark.parametrize(
    ("topic_type", "expected"),
    [
        ("a.b", "a.b"),
        ("worker:x", "worker=3A.x"),
        ("worker:", "worker=3A.="),
        ("a:.b", "a=3A.=.b"),
        ("", "="),
        (".", "=.="),
        ("a..b", "a.=.b"),
        ("a::b", "a=3A.=3A.b"),
        ("a=b", "a=3Db"),
    ],
)
def test_a_topic_type_is_cut_at_dots_and_after_colons(topic_type: str, expected: str) -> None:
    assert topic_tokens(topic_type) == expected
    assert topic_type_of(expected) == topic_type


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_every_topic_type_comes_back_unless_a_part_is_hashed(topic_type: str) -> None:
    tokens = topic_tokens(topic_type)
    assert topic_type_of(tokens) == (None if "==" in tokens else topic_type)


@given(topic_types, topic_types)
def test_different_topic_types_have_different_tokens(one: str, other: str) -> None:
    assert (topic_tokens(one) == topic_tokens(other)) == (one == other)


def test_a_topic_type_with_a_hashed_part_can_not_be_read_back() -> None:
    assert topic_type_of(topic_tokens("task." + "x" * 200)) is None


@pytest.mark.parametrize("invalid", ["", "a..b", "a=3A", "a=3Ab", "a.b=3A", "*", ">"])
def test_tokens_of_no_topic_type_are_refused(invalid: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        topic_type_of(invalid)


def test_a_topic_type_over_the_limit_is_refused_with_what_to_do() -> None:
    longest = ".".join(["a" * 99] * 10) + "." + "b" * 24
    assert len(topic_tokens(longest)) == MAX_TOPIC_BYTES
    for too_long in (topic_tokens, lambda value: exact(value).tail(), lambda value: prefix(value).tail()):
        with pytest.raises(ValueError, match="1024 is the limit: use a shorter topic type"):
            too_long(longest + "b")


@pytest.mark.parametrize(
    ("topic_filter", "expected"),
    [
        (exact("a.b"), "a.b"),
        (exact("worker:"), "worker=3A.="),
        (prefix(""), ">"),
        (prefix("task"), ">"),
        (prefix("task."), "task.>"),
        (prefix("task.x"), "task.>"),
        (prefix("worker:"), "worker=3A.>"),
        (prefix("worker:x"), "worker=3A.>"),
        (prefix("a.b:."), "a.b=3A.=.>"),
    ],
)
def test_a_tail_is_the_narrowest_wildcard_over_a_filter(topic_filter: TopicFilter, expected: str) -> None:
    assert topic_filter.tail() == expected


@given(filters, topic_types, st.booleans())
def test_a_tail_covers_whatever_its_filter_matches(topic_filter: TopicFilter, rest: str, follows: bool) -> None:
    topic_type = topic_filter.value + rest if follows and topic_filter.kind == "prefix" else rest
    if topic_filter.matches(topic_type):
        assert covers(topic_filter.tail(), topic_tokens(topic_type))


@given(topic_types.filter(lambda value: value.endswith((".", ":"))), topic_types)
def test_a_prefix_that_ends_at_a_cut_is_covered_exactly(value: str, topic_type: str) -> None:
    assert covers(prefix(value).tail(), topic_tokens(topic_type)) == prefix(value).matches(topic_type)


@given(st.lists(filters, max_size=6), topic_types)
@example([prefix("a."), exact("a.b"), exact("a")], "a.b")
def test_minimal_tails_do_not_overlap_and_cover_what_all_tails_cover(some: list[TopicFilter], topic_type: str) -> None:
    tails = minimal_tails(some)
    assert tails == sorted(tails)
    assert not any(overlap(one, other) for one in tails for other in tails if one is not other)
    subject = topic_tokens(topic_type)
    assert any(covers(tail, subject) for tail in tails) == any(covers(each.tail(), subject) for each in some)


@given(filters)
def test_a_filter_is_read_back_from_its_content_id(topic_filter: TopicFilter) -> None:
    assert TopicFilter.parse(topic_filter.content_id) == topic_filter


@given(filters, filters)
def test_filters_are_equal_when_their_content_ids_are(one: TopicFilter, other: TopicFilter) -> None:
    assume(one != other)
    assert one.content_id != other.content_id


def test_content_ids_say_kind_and_value() -> None:
    assert exact("a.b").content_id == "exact:a.b"
    assert prefix("task.").content_id == "prefix:task."


@pytest.mark.parametrize("invalid", ["", "exact", "suffix:a", "Exact:a"])
def test_a_text_that_is_no_content_id_is_refused(invalid: str) -> None:
    with pytest.raises(ValueError, match="is not a topic filter"):
        TopicFilter.parse(invalid)
