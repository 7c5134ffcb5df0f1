"""Keys that are pressed while a command draws on the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def key_pressed(key: str) -> Iterator[asyncio.Event]:
    """Set the event when the key is pressed, without Enter. Ctrl-C does what it always does.

    When standard input is not a terminal, nothing is read from it.
    """
    pressed = asyncio.Event()
    if not sys.stdin.isatty():
        yield pressed
        return
    number = sys.stdin.fileno()

    def read() -> None:
        typed = os.read(number, 64)
        if not typed:
            loop.remove_reader(number)
        if key.encode() in typed:
            pressed.set()

    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(number)
    tty.setcbreak(number)
    loop.add_reader(number, read)
    try:
        yield pressed
    finally:
        loop.remove_reader(number)
        termios.tcsetattr(number, termios.TCSADRAIN, before)
