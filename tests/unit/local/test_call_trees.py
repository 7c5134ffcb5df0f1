"""When the calls of a tree end, worked out by hand and run on a clock that jumps."""

import asyncio
import math
import selectors
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivewire.agents.base import BaseAgent
from hivewire.exceptions import DeadlineExceededError
from hivewire.local.runtime import SingleThreadedAgentRuntime
from hivewire.model.contexts import MessageContext
from hivewire.model.ids import AgentId


@dataclass(frozen=True)
class Node:
    """A call with a timeout of its own, or none, whose handler waits for the calls below, or for ever."""

    timeout_s: float | None
    below: tuple["Node", ...]


TIMEOUTS = st.none() | st.integers(1, 20).map(float)
TREES = st.recursive(
    st.builds(Node, timeout_s=TIMEOUTS, below=st.just(())),
    lambda nodes: st.builds(Node, timeout_s=TIMEOUTS, below=st.lists(nodes, max_size=3).map(tuple)),
    max_leaves=8,
)


class JumpingClock(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Instead of waiting for a time it goes there at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


def run_on_jumping_clock(coroutine: Any) -> Any:
    clock = JumpingClock()
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


class Calling(BaseAgent):
    def __init__(self, ends: dict[int, tuple[float, str]]) -> None:
        super().__init__("calls")
        self._ends = ends

    async def on_message_impl(self, message: Node, ctx: MessageContext) -> None:
        if not message.below:
            await ctx.cancellation_token.link_future(asyncio.get_running_loop().create_future())
        await asyncio.gather(*(self._call(number, each) for number, each in enumerate(message.below)))

    async def _call(self, number: int, node: Node) -> None:
        recipient = AgentId("agent", f"{self.id.key}.{number}")
        how = "answered"
        try:
            await self.send_message(node, recipient, timeout=node.timeout_s)
        except DeadlineExceededError:
            how = "deadline"
        except asyncio.CancelledError:
            how = "cancelled"
        # Trees may be equal, so only the object says which call it was.
        self._ends[id(node)] = (asyncio.get_running_loop().time(), how)


def expected_end_s(node: Node, above_s: float, ends: dict[int, float]) -> float:
    """Work out when a call ends that begins at 0, and those below it: at a deadline, or when all below have ended."""
    limit_s = above_s if node.timeout_s is None else min(above_s, node.timeout_s)
    answered_s = max((expected_end_s(each, limit_s, ends) for each in node.below), default=math.inf)
    ends[id(node)] = min(limit_s, answered_s)
    return ends[id(node)]


def distinct(node: Node) -> Node:
    """Return an equal tree in which no object is there twice."""
    return Node(node.timeout_s, tuple(distinct(each) for each in node.below))


@settings(max_examples=150, deadline=None)
@given(tree=TREES, timeout_s=st.integers(1, 20).map(float), cancelled_after_s=st.none() | st.integers(1, 20))
def test_every_call_ends_at_the_earliest_deadline_above_it(
    tree: Node, timeout_s: float, cancelled_after_s: int | None
) -> None:
    root = Node(timeout_s, tuple(distinct(each) for each in tree.below) or (distinct(tree),))
    ends: dict[int, tuple[float, str]] = {}

    async def run() -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("agent", lambda: Calling(ends))
        runtime.start()
        try:
            # Between two deadlines, so that it is clear which comes first.
            async with asyncio.timeout(None if cancelled_after_s is None else cancelled_after_s + 0.5):
                await runtime.send_message(root, AgentId("agent", "root"), timeout=root.timeout_s)
        except TimeoutError:
            pass
        await runtime.stop_when_idle()

    run_on_jumping_clock(run())
    cut_s = math.inf if cancelled_after_s is None else cancelled_after_s + 0.5
    expected: dict[int, float] = {}
    expected_end_s(root, math.inf, expected)
    del expected[id(root)]
    assert ends.keys() == expected.keys()
    for key, (end_s, how) in ends.items():
        assert end_s == pytest.approx(min(expected[key], cut_s))
        assert (how == "cancelled") is (expected[key] > cut_s)


def test_a_tree_deeper_than_the_stack_ends_too() -> None:
    node = Node(None, ())
    for _ in range(2000):
        node = Node(None, (node,))
    ends: dict[int, tuple[float, str]] = {}

    async def run(timeout_s: float | None, cut_s: float | None) -> None:
        runtime = SingleThreadedAgentRuntime()
        await runtime.register_factory("agent", lambda: Calling(ends))
        runtime.start()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(cut_s):
                await runtime.send_message(node, AgentId("agent", "root"), timeout=timeout_s)
        await runtime.stop_when_idle()

    for timeout_s, cut_s in ((2.0, None), (None, 2.0)):
        ends.clear()
        run_on_jumping_clock(run(timeout_s, cut_s))
        assert len(ends) == 2000
