"""Reads the plain part of YAML that manifests are written in: block mappings, block lists, scalars, lists in brackets.

Anything else is an error, so a file that this reads holds no surprises for other readers.
"""

import json
import re
from typing import Any

_ENTRY = re.compile(r"([\w./-]+):(?: +(.*))?$")
_BLANK_OR_COMMENT = re.compile(r"\s*(#.*)?$")
_COMMENT = re.compile(r"\s+#.*$")
_REFUSED = tuple("&*!|>%@`{")


def read_yaml(text: str) -> Any:
    """Return the one document of a text.

    Raises:
        ValueError: it holds something that this does not read.
    """
    lines = [_Line(raw) for raw in text.splitlines() if not _BLANK_OR_COMMENT.match(raw)]
    value, rest = _block(lines)
    if rest:
        raise ValueError(f"not understood: {rest[0].text!r}")
    return value


class _Line:
    def __init__(self, raw: str) -> None:
        self.text = _COMMENT.sub("", raw.strip())
        self.indent = len(raw) - len(raw.lstrip())


def _block(lines: list[_Line]) -> tuple[Any, list[_Line]]:
    if lines[0].text.startswith("- "):
        return _list(lines, lines[0].indent)
    if _ENTRY.match(lines[0].text):
        return _mapping(lines, lines[0].indent)
    return _scalar(lines[0].text), lines[1:]


def _list(lines: list[_Line], indent: int) -> tuple[list[Any], list[_Line]]:
    items: list[Any] = []
    while lines and lines[0].indent == indent and lines[0].text.startswith("- "):
        # What follows the dash is a block of its own, as far to the right as it stands.
        first = lines[0]
        item_text = first.text[2:].lstrip()
        first.indent += len(first.text) - len(item_text)
        first.text = item_text
        item, lines = _block(lines)
        items.append(item)
    return items, lines


def _mapping(lines: list[_Line], indent: int) -> tuple[dict[str, Any], list[_Line]]:
    entries: dict[str, Any] = {}
    while lines and lines[0].indent == indent and (entry := _ENTRY.match(lines[0].text)):
        key, value = entry[1], entry[2]
        lines = lines[1:]
        if key in entries:
            raise ValueError(f"the key {key!r} occurs twice")
        if value is not None:
            entries[key] = _scalar(value)
        elif lines and (lines[0].indent > indent or (lines[0].indent == indent and lines[0].text.startswith("- "))):
            entries[key], lines = _block(lines)
        else:
            entries[key] = None
    return entries, lines


def _scalar(text: str) -> Any:
    if text.startswith(_REFUSED):
        raise ValueError(f"not understood: {text!r}")
    if text.startswith(("[", '"')):
        return json.loads(text)
    if text.startswith("'"):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text
