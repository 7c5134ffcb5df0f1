"""`hivewire ps`: agent types, the processes that serve them, and their shards."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hivewire.cli.connection import open_namespace
from hivewire.cli.errors import CommandError, one_line
from hivewire.nats.broker import JetStreamError
from hivewire.nats.lags import Lags
from hivewire.nats.registry import TypeRecord
from hivewire.nats.session import SessionRecord
from hivewire.nats.snapshot import Shard, Snapshot, take_snapshot

_PIPED_WIDTH = 160


@dataclass(frozen=True, slots=True)
class Overview:
    """A snapshot, with the lags of its shards and of its types in their order."""

    namespace: str
    snapshot: Snapshot
    shard_lags: Sequence[int | None]
    type_lags: Sequence[int | None]


def ps(*, broker: str, namespace: str, credentials: str, as_json: bool) -> None:
    """Print what there is in a namespace.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace.
        HivewireError: there is no broker.
    """
    overview = asyncio.run(_read(broker, namespace, credentials))
    if as_json:
        print(json.dumps(overview_as_json(overview), indent=2, ensure_ascii=False))
        return
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPED_WIDTH)
    if not overview.snapshot.types:
        console.print(f"No agent type is registered in namespace {overview.namespace}.")
        return
    for number, table in enumerate(tables(overview)):
        console.print(*([""] if number else []), table, sep="\n")


def overview_as_json(overview: Overview) -> dict[str, Any]:
    """Return all that is known, shard by shard."""
    snapshot = overview.snapshot
    return {
        "namespace": overview.namespace,
        "types": [
            {
                "type": record.name,
                "kind": record.shape and record.shape.kind,
                "shards": _shard_count(record),
                "subscriptions": _subscriptions(record),
                "lag": lag,
            }
            for record, lag in zip(snapshot.types, overview.type_lags, strict=True)
        ],
        "pods": [
            {
                "instance": session.instance,
                "deployment": session.deployment,
                "session": session.session,
                "state": session.state,
                "types": list(session.types),
                "shards": _owned(snapshot, session),
            }
            for session in snapshot.sessions
        ],
        "shards": [
            {
                "type": shard.agent_type,
                "shard": shard.name,
                "owner": shard.owner,
                "instance": (owner := snapshot.session(shard.owner)) and owner.instance,
                "lag": lag,
                "position": shard.position and json.loads(shard.position.to_json()),
            }
            for shard, lag in zip(snapshot.shards, overview.shard_lags, strict=True)
        ],
    }


def tables(overview: Overview) -> list[Table]:
    """Return the tables of types, pods and shards that have rows.

    Shards of one type and owner share a row, except those that lag or have parked keys.
    """
    snapshot = overview.snapshot
    types = _table("AGENT TYPE", "KIND", ">SHARDS", ">PODS", "SUBSCRIPTIONS", ">LAG")
    for record, lag in zip(snapshot.types, overview.type_lags, strict=True):
        serving = sum(record.name in session.types for session in snapshot.sessions)
        kind = record.shape.kind if record.shape else "not registered"
        subscriptions = [each for each in _subscriptions(record) if each != f"{record.name}:*"]
        shards = _shard_count(record)
        _row(types, record.name, kind, "" if shards is None else shards, serving, ", ".join(subscriptions), _shown(lag))
    pods = _table("POD", "DEPLOYMENT", "SESSION", "STATE", ">SHARDS", "AGENT TYPES")
    for session in snapshot.sessions:
        owned = _owned(snapshot, session)
        types_text = ", ".join(session.types)
        _row(pods, session.instance, session.deployment, session.session, session.state, owned, types_text)
    any_parked = any(map(_parked, snapshot.shards))
    shards_table = _table("SHARDS OF", "SHARD", "OWNER", ">FLOOR", ">LAG", *([">PARKED KEYS"] if any_parked else []))
    for group, lag in _grouped(overview):
        first = group[0]
        cells = [first.agent_type, _ranges(group), _owner(snapshot, first.owner), _floor(group), _shown(lag)]
        _row(shards_table, *cells, *([_parked(first)] if any_parked else []))
    return [table for table in (types, pods, shards_table) if table.row_count]


async def _read(broker: str, namespace: str, credentials: str) -> Overview:
    async with open_namespace(broker, namespace, name="ps", credentials=credentials) as opened:
        try:
            snapshot = await take_snapshot(opened.broker, opened.subjects, stream_created=opened.stream_created)
            lags = Lags(opened.broker, opened.subjects, last_sequence=opened.last_sequence)
            shard_lags = await lags.of_shards(snapshot.shards)
            of_type: defaultdict[str, int | None] = defaultdict(lambda: None)
            for shard, lag in zip(snapshot.shards, shard_lags, strict=True):
                of_type[shard.agent_type] = _sum(of_type[shard.agent_type], lag)
            for record in snapshot.types:
                if record.shape is not None and record.shape.kind == "stateless":
                    of_type[record.name] = await lags.of_stateless(record.name)
        except (JetStreamError, TimeoutError) as error:
            why = str(error) or "no answer in time"
            raise CommandError(f"NATS at {opened.broker.address} does not tell what there is: {why}") from error
        type_lags = [of_type[record.name] for record in snapshot.types]
        return Overview(opened.subjects.namespace, snapshot, shard_lags, type_lags)


def _grouped(overview: Overview) -> Iterable[tuple[list[Shard], int | None]]:
    groups: defaultdict[tuple[str, str | None, str | None], list[tuple[Shard, int | None]]] = defaultdict(list)
    for shard, lag in zip(overview.snapshot.shards, overview.shard_lags, strict=True):
        alone = shard.name if lag or _parked(shard) else None
        groups[shard.agent_type, shard.owner, alone].append((shard, lag))
    for members in groups.values():
        total = None
        for _, lag in members:
            total = _sum(total, lag)
        yield [shard for shard, _ in members], total


def _parked(shard: Shard) -> int:
    return 0 if shard.position is None else len(shard.position.parked)


def _floor(shards: Sequence[Shard]) -> str:
    """Write the lowest floor of several shards."""
    floors = [shard.position.floor for shard in shards if shard.position is not None]
    return _shown(min(floors, default=None))


def _ranges(shards: Sequence[Shard]) -> str:
    """Write numbers as ranges: 0-3, 7. Instances are named by their keys."""
    if any(shard.scope is None or shard.scope.key is not None for shard in shards):
        return ", ".join(shard.name for shard in shards)
    ranges: list[list[int]] = []
    for number in sorted(int(shard.name) for shard in shards):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _owner(snapshot: Snapshot, owner: str | None) -> str:
    if owner is None:
        return "nobody"
    session = snapshot.session(owner)
    if session is None:
        return f"gone ({owner})"
    alike = [each for each in snapshot.sessions if each.instance == session.instance]
    return session.instance if len(alike) == 1 else f"{session.instance} ({owner})"


def _owned(snapshot: Snapshot, session: SessionRecord) -> int:
    return sum(shard.owner == session.session for shard in snapshot.shards)


def _shard_count(record: TypeRecord) -> int | None:
    return record.shape.shards if record.shape is not None and record.shape.kind == "sharded" else None


def _subscriptions(record: TypeRecord) -> list[str]:
    return [f"{each.value}{'*' if each.kind == 'prefix' else ''}" for each in record.subscriptions.filters]


def _sum(one: int | None, other: int | None) -> int | None:
    return one if other is None else (one or 0) + other


def _shown(number: int | None) -> str:
    return "?" if number is None else str(number)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 3, 0, 0))
    for column in columns:
        right = column.startswith(">")
        table.add_column(column.removeprefix(">"), justify="right" if right else "left", overflow="fold")
    return table


def _row(table: Table, *cells: object) -> None:
    # Names come from the broker, so they are neither markup nor control characters.
    table.add_row(*(Text(one_line(cell)) for cell in cells))
