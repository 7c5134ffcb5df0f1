"""Errors as lines."""

import asyncio

import pytest

from hivewire.cli.errors import UserCodeError, complain, one_line
from hivewire.cli.waiting import first_of


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("two\n  lines\r\n", "two lines"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("ümläut ✓", "ümläut ✓"),
        (ValueError("no"), "no"),
    ],
)
def test_any_text_becomes_one_harmless_line(text: object, line: str) -> None:
    assert one_line(text) == line


def test_a_complaint_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    complain("first\nsecond")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "hivewire: first second\n")


def test_the_traceback_of_user_code_begins_with_the_users_first_frame(capsys: pytest.CaptureFixture[str]) -> None:
    async def users_own() -> None:
        raise ValueError("mine")

    try:
        asyncio.run(first_of(users_own()))
    except ValueError as error:
        problem = UserCodeError("it failed")
        problem.__cause__ = error
    problem.show_traceback()
    shown = capsys.readouterr().err
    assert "users_own" in shown and shown.endswith("ValueError: mine\n")
