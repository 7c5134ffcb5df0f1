"""JSON that comes from outside is checked before it is parsed."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire_gateway.bodies import MAX_JSON_DEPTH, nests_deeper_than, parse_json
from hivewire_gateway.problems import Problem

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=20,
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


@given(VALUES, st.booleans())
def test_json_is_what_it_was(value: Any, escaped: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@given(VALUES, st.integers(0, 8))
def test_the_depth_is_counted_without_what_is_in_strings(value: Any, levels: int) -> None:
    # Beyond a handful of brackets the text is looked at; padding makes that so without nesting.
    padded = [value, *([[]] * 20)]
    assert nests_deeper_than(json.dumps(padded).encode(), levels) == (depth(padded) > levels)


@given(st.binary(max_size=200))
def test_no_bytes_are_more_than_a_bad_request(body: bytes) -> None:
    try:
        parse_json(body)
    except Problem as problem:
        assert problem.status == 400


@given(st.text(alphabet='[]{}",:\\u1d8ND aE+-.', max_size=60))
def test_no_near_json_is_more_than_a_bad_request(text: str) -> None:
    try:
        json.dumps(parse_json(text.encode())).encode()
    except Problem as problem:
        assert problem.status == 400


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"[" * 65 + b"]" * 65, "nests deeper than 64"),
        (b'{"a":' * 100_000, "nests deeper than 64"),
        (b"NaN", "NaN is no JSON number"),
        (b"[-Infinity]", "-Infinity is no JSON number"),
        (b"1e999", "a number is too large"),
        (b"9" * 5000, "an integer has too many digits"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
        (b'"\xff"', "not UTF-8"),
        ('"ä"'.encode("utf-16"), "not UTF-8"),
        (b'\xef\xbb\xbf"a"', "not JSON"),
        (b"", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"1 2", "not JSON"),
    ],
)
def test_what_is_refused_says_why(body: bytes, says: str) -> None:
    with pytest.raises(Problem, match=says) as caught:
        parse_json(body)
    assert caught.value.status == 400
    assert len(caught.value.detail) < 120


def test_what_is_refused_is_not_repeated() -> None:
    with pytest.raises(Problem) as caught:
        parse_json(b'{"password": "sesame')
    assert "sesame" not in caught.value.detail


def test_as_deep_as_allowed_is_allowed() -> None:
    parse_json(b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH)
    parse_json(b'"' + b"[" * 1000 + b'"')


def test_a_surrogate_pair_is_a_character() -> None:
    assert parse_json(b'"\\ud83d\\ude00"') == "\U0001f600"


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 500_000,
        b"[" * 64 + b'"\\' * 500_000,
        b'["' * 500_000,
        b'[],{}"' * 166_000,
        b"\\" * 1_000_000 + b"[" * 65,
    ],
)
def test_no_text_of_a_megabyte_keeps_the_gateway_busy(body: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(Problem):
        parse_json(body)
    # Twenty times what it takes; were it quadratic, it would be hours.
    assert time.process_time() - begun < 2.0
