"""What is fit for a terminal: lines that are no longer than it is wide, and texts without control characters."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import datetime
from typing import Any

from hivewire.cli.errors import printable

_PIPED_WIDTH = 160


def width() -> int:
    """Return how many characters a line may have."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPED_WIDTH


def shortened(line: str, width: int) -> str:
    """Cut a line that is longer than `width` characters."""
    return line if len(line) <= width else f"{line[: width - 1]}…"


def json_text(value: Any) -> str:
    """Write a value as indented JSON; characters that a terminal can't show are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    # Such a character stands inside of a text, as JSON itself has none.
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def indented(text: str) -> str:
    """Indent the lines of a text that may come from elsewhere."""
    return "\n".join(f"  {printable(line)}" for line in text.expandtabs().splitlines())


def local_time(seconds: float) -> str:
    """Write a time since 1970 to the second, in the local zone."""
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return "?"
