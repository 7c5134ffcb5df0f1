"""How a process tells the one that started it, several times a second, whether it takes messages.

It goes through a pipe, one line of text at a time: empty, or the reason why not. The lines come from the event loop, so
they stop when it stands still.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from hivewire.model.readiness import Readiness

VARIABLE = "HIVEWIRE_PULSE"
"""Names the file descriptor of the pipe's write end in the environment of a child."""

STUCK_S = 60.0
"""So long without a line says that the event loop stands still."""

_BEAT_S = 0.25
_READ_BYTES = 65_536


class Pulse:
    """The end of the pipe that the child has."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        os.set_inheritable(pipe, False)
        # A parent that does not read must not hold the child up.
        os.set_blocking(pipe, False)

    @classmethod
    def of_child(cls) -> Self | None:
        """Return it; None in a process that has no such parent."""
        number = os.environ.pop(VARIABLE, "")
        return cls(int(number)) if number.isdecimal() else None

    async def beat_on(self, readiness: Callable[[], Readiness]) -> None:
        """Tell the parent until cancelled."""
        while True:
            line = " ".join(readiness().reason.split())
            # The pipe is full, or nobody is there any more, which the lifeline tells.
            with suppress(BlockingIOError, BrokenPipeError):
                os.write(self._pipe, line.encode()[:500] + b"\n")
            await asyncio.sleep(_BEAT_S)


class PulseListener:
    """The end that the parent has, while the event loop runs. `end` has to be called.

    Args:
        on_ready: Called when the child takes messages for the first time.
    """

    def __init__(self, *, on_ready: Callable[[], None]) -> None:
        self._pipe, self.child_end = os.pipe()
        os.set_blocking(self._pipe, False)
        self._on_ready = on_ready
        self._rest = b""
        self._heard_at = time.monotonic()
        self._was_ready = False
        self.readiness = Readiness(False, "it starts")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pipe, self._read)

    def is_alive(self) -> bool:
        """Tell whether something was heard not long ago. May be called from any thread."""
        return time.monotonic() - self._heard_at < STUCK_S

    def close_child_end(self) -> None:
        """To be called once the child has it."""
        os.close(self.child_end)

    def end(self) -> None:
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)

    def _read(self) -> None:
        data = os.read(self._pipe, _READ_BYTES)
        if not data:
            self._loop.remove_reader(self._pipe)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not lines:
            return
        self._heard_at = time.monotonic()
        reason = lines[-1].decode(errors="replace")
        self.readiness = Readiness(not reason, reason)
        if not reason and not self._was_ready:
            self._was_ready = True
            self._on_ready()
