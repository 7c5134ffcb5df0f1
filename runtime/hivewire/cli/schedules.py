"""`hivewire schedules`: the messages that wait for their time."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from hivewire.cli.connection import Namespace, open_namespace
from hivewire.cli.errors import CommandError, complain, one_line
from hivewire.cli.terminal import local_time, shortened, width
from hivewire.model.ids import AgentId
from hivewire.model.schedule_rules import utc_text
from hivewire.model.schedules import Schedule
from hivewire.nats.schedules import ScheduleStore

_HEAD = f"{'NEXT':19}   {'RULE':24}   ID   TARGET   MESSAGE"


def ls(*, json_lines: bool, broker: str, namespace: str, credentials: str = "") -> None:
    """Print the schedules that wait, one a line, by their next time.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace.
        HivewireError: there is no broker.
    """
    asyncio.run(_ls(json_lines, open_namespace(broker, namespace, name="schedules", credentials=credentials)))


def rm(ids: Sequence[str], *, broker: str, namespace: str, credentials: str = "") -> None:
    """Cancel schedules.

    Raises:
        UsageError: the address or the namespace is malformed.
        CommandError: there is no such namespace, or some of the schedules are not there.
        HivewireError: there is no broker.
    """
    asyncio.run(_rm(ids, open_namespace(broker, namespace, name="schedules", credentials=credentials)))


def as_line(schedule: Schedule) -> str:
    zone = f" {schedule.rule.time_zone}" if schedule.rule.time_zone else ""
    kind = "" if isinstance(schedule.target, AgentId) else "topic "
    rule = one_line(f"{schedule.rule}{zone}")
    return (
        f"{local_time(schedule.next_at.timestamp())}   {rule:24}   {shlex.quote(one_line(schedule.id))}   "
        f"{kind}{one_line(schedule.target)}   {one_line(schedule.message_type)}"
    )


def as_json(schedule: Schedule) -> dict[str, Any]:
    target = schedule.target
    return {
        "id": schedule.id,
        "next": utc_text(schedule.next_at),
        "rule": schedule.rule.to_json(),
        "agent": str(target) if isinstance(target, AgentId) else None,
        "topic": None if isinstance(target, AgentId) else target.type,
        "source": None if isinstance(target, AgentId) else target.source,
        "type": schedule.message_type,
        "sender": schedule.sender and str(schedule.sender),
    }


async def _ls(json_lines: bool, opening: AbstractAsyncContextManager[Namespace]) -> None:
    async with opening as opened:
        records, unreadable = await ScheduleStore(opened.broker, opened.subjects).all()
    for problem in unreadable:
        complain(f"the schedule {problem}")
    for number, record in enumerate(records):
        if json_lines:
            print(json.dumps(as_json(record.schedule), ensure_ascii=False))
        else:
            print(*([] if number else [_HEAD]), shortened(as_line(record.schedule), width()), sep="\n")
    if not records and not json_lines:
        print("There are no schedules.")


async def _rm(ids: Sequence[str], opening: AbstractAsyncContextManager[Namespace]) -> None:
    missing = 0
    async with opening as opened:
        store = ScheduleStore(opened.broker, opened.subjects)
        for schedule_id in ids:
            if await store.cancel(schedule_id):
                print(f"cancelled {shlex.quote(one_line(schedule_id))}", flush=True)
            else:
                complain(f"there is no schedule {one_line(schedule_id)}: `hivewire schedules ls` shows what there is")
                missing += 1
    if missing:
        raise CommandError(f"{missing} of {len(ids)} schedules were not there")
