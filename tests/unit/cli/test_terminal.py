"""Texts for a terminal."""

import json

import pytest

from hivewire.cli.terminal import indented, json_text, local_time, shortened


@pytest.mark.parametrize("value", [{"a": ["ü ✓", 1]}, "\x9b2J\u2028", "\ud800", {"\x1b": "\U000e0001"}, [], None])
def test_json_stays_what_it_says_and_has_no_control_characters(value: object) -> None:
    text = json_text(value)
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
    text.encode()


def test_readable_characters_are_not_escaped() -> None:
    assert json_text({"a": "ü ✓\x9b"}) == '{\n  "a": "ü ✓\\u009b"\n}'


def test_lines_from_elsewhere_are_indented_and_harmless() -> None:
    assert indented("a\n\tb\x1b[2J\r\nc") == "  a\n          b\\x1b[2J\n  c"


def test_a_line_is_cut_at_the_width() -> None:
    assert (shortened("abcd", 4), shortened("abcde", 4)) == ("abcd", "abc…")


def test_a_time_that_can_not_be_is_shown_so() -> None:
    assert local_time(1e300) == "?"
