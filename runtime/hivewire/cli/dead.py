"""`hivewire dead`: the messages that agents gave up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from hivewire.cli.arguments import agent_id
from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.dead_selection import One
from hivewire.cli.dead_text import HEAD, as_json, as_line, as_page, name_of
from hivewire.cli.errors import CommandError, complain
from hivewire.cli.terminal import json_text, shortened, width
from hivewire.exceptions import AgentNotFoundError
from hivewire.nats.dead_letter_store import DeadLetterFilter, DeadLetterStore, StoredLetter
from hivewire.nats.dead_letters import DeadLetter

Selection = One | DeadLetterFilter


def ls(wanted: DeadLetterFilter, *, json_lines: bool, broker: str, namespace: str, credentials: str = "") -> None:
    """Print the dead letters that match, one a line, the oldest first.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace.
        HivewireError: there is no broker.
    """
    asyncio.run(_ls(wanted, json_lines, open_namespace(broker, namespace, name="dead", credentials=credentials)))


def show(agent: str, sequence: int, *, whole_json: bool, broker: str, namespace: str, credentials: str = "") -> None:
    """Print all of one dead letter.

    Raises:
        UsageError: something that was typed is malformed.
        CommandError: there is no such namespace or dead letter, or it can't be read.
        HivewireError: there is no broker.
    """
    letter = asyncio.run(
        _show(
            One(agent=agent_id(agent), sequence=sequence),
            open_namespace(broker, namespace, name="dead", credentials=credentials),
        )
    )
    print(json_text(as_json(letter, whole=True)) if whole_json else as_page(letter))


def replay(selection: Selection, *, broker: str, namespace: str, credentials: str = "") -> None:
    """Send the messages to their agents again, and remove the dead letters.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace or dead letter, or some had to be left as they are.
        HivewireError: there is no broker, or it doesn't store a message.
    """

    async def one(store: DeadLetterStore, stored: StoredLetter) -> str:
        if stored.letter is None:
            raise CommandError(_unreadable(stored))
        new_sequence = await store.replay(stored)
        return f"replayed {name_of(stored.letter)}, now event {new_sequence}"

    asyncio.run(_each(selection, one, open_namespace(broker, namespace, name="dead", credentials=credentials)))


def rm(selection: Selection, *, broker: str, namespace: str, credentials: str = "") -> None:
    """Remove dead letters; their messages are then gone for good.

    Raises:
        as `replay`.
    """

    async def one(store: DeadLetterStore, stored: StoredLetter) -> str:
        await store.remove(stored)
        return f"removed {stored.subject if stored.letter is None else name_of(stored.letter)}"

    asyncio.run(_each(selection, one, open_namespace(broker, namespace, name="dead", credentials=credentials)))


async def _ls(wanted: DeadLetterFilter, json_lines: bool, opening: AbstractAsyncContextManager[Namespace]) -> None:
    async with opening as opened:
        found = False
        async for stored in DeadLetterStore(opened.broker, opened.subjects).find(wanted):
            if stored.letter is None:
                complain(_unreadable(stored))
                continue
            if json_lines:
                print(json.dumps(as_json(stored.letter, whole=False), ensure_ascii=False))
            else:
                print(*([] if found else [HEAD]), shortened(as_line(stored.letter), width()), sep="\n")
            found = True
        if not found and not json_lines:
            print(_none(wanted))


async def _show(which: One, opening: AbstractAsyncContextManager[Namespace]) -> DeadLetter:
    async with opening as opened:
        stored = await _only(DeadLetterStore(opened.broker, opened.subjects), which)
        if stored.letter is None:
            raise CommandError(_unreadable(stored))
        return stored.letter


async def _each(
    selection: Selection,
    change: Callable[[DeadLetterStore, StoredLetter], Awaitable[str]],
    opening: AbstractAsyncContextManager[Namespace],
) -> None:
    async with opening as opened:
        store = DeadLetterStore(opened.broker, opened.subjects)
        if isinstance(selection, One):
            print(await change(store, await _only(store, selection)))
            return
        done = left = 0
        async for stored in store.find(selection):
            if stored.letter is None:
                complain(_unreadable(stored))
                left += 1
                continue
            try:
                print(await change(store, stored), flush=True)
                done += 1
            except AgentNotFoundError as error:
                complain(f"{name_of(stored.letter)}: {error}")
                left += 1
        if left:
            raise CommandError(f"{left} dead letters are left as they were")
        if not done:
            print(_none(selection))


async def _only(store: DeadLetterStore, which: One) -> StoredLetter:
    stored = await store.get(which.agent, which.sequence)
    if stored is None:
        raise CommandError(
            f"there is no dead letter {which.agent} {which.sequence}: `hivewire dead ls` shows what there is"
        )
    return stored


def _unreadable(stored: StoredLetter) -> str:
    return f"the dead letter {stored.subject} can't be read: {stored.problem}"


def _none(wanted: DeadLetterFilter) -> str:
    return "There are no dead letters." if wanted == DeadLetterFilter() else "No dead letter matches."
