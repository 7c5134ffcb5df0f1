"""`hivewire trace`: the path of one message, told by what is still there of it.

The event stream is read once, by headers only, and a second time up to the first message that tells of a trace.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial

from hivewire.cli import arguments
from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.errors import CommandError, UsageError
from hivewire.cli.message_heads import id_of, read_head, read_headers, trace_of
from hivewire.cli.terminal import json_text
from hivewire.cli.trace_fates import Progress, Records
from hivewire.cli.trace_path import Extent, Path, path_of
from hivewire.cli.trace_search import KEPT, Search
from hivewire.cli.trace_text import as_json, as_page, why_nothing
from hivewire.exceptions import UnsupportedFormatError
from hivewire.nats.broker import JetStreamError
from hivewire.nats.dead_letters import DeadLetter
from hivewire.nats.lag_probe import first_since
from hivewire.nats.snapshot import Snapshot, take_snapshot
from hivewire.nats.stream_reader import StreamMessage

_PROGRESS_EVERY_S = 0.5


def trace(
    message_id: str, *, since: str | None, whole_json: bool, broker: str, namespace: str, credentials: str
) -> None:
    """Print what is known of a message, or of all messages of a trace.

    Args:
        message_id: Its id, or a trace's: 32 hexadecimal digits.
        since: Nothing that was stored before is looked at.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace, or nothing of the message is found.
        HivewireError: there is no broker.
    """
    try:
        message_id.encode()
    except ValueError:
        raise UsageError(f"{message_id!a} is not valid Unicode") from None
    after = None if since is None else arguments.since(since, now=time.time())
    opening = open_namespace(broker, namespace, name="trace", credentials=credentials)
    path = asyncio.run(_trace(message_id, after, opening))
    if not path.found:
        raise CommandError(why_nothing(path, namespace))
    print(json_text(as_json(path)) if whole_json else as_page(path))


async def _trace(wanted: str, after: float | None, opening: AbstractAsyncContextManager[Namespace]) -> Path:
    async with opening as opened:
        snapshot = await take_snapshot(opened.broker, opened.subjects, stream_created=opened.stream_created)
        stateless = await _stateless(opened, snapshot)
        records = Records(snapshot=snapshot, stream=opened.stream_created, stateless=stateless)
        search = Search(
            wanted,
            stream=opened.stream_created,
            read=partial(read_head, subjects=opened.subjects),
            recipients=records.recipients,
        )
        extent = await _extent(opened, opened.subjects.events_stream, after)
        async with _progress_shown(search):
            await _read_events(opened, search.take, extent.first, extent.last)
            letters = await _read_letters(opened, wanted, search, after, events_end=extent.last + 1)
            await _read_events(opened, search.look, extent.first, search.look_again_below - 1)
        return path_of(wanted, search, records, letters.found, extent, letters.seen)


async def _read_events(opened: Namespace, take: Callable[[StreamMessage], None], first: int, last: int) -> None:
    subjects = opened.subjects
    await read_headers(
        opened.broker,
        subjects.events_stream,
        [subjects.stored_events, subjects.inboxes],
        first=first,
        last=last,
        take=take,
    )


async def _read_letters(
    opened: Namespace, wanted: str, search: Search, after: float | None, *, events_end: int
) -> _Letters:
    stream, pattern = opened.subjects.dead_stream, opened.subjects.dead_letters
    extent = await _extent(opened, stream, after)
    while True:
        known = len(search.trace_ids)
        letters = _Letters(wanted, search, events_end=events_end)
        await read_headers(opened.broker, stream, [pattern], first=extent.first, last=extent.last, take=letters.take)
        if len(search.trace_ids) == known:
            return letters
        # Earlier ones may be of the trace that was found.


async def _extent(opened: Namespace, stream: str, after: float | None) -> Extent:
    state = (await opened.broker.api(f"STREAM.INFO.{stream}"))["state"]
    first = stream_first = int(state["first_seq"])
    if after is not None:
        first = max(first, await first_since(opened.broker, stream, after))
    return Extent(first=first, last=int(state["last_seq"]), stream_first=stream_first)


async def _stateless(opened: Namespace, snapshot: Snapshot) -> dict[str, Progress]:
    """Ask how far the shared consumers of the stateless types have come."""
    subjects, progress = opened.subjects, {}
    for record in snapshot.types:
        if record.shape is None or record.shape.kind != "stateless":
            continue
        with suppress(JetStreamError):
            consumer = f"{subjects.events_stream}.{subjects.consumer_of(record.name)}"
            info = await opened.broker.api(f"CONSUMER.INFO.{consumer}")
            progress[record.name] = Progress(
                finished=int(info["ack_floor"]["stream_seq"]), taken=int(info["delivered"]["stream_seq"])
            )
    return progress


class _Letters:
    """Takes the dead letters that belong to what a search has found, by their messages, ids or traces."""

    def __init__(self, wanted: str, search: Search, *, events_end: int) -> None:
        self._wanted = wanted
        self._search = search
        self._sequences = search.found.keys()
        self._events_end = events_end
        self.seen = 0
        self.found: list[DeadLetter] = []

    def take(self, message: StreamMessage) -> None:
        self.seen += 1
        trace = trace_of(message.headers)
        is_own = id_of(message.headers) == self._wanted
        is_of_trace = trace is not None and trace[0] in self._search.trace_ids
        sequence = message.subject.rpartition(".")[2]
        is_of_found = sequence.isdecimal() and int(sequence) in self._sequences
        if not (is_own or is_of_trace or is_of_found) or len(self.found) >= KEPT:
            return
        # What no process of this version can read is the business of `hivewire dead`.
        with suppress(UnsupportedFormatError, ValueError, KeyError, TypeError, AttributeError):
            self.found.append(DeadLetter.decode(message.headers, b""))
            if is_own and trace is not None:
                self._search.know_trace(trace[0], before=self._events_end)


@asynccontextmanager
async def _progress_shown(search: Search) -> AsyncIterator[None]:
    """Show on a terminal how much was looked at, while it takes long."""

    async def show() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_EVERY_S)
            print(f"\rlooked at {search.seen:,} events", end="", file=sys.stderr, flush=True)

    if not sys.stderr.isatty():
        yield
        return
    showing = asyncio.create_task(show(), name="hivewire: progress")
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait([showing])
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
