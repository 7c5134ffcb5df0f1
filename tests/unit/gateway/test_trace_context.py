"""A W3C trace context is passed on if it is one."""

import pytest

from hivewire_gateway.trace_context import trace_context

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_context_is_taken_as_it_is() -> None:
    assert trace_context({"traceparent": PARENT, "tracestate": "a=b, c=d", "other": "x"}) == {
        "traceparent": PARENT,
        "tracestate": "a=b, c=d",
    }
    later = f"01{PARENT[2:]}-more"
    assert trace_context({"traceparent": later}) == {"traceparent": later}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        f"ff{PARENT[2:]}",
        f"{PARENT}-more",
        f"{PARENT}\r\n",
        PARENT.upper(),
        PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        PARENT.replace("b7ad6b7169203331", "0" * 16),
        f"01{PARENT[2:]}-" + "x" * 1000,
    ],
)
def test_a_malformed_one_counts_as_none(parent: str) -> None:
    assert trace_context({"traceparent": parent, "tracestate": "a=b"}) == {}


@pytest.mark.parametrize("state", ["", "ä", "a\r\nb", "x" * 513, " a"])
def test_a_malformed_state_does_not_spoil_the_parent(state: str) -> None:
    assert trace_context({"traceparent": PARENT, "tracestate": state}) == {"traceparent": PARENT}
