"""The path of a message as a page, and as JSON. Contents are in neither."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from hivewire.cli.dead_text import name_of
from hivewire.cli.errors import one_line
from hivewire.cli.message_heads import MessageHead, id_of, lineage_of
from hivewire.cli.terminal import local_time
from hivewire.cli.trace_fates import Fate
from hivewire.cli.trace_path import Kind, Path, Place
from hivewire.nats.dead_letters import DeadLetter

_TITLES: dict[Kind, str] = {
    "own": "the message",
    "caused": "what its turns published",
    "related": "of the same trace",
}


def as_page(path: Path) -> str:
    """Return all that was found, to be read."""
    return "\n".join(_lines(path))


def as_json(path: Path) -> dict[str, Any]:
    """Return all that was found."""
    return {
        "id": path.wanted,
        "traces": list(path.trace_ids),
        "messages": [_place_as_json(place) for place in path.places],
        "dead_letters": [_letter_as_json(letter) for letter in path.letters],
        "looked_at": {
            "first_sequence": path.extent.first,
            "last_sequence": path.extent.last,
            "whole_stream": path.extent.is_whole,
            "events": path.events,
            "dead_letters": path.dead_letters,
            "not_shown": path.more,
            "ids_in_payload": path.unread,
        },
    }


def why_nothing(path: Path, namespace: str) -> str:
    """Return what to tell when nothing was found, and what may be the reason."""
    where = "" if path.extent.is_whole else ", and --since leaves out older ones"
    return (
        f"nothing is left of {path.wanted!r} in namespace {namespace!r} ({_looked_at(path)}{where}): it was removed"
        " after the retention, it was never stored, as direct messages are not, or it is in another namespace"
    )


def _lines(path: Path) -> Iterator[str]:
    by_kind = {kind: [place for place in path.places if place.kind == kind] for kind in _TITLES}
    for kind, title in _TITLES.items():
        if by_kind[kind]:
            yield f"{title}:"
            for place in by_kind[kind]:
                yield from _place_lines(place)
            yield ""
    if path.letters:
        yield "dead letters whose message is not in the event stream any more:"
        for letter in path.letters:
            yield f"  {name_of(letter)}   {_when_given_up(letter)}   id {one_line(id_of(letter.headers) or '?')}"
            yield f"    {_why_given_up(letter)}"
        yield ""
    if path.more:
        yield f"{path.more:,} messages more belong here and are not shown"
    yield f"{_looked_at(path)}; traces: {', '.join(path.trace_ids) or 'none'}"


def _place_lines(place: Place) -> Iterator[str]:
    head = place.head
    sender = f"   from {head.sender}" if head.sender is not None else ""
    to = f"{head.topic}" if head.recipient is None else f"to {head.recipient} alone"
    yield _indented(
        2,
        f"{head.sequence}   {local_time(head.stored_at.timestamp())}   {to}{sender}   {head.type_name or '?'}   "
        f"{head.size_bytes:,} bytes   id {head.id}",
    )
    if place.cause is not None:
        yield _indented(4, f"published by {place.cause.agent} for {place.cause.sequence}")
    elif place.kind == "related" and head.span_id is not None:
        yield _indented(4, f"sent in span {head.span_id}")
    if head.lineage:
        yield _indented(4, f"sent again; it was given up as {', '.join(map(str, head.lineage))}")
    if not place.fates:
        yield _indented(4, "nobody subscribes to it")
    for fate in place.fates:
        yield _indented(4, f"{fate.agent}   {_fate_text(fate)}")


def _fate_text(fate: Fate) -> str:
    if fate.letter is not None:
        return f"dead: {_why_given_up(fate.letter)}, {_when_given_up(fate.letter)}"
    if fate.replays:
        return f"given up and sent again as {', '.join(map(str, fate.replays))}"
    return f"{fate.state}{': ' if fate.why else ''}{fate.why}"


def _why_given_up(letter: DeadLetter) -> str:
    return one_line(f"{letter.error}: {letter.message}")


def _when_given_up(letter: DeadLetter) -> str:
    return f"attempt {letter.attempts}, {local_time(letter.time)} by {one_line(letter.instance)}"


def _looked_at(path: Path) -> str:
    unread = f", of which {path.unread:,} tell their id only in their payload" if path.unread else ""
    whole = "all" if path.extent.is_whole else "the newer"
    return f"looked at {whole} {path.events:,} events{unread} and {path.dead_letters:,} dead letters"


def _place_as_json(place: Place) -> dict[str, Any]:
    head = place.head
    return {
        **_head_as_json(head),
        "kind": place.kind,
        "cause": place.cause and {"sequence": place.cause.sequence, "agent": str(place.cause.agent)},
        "agents": [_fate_as_json(fate) for fate in place.fates],
    }


def _head_as_json(head: MessageHead) -> dict[str, Any]:
    return {
        "sequence": head.sequence,
        "time": head.stored_at.isoformat(),
        "id": head.id,
        "topic": head.topic.type,
        "source": head.topic.source,
        "recipient": head.recipient and str(head.recipient),
        "sender": head.sender and str(head.sender),
        "type": head.type_name,
        "size_bytes": head.size_bytes,
        "trace_id": head.trace_id,
        "span_id": head.span_id,
        "lineage": list(head.lineage),
    }


def _fate_as_json(fate: Fate) -> dict[str, Any]:
    return {
        "agent": str(fate.agent),
        "state": fate.state,
        "why": fate.why,
        "dead_letter": fate.letter and _letter_as_json(fate.letter),
        "replayed_as": list(fate.replays),
    }


def _letter_as_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "agent": str(letter.agent),
        "sequence": letter.sequence,
        "id": id_of(letter.headers),
        "error": letter.error,
        "message": letter.message,
        "attempts": letter.attempts,
        "instance": letter.instance,
        "time": _iso(letter.time),
        "lineage": list(lineage_of(letter.headers)),
    }


def _iso(seconds: float) -> str | None:
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def _indented(spaces: int, text: str) -> str:
    """Put a text that may come from elsewhere on one line, and indent it. Wide gaps between its parts stay."""
    return " " * spaces + "   ".join(one_line(part) for part in text.split("   "))
