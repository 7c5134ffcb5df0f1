"""The token by which a caller tells a handler that its answer is no longer wanted.

A token is made for every message and mostly never used, so it costs one empty dictionary and no lock. It needs none:
cancelling first raises the flag and then takes the links out one by one, linking first stores the link and then looks
at the flag. Whatever the two interleave to, each link is taken out by exactly one of them and runs exactly once. The
dictionary's single operations are atomic, so this also holds for a token that is cancelled from another thread or
from a signal handler.
"""

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

__all__ = ["CancellationToken", "CancelledFlag", "call_on"]

_logger = logging.getLogger(__name__)

FutureT = TypeVar("FutureT", bound="asyncio.Future[Any]")


class CancellationToken:
    """Cancel pending work: the futures linked to the token and whatever its callbacks stop.

    All methods may be called from any thread and from within the token's own callbacks. A running handler is not
    killed; it sees the token.
    """

    __slots__ = ("__weakref__", "_cancelled", "_links", "_noticed", "_prune_at")

    def __init__(self) -> None:
        self._cancelled = False
        # Whether the handler that the token is for can know of it: what it calls then is there to tidy up.
        self._noticed = False
        self._links: dict[object, Callable[[], object]] = {}
        self._prune_at = _FIRST_PRUNE

    def __repr__(self) -> str:
        return f"<CancellationToken {'cancelled' if self._cancelled else 'active'}, {len(self._links)} links>"

    @property
    def is_cancelled(self) -> "CancelledFlag":
        """Whether `cancel()` was called: test it for truth, or call it. It follows the token, also when kept."""
        return CancelledFlag(self)

    def cancel(self) -> None:
        """Cancel linked futures and run callbacks, in the order in which they were added; the second time does nothing.

        Callbacks run in the calling thread. One that raises is logged and the others still run. Futures of a loop
        that runs in another thread are cancelled there, a moment later.
        """
        if self._cancelled:
            return
        self._cancelled = True
        for key in list(self._links):
            self._run(key)

    def cancel_after(self, seconds: float) -> None:
        """Cancel when so many seconds have passed, on the running event loop's clock, else by a timer thread.

        Nothing or less cancels at once. Of several calls the earliest wins.

        Raises:
            ValueError: `seconds` is not a number.
        """
        if math.isnan(seconds):
            raise ValueError("cancel_after needs a number of seconds, not NaN.")
        if seconds <= 0:
            self.cancel()
        elif seconds != math.inf and not self._cancelled:
            self._start_timer(seconds)

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the token is cancelled; at once if it already is."""
        self._link(object(), partial(self._notify, callback))

    def link_future(self, future: FutureT) -> FutureT:
        """Cancel `future` when the token is cancelled, at once if it already is, and return it.

        A future that is done is forgotten in time, so a token may serve any number of them.
        """
        if len(self._links) >= self._prune_at:
            self._forget_done_futures()
        self._link(future, partial(self._notify, partial(_cancel_future, future)))
        return future

    def _link(self, key: object, call: Callable[[], object]) -> None:
        self._links[key] = call
        if self._cancelled:
            self._run(key)

    def _notify(self, call: Callable[[], object]) -> None:
        self._noticed = True
        call()

    def _unlink(self, key: object) -> None:
        self._links.pop(key, None)

    def _run(self, key: object) -> None:
        # Whoever takes the link out runs it; the flag alone would let two threads run it twice.
        call = self._links.pop(key, None)
        if call is None:
            return
        try:
            call()
        except (Exception, asyncio.CancelledError):
            # Not the thing itself, which may show the arguments that it is bound to.
            name = getattr(call, "__qualname__", type(call).__qualname__)
            _logger.exception("A callback of a cancellation token failed: %s", name)

    def _start_timer(self, seconds: float) -> None:
        loop = _running_loop()
        if loop is not None:
            handle = loop.call_later(seconds, self.cancel)
            self._link(object(), partial(call_on, loop, handle.cancel))
            return
        timer = threading.Timer(seconds, self.cancel)
        timer.daemon = True
        timer.start()
        self._link(object(), timer.cancel)

    def _forget_done_futures(self) -> None:
        for key in list(self._links):
            if asyncio.isfuture(key) and key.done():
                self._links.pop(key, None)
        self._prune_at = max(_FIRST_PRUNE, 2 * len(self._links))


class CancelledFlag:
    """The state of a token, as a value with truth testing and as a function without arguments."""

    __slots__ = ("_token",)

    def __init__(self, token: CancellationToken) -> None:
        self._token = token

    def __bool__(self) -> bool:
        if self._token._cancelled:
            self._token._noticed = True
            return True
        return False

    __call__ = __bool__

    def __repr__(self) -> str:
        return repr(self._token._cancelled)


_FIRST_PRUNE = 64


def _cancel_future(future: "asyncio.Future[Any]") -> None:
    if not future.done():
        call_on(future.get_loop(), future.cancel)


def call_on(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    """Run `call` where it may touch objects of `loop`. A closed loop has nobody left who waits for them."""
    if loop.is_closed():
        return
    if not loop.is_running() or loop is _running_loop():
        call()
    else:
        loop.call_soon_threadsafe(call)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
