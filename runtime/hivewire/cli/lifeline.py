"""Ends a process with the one that started it, however that one ends.

The parent holds the write end of a pipe and never writes. The child reads: end of file says that the parent is gone.
While there is a parent, Ctrl-C is its affair, though the terminal sends it to both.
"""

from __future__ import annotations

import os
import signal
import threading
import time

VARIABLE = "HIVEWIRE_LIFELINE"
"""Names the file descriptor of the pipe's read end in the environment of a child."""

_DRAIN_S = 10.0


def follow_parent() -> bool:
    """Tell whether a parent holds a lifeline; if so, drain when it is gone, and ignore Ctrl-C."""
    number = os.environ.pop(VARIABLE, "")
    if not number.isdecimal():
        return False
    pipe = int(number)
    os.set_inheritable(pipe, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(pipe,), name="hivewire-lifeline", daemon=True).start()
    return True


def _watch(pipe: int) -> None:
    while os.read(pipe, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    # The broker of a parent that was killed is gone too, so draining may lead nowhere.
    time.sleep(_DRAIN_S)
    os._exit(1)
