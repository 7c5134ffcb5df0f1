from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire.http.frames import HEADER_BYTES, FrameError, decode_frame, encode_frame

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each),
)


@given(st.dictionaries(st.text(), json_values), st.binary())
def test_a_frame_is_read_as_it_was_written(header: dict[str, Any], payload: bytes) -> None:
    assert decode_frame(encode_frame(header, payload)) == (header, payload)


@given(st.binary())
def test_bytes_that_are_no_frame_are_refused_and_nothing_else_happens(data: bytes) -> None:
    try:
        header, _ = decode_frame(data)
    except FrameError:
        return
    assert isinstance(header, dict)


def test_a_header_that_is_too_long_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="at most"):
        encode_frame({"key": "x" * HEADER_BYTES})


@pytest.mark.parametrize("header", [b"[]", b"1", b"{", b"\xff", b"[" * 100_000])
def test_a_header_that_is_no_json_object_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        decode_frame(len(header).to_bytes(4, "big") + header)
