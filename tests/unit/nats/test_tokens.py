import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hivewire.nats.tokens import MAX_TOKEN_BYTES, fnv1a32, is_hashed, slot, slot_of_token, token, untoken

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(texts)
@example("")
@example("=")
@example("a" * 128)
@example("a" * 129)
@example("k.v:w*x>y z\r\n\0é𝄞")
def test_every_text_becomes_one_subject_token_and_comes_back(text: str) -> None:
    encoded = token(text)
    assert re.fullmatch(r"[A-Za-z0-9_=-]{1,128}", encoded)
    if is_hashed(encoded):
        assert len(encoded) == 54
        assert untoken(encoded) is None
    else:
        assert untoken(encoded) == text


@given(texts, texts)
def test_different_texts_have_different_tokens(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


@given(st.text(alphabet="aZ9_-=.0AF~", max_size=140))
@example("=C3")
@example("=c3=a9")
@example("=41")
@example("==")
@example("==" + "A" * 51)
@example("")
@example("a" * 129)
def test_reading_a_token_gives_the_text_that_is_written_so_or_is_refused(candidate: str) -> None:
    try:
        text = untoken(candidate)
    except ValueError as error:
        assert "is not a subject token" in str(error)
    else:
        assert text is None or token(text) == candidate


@pytest.mark.parametrize("invalid", ["", "a.b", "é", "=4", "=zz", "=41", "=c3=a9", "=C3", "==", "==" + "a" * 52, "a\n"])
def test_what_no_text_is_written_as_is_refused(invalid: str) -> None:
    with pytest.raises(ValueError, match="is not a subject token"):
        untoken(invalid)


def test_a_token_over_128_bytes_is_a_hash_of_the_whole_text() -> None:
    assert token("é" * 21 + "ab") == "=C3=A9" * 21 + "ab"
    assert len(token("é" * 21 + "ab")) == MAX_TOKEN_BYTES
    assert is_hashed(token("é" * 21 + "abc"))
    assert token("x" * 1_000_000) != token("x" * 999_999)


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb" + "c" * 500])
def test_a_lone_surrogate_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"lone surrogate U\+D"):
        token(text)
    with pytest.raises(ValueError, match="lone surrogate"):
        slot(text)


@pytest.mark.parametrize(
    ("data", "expected"), [(b"", 0x811C9DC5), (b"a", 0xE40C292C), (b"foobar", 0xBF9CF968), (b"k1", 0x983D80C1)]
)
def test_the_hash_is_fnv_1a(data: bytes, expected: int) -> None:
    assert fnv1a32(data) == expected


@pytest.mark.parametrize(("key", "expected"), [("a", 44), ("foobar", 104), ("k1", 193), ("user-42", 171), (".", 241)])
def test_a_slot_is_the_hash_of_the_token(key: str, expected: int) -> None:
    assert slot(key) == slot_of_token(token(key)) == expected
