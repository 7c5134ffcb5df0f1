"""Server-sent events as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivewire_gateway.sse import accepts_event_stream, retry_hint, server_sent_event


def test_an_event_is_written_line_by_line():
    assert server_sent_event("a\nb", event="end", id="7", type="Word") == (
        b"event: end\nid: 7\ntype: Word\ndata: a\ndata: b\n\n"
    )
    assert server_sent_event("") == b"data: \n\n"
    assert retry_hint(2.5) == b"retry: 2500\n"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_whatever_the_data_is_it_comes_back(data):
    lines = server_sent_event(data).decode().removesuffix("\n\n").split("\n")
    assert all(line.startswith("data: ") for line in lines)
    assert "\r" not in "".join(lines)
    # All line ends are read as one.
    back = "\n".join(line.removeprefix("data: ") for line in lines)
    assert back == data.replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0"])
def test_what_would_end_a_line_elsewhere_is_refused(value):
    with pytest.raises(ValueError, match="the id of a server-sent event"):
        server_sent_event("x", id=value)
    with pytest.raises(ValueError, match="the type of a server-sent event"):
        server_sent_event("x", type=value)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("application/json, TEXT/event-stream;q=0.5", True),
        ("text/event-stream;q=0", False),
        ("text/event-stream; q=0.0", False),
        ("*/*", False),
        ("text/*", False),
        ("", False),
        (";;,,", False),
    ],
)
def test_a_stream_is_what_is_asked_for_by_name(accept, wanted):
    assert accepts_event_stream(accept) is wanted
